"""The evaluation that a transform remembers, when it may be used again, and when it is to be made anew."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.distributions.transforms import Transform

from vae_flows.checks import described
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.graphs import BackwardMark
from vae_flows.tensors.inference_mode import in_inference_mode
from vae_flows.tensors.precision import full_precision
from vae_flows.transforms.records import Evaluation

__all__ = ["RememberingTransform"]


class Memory(NamedTuple):
    """The latest evaluation, and the state that everything it was made from, or made, was in afterwards."""

    evaluation: Evaluation
    differentiable: bool
    inferred: bool
    versions: tuple[int, ...]
    origins: tuple[object, ...]

    @classmethod
    def of(cls, evaluation: Evaluation, sources: Callable[[], Sequence[Tensor]]) -> Memory:
        """Remember an evaluation that was made from these tensors, beside x and y."""
        tensors = _involved(evaluation, sources)
        inferred = in_inference_mode()
        return cls(evaluation, torch.is_grad_enabled(), inferred, _versions(tensors), _origins(tensors))

    def holds(self, sources: Callable[[], Sequence[Tensor]]) -> bool:
        """Return whether an evaluation made now would give the remembered values, and the gradients wanted now."""
        if self.inferred and not in_inference_mode():
            return False  # its results may not be used where gradients are recorded, now or later
        tensors = _involved(self.evaluation, sources)
        if self.versions != _versions(tensors):
            return False
        return not torch.is_grad_enabled() or (self.differentiable and self.origins == _origins(tensors))


class RememberingTransform(Transform):
    """A transform that keeps its latest evaluation, and never gives back one that has gone stale.

    Arguments:
        cache_size: 0, to keep nothing, or 1.
    """

    def __init__(self, cache_size: int = 1) -> None:
        _require_cache_size(cache_size)
        super().__init__(cache_size=cache_size)
        self._latest: Memory | None = None
        self._mark = BackwardMark()
        self._build: Callable[[], Any] | None = None

    def with_cache(self, cache_size: int = 1) -> Self:
        """Return this transform with another cache size; the parameters are shared."""
        _require_cache_size(cache_size)
        if cache_size == self._cache_size:
            return self
        other = self._copied()
        other._cache_size = cache_size
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {
            **super().__getstate__(),
            "_latest": None,
            "_inverse_made": None,
            "_mark": BackwardMark(),
            "_build": None,
        }

    def dependencies(self) -> Sequence[Tensor]:
        """Tensors beside its attributes that may change while the transform lives, such as a network's parameters."""
        return ()

    def sources(self) -> list[Tensor]:
        """Return the tensors that evaluations are made from: attributes, alone or in sequences, and `dependencies`."""
        found = list(self.dependencies())
        for value in vars(self).values():
            if isinstance(value, Tensor):
                found.append(value)
            elif type(value) in (tuple, list):
                found.extend(part for part in value if isinstance(part, Tensor))
        return list({id(tensor): tensor for tensor in found}.values())

    def renewed_by(self, build: Callable[[], Any]) -> Self:
        """Take parameters that `build` makes anew, once a backward pass may have freed the graph of the present ones.

        Arguments:
            build: Returns a transform of the same kind and parts.
        """
        self._build = build
        return self

    def adopt(self, other: Any) -> None:
        """Take the parameters of another transform of the same kind; settings of the cache stay."""
        own = {"_latest", "_mark", "_build", "_inverse_made", "_cache_size", "_inv"}
        vars(self).update({name: value for name, value in vars(other).items() if name not in own})

    def _renew(self, z: Tensor) -> None:
        """Forget what has gone through a backward pass, where gradients may be asked for again."""
        if self._mark.passed and torch.is_grad_enabled():
            self._latest, self._mark = None, BackwardMark()
            if self._build is not None:
                with full_precision(z):
                    self.adopt(self._build())

    def _copied(self) -> Self:
        other = copy.copy(self)
        other._mark, other._build = self._mark, self._build
        return other

    def _recalled(self, x: Tensor | None = None, y: Tensor | None = None) -> Evaluation | None:
        """Return the latest evaluation if it is that of these identical tensors, and may be used again."""
        latest = self._latest
        if latest is None or (x is None and y is None) or (x is not None and x is not latest.evaluation.x):
            return None
        if y is not None and y is not latest.evaluation.y:
            return None
        return latest.evaluation if latest.holds(self.sources) else None

    def _keep(self, evaluation: Evaluation, found: Tensor) -> None:
        """Keep an evaluation in which x or y was found until a backward pass goes through it."""
        self._mark.watch(found, evaluation.log_det, evaluation.regularization)
        if self._cache_size:
            self._latest = Memory.of(evaluation, self.sources)


def _require_cache_size(cache_size: object) -> None:
    if type(cache_size) is not int or cache_size not in (0, 1):
        raise InvalidInputError(complaint("cache_size", "0 or 1", described(cache_size)))


def _involved(evaluation: Evaluation, sources: Callable[[], Sequence[Tensor]]) -> list[Tensor]:
    # A graph being compiled knows tensors only as symbols, whose changes cannot be noticed.
    return [] if torch.compiler.is_compiling() else [evaluation.x, evaluation.y, *sources()]


def _versions(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    # Inference tensors have none.
    return tuple(-1 if tensor.is_inference() else tensor._version for tensor in tensors)


def _origins(tensors: Sequence[Tensor]) -> tuple[object, ...]:
    """Return where gradients of these tensors go: into a leaf or not, and on into which node."""
    return tuple((tensor.requires_grad, tensor.grad_fn) for tensor in tensors)
