"""Differentiation in inference mode, where autograd records nothing, and of tensors that were made there.

Evaluations may need a derivative though nobody asks for gradients: a trace, a score, a step of Newton's method. In
inference mode autograd would take all derivatives for zero, and it refuses tensors made there for ever. So what needs a
derivative leaves that mode, and wherever it meets such a tensor, which may be captured in a closure, it takes a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vae_flows.tensors.known_values import functorch_is_active

__all__ = ["differentiating", "in_inference_mode", "outside_inference_mode", "recordable"]


def in_inference_mode() -> bool:
    """Return whether inference mode is on, in which no code is compiled.

    Example:
        >>> with torch.inference_mode():
        ...     in_inference_mode()
        True
    """
    return not torch.compiler.is_compiling() and torch.is_inference_mode_enabled()


def outside_inference_mode(*tensors: Tensor) -> AbstractContextManager[object]:
    """Leave inference mode for a block, in which tensors made there serve as all others do.

    Gradients stay enabled or disabled as they are. Costs nothing where there is nothing to leave.

    Arguments:
        *tensors: Those known to be used in the block, which may have been made in inference mode earlier.

    Example:
        >>> with torch.inference_mode():
        ...     x = torch.ones(2)
        ...     with outside_inference_mode(), torch.enable_grad():
        ...         y = (x * x.detach().requires_grad_()).sum()
        >>> y.requires_grad
        True
    """
    if torch.compiler.is_compiling() or functorch_is_active():
        return nullcontext()
    if torch.is_inference_mode_enabled() or any(tensor.is_inference() for tensor in tensors):
        return _ordinary_tensors()
    return nullcontext()


@contextmanager
def differentiating(*tensors: Tensor) -> Iterator[None]:
    """Enable gradients for a block, also in inference mode and of tensors made there.

    Arguments:
        *tensors: As for `outside_inference_mode`.

    Example:
        >>> with torch.inference_mode(), differentiating():
        ...     torch.ones(2, requires_grad=True).sum().requires_grad
        True
    """
    with outside_inference_mode(*tensors), torch.enable_grad():
        yield


def recordable(tensor: Tensor) -> Tensor:
    """Return the tensor, or a copy of one made in inference mode where autograd, which refuses it, is to record.

    Arguments:
        tensor: Of any shape; what was made in inference mode has no gradient to lose.

    Example:
        >>> with torch.inference_mode():
        ...     x = torch.ones(2)
        >>> recordable(x).is_inference()
        False
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or not tensor.is_inference():
        return tensor
    return tensor.clone()


@contextmanager
def _ordinary_tensors() -> Iterator[None]:
    enabled = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(enabled), _CopiesOfInferenceTensors():
        yield


class _CopiesOfInferenceTensors(TorchFunctionMode):
    """Gives functions of torch a copy of each tensor that was made in inference mode, the same one each time."""

    def __init__(self) -> None:
        super().__init__()
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}  # beside the originals, whose identities stay theirs so

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        return func(
            *map(self._ordinary, args), **{name: self._ordinary(value) for name, value in (kwargs or {}).items()}
        )

    def _ordinary(self, argument: Any) -> Any:
        if isinstance(argument, Tensor):
            if not argument.is_inference():
                return argument
            if id(argument) not in self._copies:
                self._copies[id(argument)] = argument, argument.detach().clone()
            return self._copies[id(argument)][1]
        if type(argument) in (tuple, list):
            return type(argument)(map(self._ordinary, argument))
        return argument
