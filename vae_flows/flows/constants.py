"""Fixed tensors of flows, such as masks and permutations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

__all__ = ["Constant"]


class Constant(nn.Module):
    """A fixed tensor that follows its module to other devices and dtypes and is no part of its state.

    A buffer would lose its values on the meta device, and `to_empty` and `load_state_dict` would not bring them back.

    Arguments:
        value: The tensor, made on the CPU also where another default device is set.

    Example:
        >>> with torch.device("meta"):
        ...     constant = Constant(torch.tensor([1.0, 2.0], device="cpu"))
        >>> constant.value.device, constant.to_empty(device="cpu").double().value
        (device(type='meta'), tensor([1., 2.], dtype=torch.float64))
    """

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self._source = value.to(torch.get_default_dtype())
        self.value = value.to(torch.empty(0))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self.value = self._source.to(fn(self.value))
        return self
