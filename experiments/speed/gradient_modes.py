"""Time and memory of the gradient modes against the number of steps of a solve.

In the literature backpropagation takes memory in proportion to the steps, a discrete adjoint that keeps states alone
takes that of one step and of the states, and the continuous adjoint takes none that grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.speed.competitors.roster import BASELINE
from experiments.speed.competitors.this_library import ThisLibrary
from experiments.speed.measuring import Peak, medians, peak_of_steps
from experiments.speed.problems import INTEGRATION_TIME, Problem, Size, make_problem

__all__ = ["METHOD", "MODES", "measure_mode_memory", "time_modes"]

METHOD = "rk4"
MODES: Mapping[str, Mapping[str, Any]] = {
    BASELINE: {},
    "backprop, not fused": {"fused": False},
    "recompute": {"gradient": "recompute"},
    "adjoint": {"gradient": "adjoint"},
}


def time_modes(size: Size, steps: int, rounds: int) -> dict[str, float]:
    """Return the median time of a forward and backward pass over `steps` fixed steps by each mode."""
    problem = make_problem(size)
    return medians({mode: _competitor(problem, mode, steps).step for mode in MODES}, rounds)


def measure_mode_memory(size: Size, mode: str, steps: int) -> Peak:
    """Measure the peak memory of a mode; to be called in a process of its own."""
    return peak_of_steps(lambda: _competitor(make_problem(size), mode, steps))


def _competitor(problem: Problem, mode: str, steps: int) -> ThisLibrary:
    fixed: Mapping[str, Any] = {"options": {"step_size": INTEGRATION_TIME / steps}, "max_evaluations": 100 * steps}
    return ThisLibrary(problem, method=METHOD, **fixed, **MODES[mode])
