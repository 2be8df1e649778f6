"""Time in interleaved rounds, peak memory, and distance from the reference."""

from __future__ import annotations

import ctypes
import gc
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from experiments.speed.competitors import BASELINE, Competitor, Entry, Ours, Outcome, entries_for, reference
from experiments.speed.problems import TINY_SIZES, Problem, Size, make_problem, multiply_adds
from experiments.speed.records import Measurement, SizeResult

__all__ = [
    "Peak",
    "errors_between",
    "first_step",
    "interleave",
    "measure_memory",
    "peak_bytes",
    "peak_of_steps",
    "time_size",
]

MATMUL_WIDTH = 2048
_MEMORY_STEPS = 2
_STAGES = 6
"""Evaluations of a Dormand-Prince step that its end depends on."""


def interleave(
    steps: Mapping[str, Callable[[], object]],
    rounds: int,
    limits: Mapping[str, int | None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, tuple[float, ...]]:
    """Time steps in turn, A B C, A B C, …, so that what changes on the machine meets all of them alike.

    Each timed step follows one of its own that is not timed, unless it is limited, for then it is long: memory and
    caches are those of a loop that repeats the step, as training does, and not what the others have left.

    Arguments:
        steps: What to time, by name.
        rounds: How often.
        limits: Rounds after which a step takes no more part.
        clock: Tells seconds.

    Example:
        >>> ticks = iter(range(100))
        >>> interleave({"a": list, "b": list}, 2, {"b": 1}, clock=lambda: next(ticks))
        {'a': (1, 1), 'b': (1,)}
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    with _no_collection():
        for number in range(rounds):
            for name, step in steps.items():
                limit = (limits or {}).get(name)
                if limit is None:
                    step()
                if limit is None or number < limit:
                    start = clock()
                    step()
                    seconds[name].append(clock() - start)
    return {name: tuple(times) for name, times in seconds.items()}


def time_size(size: Size, rounds: int) -> SizeResult:
    """Time all competitors of a size, and check what they compute.

    Arguments:
        size: The size.
        rounds: Interleaved rounds, after a first step of everyone that is not counted.
    """
    problem = make_problem(size)
    references: dict[str, Outcome] = {}
    competitors, measurements = {}, {}
    for name, entry in entries_for(size).items():
        competitor, measurements[name] = first_step(entry, problem, references)
        if competitor is not None:
            competitors[name] = competitor
    left, right = torch.randn(2, MATMUL_WIDTH, MATMUL_WIDTH)
    steps = {"matmul": lambda: left @ right, **{name: competitor.step for name, competitor in competitors.items()}}
    steps["matmul"]()
    seconds = interleave(steps, rounds, {name: entry.max_rounds for name, entry in entries_for(size).items()})
    rates = tuple(MATMUL_WIDTH**3 / taken for taken in seconds.pop("matmul"))
    measured = tuple(replace(entry, seconds=seconds.get(name, ())) for name, entry in measurements.items())
    baseline = competitors.get(BASELINE)
    needed = _needed_multiply_adds(size, baseline) if isinstance(baseline, Ours) else None
    return SizeResult(size.name, measured, needed, rates)


def measure_memory(size: Size, name: str) -> Measurement:
    """Measure the peak memory of one competitor; to be called in a process of its own.

    Arguments:
        size: The size.
        name: Name of the competitor.
    """
    entry = entries_for(size)[name]
    if missing := entry.missing():
        return Measurement(name, _not_installed(missing))
    peak = peak_of_steps(lambda: entry.build(make_problem(size)))
    return Measurement(name, step_bytes=peak.step_bytes, process_bytes=peak.process_bytes)


class Peak(NamedTuple):
    """Peak memory of some steps: above what was held before them, and of the whole process."""

    step_bytes: int
    process_bytes: int


def peak_of_steps(build: Callable[[], Competitor]) -> Peak:
    """Build a competitor and return the peak memory of its steps; to be called in a process of its own."""
    # What PyTorch takes at its first use is not the step's.
    Ours(make_problem(TINY_SIZES[0])).step()
    competitor = build()
    gc.collect()
    _give_back_free_memory()
    _forget_peak()
    before = peak_bytes()
    for _ in range(_MEMORY_STEPS):
        competitor.step()
    peak = peak_bytes()
    return Peak(peak - before, peak)


def errors_between(outcome: Outcome, truth: Outcome) -> dict[str, float]:
    """Return relative distances of the values, and of the gradients by group.

    Arguments:
        outcome: Of a competitor.
        truth: Of the reference.

    Example:
        >>> a, b = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])
        >>> values, gradients = {"end": a, "log_det": a}, {"head 0 bias": b, "head 1 bias": a}
        >>> errors_between(Outcome(values, gradients, 1, 1), Outcome(values, {name: a for name in gradients}, 1, 1))
        {'end': 0.0, 'log_det': 0.0, 'head': 0.0707...}
    """
    found = {**outcome.values, **outcome.gradients}
    squares: dict[str, tuple[float, float]] = {}
    for name, expected in {**truth.values, **truth.gradients}.items():
        group = name.split()[0]
        distance, size = squares.get(group, (0.0, 0.0))
        difference = found[name].double() - expected
        squares[group] = distance + float(difference.square().sum()), size + float(expected.square().sum())
    return {group: math.sqrt(distance / size) for group, (distance, size) in squares.items()}


def peak_bytes() -> int:
    """Return the largest memory that this process has held; on Linux since the last `_forget_peak`."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _give_back_free_memory() -> None:
    """Return what the set-up has freed to the system, lest a step takes it without being seen."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _forget_peak() -> None:
    """Have the kernel count the peak from now on, where it can: compiling may have taken more than a step will."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def first_step(entry: Entry, problem: Problem, references: dict[str, Outcome]) -> tuple[Competitor | None, Measurement]:
    """Build a competitor and let it make a first step; whatever fails is told in its measurement."""
    if missing := entry.missing():
        return None, Measurement(entry.name, _not_installed(missing))
    try:
        competitor = entry.build(problem)
        competitor.step()
        outcome = competitor.outcome()
    except Exception as error:
        return None, Measurement(entry.name, f"failed: {type(error).__name__}: {error}")
    errors = {}
    if entry.divergence is not None:
        if entry.divergence not in references:
            references[entry.divergence] = reference(problem, entry.divergence)
        errors = errors_between(outcome, references[entry.divergence])
    counts = {"forward_evaluations": outcome.forward_evaluations, "backward_evaluations": outcome.backward_evaluations}
    return competitor, Measurement(entry.name, **counts, errors=errors)


def _needed_multiply_adds(size: Size, baseline: Ours) -> int:
    work = baseline.work()
    return multiply_adds(size, work.forward_evaluations, _STAGES * work.accepted_steps)


def _not_installed(packages: list[str]) -> str:
    return f"not installed: {', '.join(packages)}"


@contextmanager
def _no_collection() -> Iterator[None]:
    """Collect garbage now and not in between."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
