"""Time and memory of the gradient modes against the number of steps of a solve.

In the literature backpropagation takes memory in proportion to the steps, a discrete adjoint that keeps states alone
takes that of one step and of the states, and the continuous adjoint takes none that grows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from experiments.speed.competitors import BASELINE, Ours
from experiments.speed.measure import interleave, peak_of_steps
from experiments.speed.problems import INTEGRATION_TIME, Problem, Size, make_problem
from experiments.speed.records import StepsPoint
from vae_flows.cnf import ODESolver

__all__ = ["METHOD", "MODES", "growth", "measure_steps_memory", "measure_steps_time"]

METHOD = "rk4"
MODES: Mapping[str, Mapping[str, Any]] = {
    BASELINE: {},
    "backprop, not fused": {"fused": False},
    "recompute": {"gradient": "recompute"},
    "adjoint": {"gradient": "adjoint"},
}


def measure_steps_time(size: Size, steps: int, *, rounds: int) -> dict[str, float]:
    """Return the median time of a forward and backward pass over `steps` fixed steps by each mode.

    Arguments:
        size: The size.
        steps: Steps of the solve.
        rounds: Interleaved rounds, after one that is not counted.
    """
    problem = make_problem(size)
    competitors = {mode: _competitor(problem, mode, steps) for mode in MODES}
    seconds = interleave({mode: competitor.step for mode, competitor in competitors.items()}, rounds + 1)
    return {mode: median(times[1:]) for mode, times in seconds.items()}


def measure_steps_memory(size: Size, mode: str, steps: int) -> int:
    """Return the peak memory of a mode above what was held before, in bytes; to be called in a process of its own."""
    return peak_of_steps(lambda: _competitor(make_problem(size), mode, steps)).step_bytes


def growth(points: Sequence[StepsPoint], mode: str) -> float | None:
    """Return the bytes that each further step takes, between the fewest and the most steps.

    Example:
        >>> growth([StepsPoint("a", 10, 1.0, 500), StepsPoint("a", 20, 2.0, 700)], "a")
        20.0
    """
    known = sorted((point.steps, point.step_bytes) for point in points if point.mode == mode and point.step_bytes)
    if len(known) < 2:
        return None
    (fewest, least), (most, largest) = known[0], known[-1]
    return (largest - least) / (most - fewest)


def _competitor(problem: Problem, mode: str, steps: int) -> Ours:
    solver = ODESolver(
        method=METHOD, options={"step_size": INTEGRATION_TIME / steps}, max_evaluations=100 * steps, **MODES[mode]
    )
    return Ours(problem, solver)
