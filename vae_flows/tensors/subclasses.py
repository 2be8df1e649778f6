"""Tensors of other classes, such as those by which Pyro tracks where values come from.

A class overrides the functions of torch by `__torch_function__`, but not autograd functions written in Python, whose
graph then hangs on a wrapper that the next operation drops, and not what is written in place. So a solve is made with
plain tensors, and its results are handed back through the same protocol, as those of one function of all that went in.
That needs no library to be known by name.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["is_plain", "plain", "tracked"]

_LEFT_ALONE = (Tensor, nn.Parameter)


def is_plain(tensor: Tensor) -> bool:
    """Return whether functions of torch take the tensor as it is."""
    kind = type(tensor)
    return kind in _LEFT_ALONE or kind.__torch_function__ is torch._C._disabled_torch_function_impl


def plain(tensor: Tensor) -> Tensor:
    """Return the tensor as a function of torch would see it: the same values and graph, without its class.

    Example:
        >>> class Named(Tensor): ...
        >>> type(plain(torch.zeros(2).as_subclass(Named)))
        <class 'torch.Tensor'>
    """
    if is_plain(tensor):
        return tensor
    seen: list[Tensor] = []

    def see(argument: Tensor) -> None:
        seen.append(argument)

    type(tensor).__torch_function__(see, (type(tensor),), (tensor,), {})
    (found,) = seen
    # By default a class sees itself.
    return found if is_plain(found) else found.as_subclass(Tensor)


def tracked(result: Tensor, origins: Iterable[Tensor]) -> Tensor:
    """Return `result` as the classes of the tensors that it was computed from would have it.

    Example:
        >>> class Named(Tensor): ...
        >>> type(tracked(torch.zeros(2), [torch.ones(2), torch.ones(3).as_subclass(Named)]))
        <class '...Named'>
    """
    for origin in origins:
        if not is_plain(origin):
            result = type(origin).__torch_function__(lambda _, result=result: result, (type(origin),), (origin,), {})
    return result
