"""Modules as they stand: training or evaluating, on which device and of which floating-point type."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["in_mode", "placement"]


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
