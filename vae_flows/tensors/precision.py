"""Floating-point types: densities are computed in that of the parameters, whatever mixed precision is about."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from vae_flows.errors import InvalidInputError, complaint

__all__ = ["at_least_single", "full_precision", "in_own_type", "or_double"]


def at_least_single(tensor: Tensor) -> Tensor:
    """Return the tensor in float32 where it has 16 bits: sums, solves and logarithms need more.

    Example:
        >>> at_least_single(torch.ones(2, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Suspend automatic mixed precision: log-densities summed in 16 bits are off by tenths of a nat.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16), full_precision(torch.ones(2)):
        ...     (torch.ones(1, 2) @ torch.ones(2, 1)).dtype
        torch.float32
    """
    # The meta device, which has no numbers, has no mixed precision either.
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)


def in_own_type(subject: str, tensor: Tensor, own: torch.dtype) -> Tensor:
    """Return a tensor in the floating-point type `own`, in which its numbers have to be exact.

    Raises:
        InvalidInputError: They are not; the message begins with `subject`.

    Example:
        >>> in_own_type("latents", torch.zeros(2, dtype=torch.bfloat16), torch.float32).dtype
        torch.float32
    """
    if tensor.dtype != own and torch.promote_types(tensor.dtype, own) != own:
        remedy = "Convert the tensor, or the module by .to(dtype)."
        raise InvalidInputError(complaint(subject, f"at most {own}", tensor.dtype, remedy))
    return tensor.to(own)


def or_double(dtype: torch.dtype) -> str:
    """Return the advice to use float64, where that is not what is in use already.

    Example:
        >>> or_double(torch.float32), or_double(torch.float64)
        (', or use float64', '')
    """
    return "" if dtype == torch.float64 else ", or use float64"
