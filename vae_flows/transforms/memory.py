"""The evaluation that a transform remembers, and when it may be used again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vae_flows.transforms.records import Evaluation

__all__ = ["Memory"]


class Memory(NamedTuple):
    """The latest evaluation, and the state that everything it was made from, or made, was in afterwards."""

    evaluation: Evaluation
    differentiable: bool
    versions: tuple[int, ...]
    origins: tuple[object, ...]

    @classmethod
    def of(cls, evaluation: Evaluation, sources: Callable[[], Sequence[Tensor]]) -> Memory:
        """Remember an evaluation that was made from these tensors, beside x and y."""
        tensors = _involved(evaluation, sources)
        return cls(evaluation, torch.is_grad_enabled(), _versions(tensors), _origins(tensors))

    def holds(self, sources: Callable[[], Sequence[Tensor]]) -> bool:
        """Return whether an evaluation made now would give the remembered values, and the gradients wanted now."""
        tensors = _involved(self.evaluation, sources)
        if self.versions != _versions(tensors):
            return False
        return not torch.is_grad_enabled() or (self.differentiable and self.origins == _origins(tensors))


def _involved(evaluation: Evaluation, sources: Callable[[], Sequence[Tensor]]) -> list[Tensor]:
    # A graph being compiled knows tensors only as symbols, whose changes cannot be noticed.
    return [] if torch.compiler.is_compiling() else [evaluation.x, evaluation.y, *sources()]


def _versions(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    # Inference tensors have none.
    return tuple(-1 if tensor.is_inference() else tensor._version for tensor in tensors)


def _origins(tensors: Sequence[Tensor]) -> tuple[object, ...]:
    """Return where gradients of these tensors go: into a leaf or not, and on into which node."""
    return tuple((tensor.requires_grad, tensor.grad_fn) for tensor in tensors)
