"""Which values Python may look at under `torch.compile`, `torch.func` and traces."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["all_finite", "functorch_is_active", "known"]


def known(condition: Tensor) -> bool | None:
    """Return whether `condition` holds everywhere; `None` where Python may not look at values.

    These places are `torch.compile` and `torch.func.vmap`: iterations take a fixed number of steps there, and checks of
    values are left out.

    Example:
        >>> known(torch.ones(3) > 0)
        True
        >>> torch.func.vmap(lambda x: x * (known(x > 0) is None))(torch.ones(3))
        tensor([1., 1., 1.])
    """
    if torch.compiler.is_compiling():
        return None
    try:
        return bool(condition.all())
    except RuntimeError:  # what vmap raises, which has no public way to ask for it
        return None


def all_finite(*tensors: Tensor) -> bool | None:
    """Return whether all numbers are finite, by one reduction of each tensor; `None` where Python may not look.

    These places are those of `known`, and `torch.jit.trace`, the meta device and the capture of CUDA graphs.

    Example:
        >>> all_finite(torch.ones(3)), all_finite(torch.ones(3), torch.tensor(float("nan")))
        (True, False)
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return None
    if any(tensor.is_meta or (tensor.is_cuda and torch.cuda.is_current_stream_capturing()) for tensor in tensors):
        return None
    try:
        # NaN and infinity never leave a sum, which is the cheapest reduction; where it overflows, each number is asked.
        return all(
            math.isfinite(tensor.detach().sum().item()) or bool(tensor.detach().isfinite().all()) for tensor in tensors
        )
    except RuntimeError:  # what vmap raises
        return None


def functorch_is_active() -> bool:
    """Return whether a transform of `torch.func` is running: hand-written backward passes are unknown to it."""
    return torch._C._are_functorch_transforms_active()
