"""Competitors that meet in one problem: time, memory, and distance from the reference."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch

from experiments.speed.competitors.competitor import Competitor, Entrant, Outcome
from experiments.speed.competitors.roster import BASELINE, entrants_at, modes_over
from experiments.speed.competitors.this_library import ThisLibrary, reference
from experiments.speed.measuring import Peak, interleave, peak_of_steps
from experiments.speed.problems import Size, make_problem
from experiments.speed.speed_records import Measurement, SizeResult

__all__ = ["Meeting", "errors_between", "first_step", "measure_memory", "meeting_at", "modes_at", "time_meeting"]

_MATMUL_WIDTH = 2048


@dataclass(frozen=True)
class Meeting:
    """A problem and those who compute it; by functions of modules, for it is sent to other processes.

    Arguments:
        name: Title of its table.
        make_problem: Makes the problem, the same one every time.
        make_entrants: Returns those that take part, by name.
        reference: Returns the outcome for a problem and the divergence of an entrant, with which it must agree.
    """

    name: str
    make_problem: Callable[[], Any]
    make_entrants: Callable[[], Mapping[str, Entrant]]
    reference: Callable[[Any, str], Outcome]


def meeting_at(size: Size) -> Meeting:
    """Return the meeting in the problem of a size."""
    return Meeting(size.name, partial(make_problem, size), partial(entrants_at, size), reference)


def modes_at(size: Size, steps: int) -> Meeting:
    """Return the meeting of this library's gradient modes over a number of fixed steps."""
    return Meeting(
        f"gradient modes over {steps} steps", partial(make_problem, size), partial(modes_over, steps), reference
    )


def time_meeting(meeting: Meeting, rounds: int) -> SizeResult:
    """Time all competitors in interleaved rounds, and check what they compute."""
    problem, entrants = meeting.make_problem(), meeting.make_entrants()
    truth = cache(partial(meeting.reference, problem))
    met = [first_step(entrant, problem, truth) for entrant in entrants.values()]
    competitors = {measurement.competitor: competitor for competitor, measurement in met if competitor is not None}
    left, right = torch.randn(2, _MATMUL_WIDTH, _MATMUL_WIDTH)
    steps = {"matmul": lambda: left @ right, **{name: competitor.step for name, competitor in competitors.items()}}
    seconds = interleave(steps, rounds, {name: entrant.max_rounds for name, entrant in entrants.items()})
    baseline = competitors.get(BASELINE)
    return SizeResult(
        meeting.name,
        tuple(replace(measured, seconds=tuple(seconds.get(measured.competitor, ()))) for _, measured in met),
        baseline.multiply_adds() if isinstance(baseline, ThisLibrary) else None,
        tuple(_MATMUL_WIDTH**3 / taken for taken in seconds["matmul"]),
    )


def measure_memory(meeting: Meeting, name: str) -> Peak:
    """Measure the peak memory of one competitor; to be called in a process of its own."""
    return peak_of_steps(lambda: meeting.make_entrants()[name].build(meeting.make_problem()))


def first_step(
    entrant: Entrant, problem: Any, truth: Callable[[str], Outcome]
) -> tuple[Competitor | None, Measurement]:
    """Build a competitor and let it make a first step; whatever fails is told in its measurement.

    Arguments:
        entrant: The competitor to build.
        problem: What it is built for.
        truth: Gives the outcome with which it must agree, by the divergence of the entrant.
    """
    if entrant.missing:
        return None, Measurement(entrant.name, entrant.missing)
    try:
        start = time.perf_counter()
        competitor = entrant.build(problem)
        competitor.step()
        seconds = time.perf_counter() - start
        outcome = competitor.outcome()
    except Exception as error:
        return None, Measurement(entrant.name, f"failed: {type(error).__name__}: {error}")
    errors = {} if entrant.divergence is None else errors_between(outcome, truth(entrant.divergence))
    forward, backward = outcome.forward_evaluations, outcome.backward_evaluations
    return competitor, Measurement(
        entrant.name,
        first_seconds=seconds,
        forward_evaluations=forward,
        backward_evaluations=backward,
        errors=errors,
    )


def errors_between(outcome: Outcome, truth: Outcome) -> dict[str, float]:
    """Return relative distances of the values, and of the gradients by the first word of their names.

    Example:
        >>> a, b = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])
        >>> values, gradients = {"end": a, "log_det": a}, {"head 0 bias": b, "head 1 bias": a}
        >>> errors_between(Outcome(values, gradients, 1, 1), Outcome(values, {name: a for name in gradients}, 1, 1))
        {'end': 0.0, 'log_det': 0.0, 'head': 0.0707...}
    """
    found = {**outcome.values, **outcome.gradients}
    squares: dict[str, list[float]] = {}
    for name, expected in {**truth.values, **truth.gradients}.items():
        group = squares.setdefault(name.split()[0], [0.0, 0.0])
        group[0] += float((found[name].double() - expected).square().sum())
        group[1] += float(expected.square().sum())
    return {name: math.sqrt(distance / size) for name, (distance, size) in squares.items()}
