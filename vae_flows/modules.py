"""Modules as they stand: training or evaluating, on which device, of which type, and with which tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

__all__ = ["bound", "in_mode", "placement"]

Module = TypeVar("Module", bound=nn.Module)


@contextmanager
def in_mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Put a module in training or evaluation mode for a block, and every part of it back in its own mode afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def placement(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return the device and floating-point type of a module's parameters, which its images must share.

    A module without parameters has those of its buffers, or else those that torch makes tensors with.

    Example:
        >>> placement(nn.Linear(2, 2).double())
        (device(type='cpu'), torch.float64)
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    made = torch.empty(0)  # torch.get_default_device of older releases passes over `with torch.device(…)`
    return made.device, made.dtype


def bound(module: Module) -> Module:
    """Return a view of a module that keeps the tensors that the module has now.

    `torch.func.functional_call` lends a module other parameters while it is called, and a transform outlives the call
    that made it. The tensors are shared, not copied: what an optimiser does to them in place is seen.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> view = bound(layer)
        >>> layer.weight = nn.Parameter(torch.zeros(1, 1))
        >>> bool(view.weight == 0)
        False
    """
    view = object.__new__(type(module))  # copy.copy would do it as well, were it not for torch.compile
    children = {name: None if child is None else bound(child) for name, child in module._modules.items()}
    vars(view).update(
        vars(module), _parameters=dict(module._parameters), _buffers=dict(module._buffers), _modules=children
    )
    return view
