"""What a competitor is, and what its step computes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from experiments.speed.problems import Pass

__all__ = ["Competitor", "Entrant", "Outcome", "TorchCompetitor"]


class Outcome(NamedTuple):
    """What a step computed."""

    values: Mapping[str, Tensor]  # `end (N, D)` and `log_det (N,)`
    gradients: Mapping[str, Tensor]  # of `context`, `start` and the weights
    forward_evaluations: int | None  # `None` where there are no dynamics
    backward_evaluations: int | None  # where the competitor tells


class Competitor(ABC):
    """One way to compute a problem."""

    @abstractmethod
    def step(self) -> None:
        """Make one forward and backward pass, with gradients that start from nothing."""

    @abstractmethod
    def outcome(self) -> Outcome:
        """Return what the last step computed."""


class TorchCompetitor(Competitor):
    """A competitor whose gradients PyTorch collects in leaves.

    Arguments:
        inputs: What goes in, and the cotangents of what comes out.
        weights: The leaves beside context and start, by name.
        num_blocks: Flows in sequence.
    """

    def __init__(self, inputs: Pass, weights: Mapping[str, Tensor], num_blocks: int = 1) -> None:
        self._inputs = inputs
        self._num_blocks = num_blocks
        differentiated = {"context": inputs.context, "start": inputs.start}
        self._leaves = {name: tensor.clone().requires_grad_() for name, tensor in differentiated.items()} | {**weights}
        self._values: dict[str, Tensor] = {}
        self._evaluations = 0, 0

    @abstractmethod
    def solve(self, block: int, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return where one flow takes `z (N, D)`, and its log-determinant `(N,)`."""

    @abstractmethod
    def count(self) -> int:
        """Return a count of evaluations of the dynamics that rises throughout a step."""

    def step(self) -> None:
        for leaf in self._leaves.values():
            leaf.grad = None
        before = self.count()
        end, log_det = self._leaves["start"], torch.zeros_like(self._inputs.of_log_det)
        for block in range(self._num_blocks):
            end, change = self.solve(block, end, self._leaves["context"])
            log_det = log_det + change
        between = self.count()
        torch.autograd.backward((end, log_det), (self._inputs.of_end, self._inputs.of_log_det))
        self._values = {"end": end.detach(), "log_det": log_det.detach()}
        self._evaluations = between - before, self.count() - between

    def outcome(self) -> Outcome:
        gradients = {name: cast(Tensor, leaf.grad).clone() for name, leaf in self._leaves.items()}
        return Outcome(self._values, gradients, *self._evaluations)


@dataclass(frozen=True)
class Entrant:
    """A competitor before it is built.

    Arguments:
        name: What it is called.
        build: Makes it for a problem, everything compiled and in place.
        packages: What must be installed beside this library.
        divergence: The trace of the reference with which it must agree; `None` for dynamics of its own.
        max_rounds: Rounds in which it takes part at most.
    """

    name: str
    build: Callable[[Any], Competitor]
    packages: tuple[str, ...] = ()
    divergence: str | None = "hutchinson"
    max_rounds: int | None = None

    @property
    def missing(self) -> str:
        """What is not installed, in words; empty where nothing is missing."""
        absent = [package for package in self.packages if find_spec(package) is None]
        return f"not installed: {', '.join(absent)}" if absent else ""
