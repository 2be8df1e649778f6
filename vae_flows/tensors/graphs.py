"""Graphs that a backward pass may have freed."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_flows.tensors.known_values import functorch_is_active

__all__ = ["BackwardMark"]


class BackwardMark:
    """Notes that a backward pass has gone through tensors, whose graph cannot serve another one then.

    Example:
        >>> mark, x = BackwardMark(), torch.ones(2, requires_grad=True)
        >>> y = x.exp()
        >>> mark.watch(y)
        >>> y.sum().backward()
        >>> mark.passed
        True
    """

    def __init__(self) -> None:
        self.passed = False

    def watch(self, *tensors: Tensor | None) -> None:
        """Note backward passes through these tensors; those without a graph have none."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or functorch_is_active():
            return
        for tensor in tensors:
            if tensor is not None and tensor.grad_fn is not None:
                tensor.grad_fn.register_prehook(self._note)

    def _note(self, gradients: object) -> None:
        del gradients
        self.passed = True
