"""The competitors: who they are, where each takes part, and this library's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple, cast

import torch
from torch import Tensor

from experiments.speed.problems import INTEGRATION_TIME, TOLERANCE, Problem, Size, named_weights
from vae_flows.cnf import ContinuousTransform, MLPDynamics, ODESolver, WorkCount

__all__ = [
    "BASELINE",
    "DIFFRAX",
    "EXACT",
    "PUBLISHED",
    "ZUKO",
    "Competitor",
    "Entry",
    "Ours",
    "Outcome",
    "TorchCompetitor",
    "entries_for",
    "reference",
]

BASELINE, EXACT, PUBLISHED, ZUKO, DIFFRAX = (
    "backprop",
    "backprop, exact trace",
    "published formulation",
    "zuko",
    "diffrax",
)
_REFERENCE_TOLERANCE = 1e-8
_LEFT_TO_TORCHDIFFEQ = {"min_step": 0.0}
"""An option of torchdiffeq's alone, its default: the same dynamics and divergence, stepped by torchdiffeq."""


class Outcome(NamedTuple):
    """What a step computed.

    Arguments:
        values: `end (N, D)` and `log_det (N,)`.
        gradients: Those of `context`, `start` and the weights, by name.
        forward_evaluations: Evaluations of the dynamics in the forward solve.
        backward_evaluations: Evaluations in the backward pass, `None` where the competitor does not tell.
    """

    values: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    forward_evaluations: int
    backward_evaluations: int | None


class Competitor(ABC):
    """One way to compute a `Problem`."""

    @abstractmethod
    def step(self) -> None:
        """Make one forward and backward pass, with gradients that start from nothing."""

    @abstractmethod
    def outcome(self) -> Outcome:
        """Return what the last step computed."""


class TorchCompetitor(Competitor):
    """A competitor whose gradients PyTorch collects in leaves.

    Arguments:
        problem: What is computed.
        weights: The leaves beside context and start, by name.
    """

    def __init__(self, problem: Problem, weights: Mapping[str, Tensor]) -> None:
        self.problem = problem
        self.context = problem.context.clone().requires_grad_()
        self.start = problem.start.clone().requires_grad_()
        self._leaves = {"context": self.context, "start": self.start, **weights}
        self._values: dict[str, Tensor] = {}

    @abstractmethod
    def forward(self) -> tuple[Tensor, Tensor]:
        """Return z(T) and the log-determinant."""

    @abstractmethod
    def evaluations(self) -> tuple[int, int]:
        """Return the evaluations of the last step, forward and backward."""

    def step(self) -> None:
        for leaf in self._leaves.values():
            leaf.grad = None
        end, log_det = self.forward()
        torch.autograd.backward((end, log_det), (self.problem.of_end, self.problem.of_log_det))
        self._values = {"end": end.detach(), "log_det": log_det.detach()}

    def outcome(self) -> Outcome:
        gradients = {name: cast(Tensor, leaf.grad).clone() for name, leaf in self._leaves.items()}
        return Outcome(self._values, gradients, *self.evaluations())


class Ours(TorchCompetitor):
    """This library.

    Arguments:
        problem: What is computed.
        solver: Settings of the solve; `None` for the library's, at the problem's tolerance.
        divergence: `hutchinson` or `exact`.
    """

    def __init__(self, problem: Problem, solver: ODESolver | None = None, divergence: str = "hutchinson") -> None:
        super().__init__(problem, named_weights(problem.blocks()))
        self._solver = solver or ODESolver(rtol=TOLERANCE, atol=TOLERANCE)
        self._divergence = divergence
        self._work: list[WorkCount] = []

    def forward(self) -> tuple[Tensor, Tensor]:
        flow = self.problem.flow.cnf
        self._work = []
        z, total = self.start, torch.zeros_like(self.problem.of_log_det)
        for dynamics, amortization, probe in zip(flow.dynamics, flow.amortizations, self.problem.probes, strict=True):
            updates = amortization(self.context)
            transform = ContinuousTransform(
                cast(MLPDynamics, dynamics).condition(updates, self.context.shape[:-1]),
                integration_time=INTEGRATION_TIME,
                divergence=self._divergence,
                solver=self._solver,
                probes=probe.unsqueeze(0),
                on_solve=self._work.append,
            )
            z, log_det = transform.forward_with_log_det(z)
            total = total + log_det
        return z, total

    def work(self) -> WorkCount:
        """Return the work of the last step, of all blocks together."""
        return WorkCount.total(self._work)

    def evaluations(self) -> tuple[int, int]:
        work = self.work()
        return work.forward_evaluations, work.backward_evaluations


@dataclass(frozen=True)
class Entry:
    """A competitor before it is built.

    Arguments:
        name: What it is called.
        build: Makes it for a problem, everything compiled and in place.
        packages: What must be installed beside this library.
        divergence: The reference with which it must agree; `None` for dynamics of its own.
        max_rounds: Rounds in which it takes part at most.
    """

    name: str
    build: Callable[[Problem], Competitor]
    packages: tuple[str, ...] = ()
    divergence: str | None = "hutchinson"
    max_rounds: int | None = None

    def missing(self) -> list[str]:
        """Return the packages that are not installed."""
        return [package for package in self.packages if find_spec(package) is None]


def entries_for(size: Size) -> dict[str, Entry]:
    """Return the competitors that take part at this size, by name."""
    shared_weights = size.amortization != "low_rank"
    entries = [
        (True, Entry(BASELINE, Ours)),
        (True, Entry("backprop, not fused", _ours(fused=False))),
        (True, Entry("recompute", _ours(gradient="recompute"))),
        (True, Entry("adjoint", _ours(gradient="adjoint"))),
        (shared_weights, Entry(EXACT, partial(Ours, divergence="exact"), divergence="exact")),
        (True, Entry("backprop, torchdiffeq", _ours(options=_LEFT_TO_TORCHDIFFEQ))),
        (
            shared_weights or size.with_published,
            Entry("adjoint, torchdiffeq", _ours(gradient="adjoint", options=_LEFT_TO_TORCHDIFFEQ), max_rounds=2),
        ),
        (size.with_published, Entry(PUBLISHED, _published, max_rounds=2)),
        (True, Entry(ZUKO, _zuko, packages=("zuko",), divergence=None)),
        (size.amortization != "concat", Entry(DIFFRAX, _diffrax, packages=("jax", "diffrax"))),
    ]
    return {entry.name: entry for takes_part, entry in entries if takes_part}


def reference(problem: Problem, divergence: str) -> Outcome:
    """Solve a problem in double precision at a tolerance beside which the others' is large."""
    solver = ODESolver(rtol=_REFERENCE_TOLERANCE, atol=_REFERENCE_TOLERANCE, gradient="recompute")
    competitor = Ours(problem.double(), solver, divergence)
    competitor.step()
    return competitor.outcome()


def _ours(**changes: object) -> Callable[[Problem], Competitor]:
    solver = replace(ODESolver(rtol=TOLERANCE, atol=TOLERANCE), **changes)
    return partial(Ours, solver=solver)


def _published(problem: Problem) -> Competitor:
    from experiments.speed.published import Published

    return Published(problem)


def _zuko(problem: Problem) -> Competitor:
    from experiments.speed.zuko_peer import ZukoPeer

    return ZukoPeer(problem)


def _diffrax(problem: Problem) -> Competitor:
    from experiments.speed.diffrax_peer import DiffraxPeer

    return DiffraxPeer(problem)
