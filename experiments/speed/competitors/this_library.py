"""This library, by any of its gradient modes and divergences, and the reference for all with the same dynamics."""

from __future__ import annotations

import warnings
from typing import Any, cast

from torch import Tensor

from experiments.speed.competitors.competitor import Outcome, TorchCompetitor
from experiments.speed.problems import INTEGRATION_TIME, TOLERANCE, Problem
from vae_flows.cnf import CompilationWarning, ContinuousTransform, MLPDynamics, ODESolver, WorkCount, WorkMeter

__all__ = ["ThisLibrary", "reference"]

_REFERENCE_TOLERANCE = 1e-8
_STAGES = 6
"""Evaluations of a Dormand-Prince step that its end depends on."""


class ThisLibrary(TorchCompetitor):
    """This library.

    Arguments:
        problem: What is computed.
        divergence: `hutchinson` or `exact`.
        solver: Settings of the solve; with a method of another name than the default's, its accuracy too.
    """

    def __init__(self, problem: Problem, divergence: str = "hutchinson", **solver: Any) -> None:
        super().__init__(problem, problem.weights(), problem.size.num_blocks)
        self._problem = problem
        self._divergence = divergence
        tolerances = {} if "method" in solver else {"rtol": TOLERANCE, "atol": TOLERANCE}
        self._solver = ODESolver(**{**tolerances, **solver})
        self._meters: list[WorkMeter] = []

    def solve(self, block: int, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        flow = self._problem.flow.cnf
        updates = flow.amortizations[block](context)
        probes = self._problem.probes[block].unsqueeze(0) if self._divergence == "hutchinson" else None
        transform = ContinuousTransform(
            cast(MLPDynamics, flow.dynamics[block]).condition(updates, context.shape[:-1]),
            integration_time=INTEGRATION_TIME,
            divergence=self._divergence,
            solver=self._solver,
            probes=probes,
            on_solve=self._meters.append,
        )
        return transform.forward_with_log_det(z)

    def step(self) -> None:
        self._meters.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("error", CompilationWarning)  # times of what goes on uncompiled are another's
            super().step()

    def count(self) -> int:
        return sum(meter.forward_evaluations + meter.backward_evaluations for meter in self._meters)

    def multiply_adds(self) -> int:
        """Return those that the last step cannot do without."""
        work = WorkCount.total(meter.read() for meter in self._meters)
        return self._problem.size.multiply_adds(work.forward_evaluations, _STAGES * work.accepted_steps)


def reference(problem: Problem, divergence: str) -> Outcome:
    """Solve a problem in double precision at a tolerance beside which the others' is large."""
    tolerance = _REFERENCE_TOLERANCE
    competitor = ThisLibrary(problem.double(), divergence, rtol=tolerance, atol=tolerance, gradient="recompute")
    competitor.step()
    return competitor.outcome()
