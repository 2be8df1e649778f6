"""Time of steps in interleaved rounds, and the peak memory of a competitor's steps."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from experiments.speed.competitors.competitor import Competitor
from experiments.speed.competitors.this_library import ThisLibrary
from experiments.speed.problems import TINY_LOW_RANK, make_problem

__all__ = ["Peak", "interleave", "medians", "peak_bytes", "peak_of_steps"]

Steps = Mapping[str, Callable[[], object]]
_MEMORY_STEPS = 2


def interleave(steps: Steps, rounds: int, limits: Mapping[str, int | None] | None = None) -> dict[str, list[float]]:
    """Time steps in turn, A B C, A B C, …, so that what changes on the machine meets all of them alike.

    Each timed step follows one of its own that is not timed, unless its rounds are limited, for then it is long: memory
    and caches are those of a loop that repeats the step, as training does, and not what the others have left.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    gc.collect()
    gc.disable()
    wait = _synchronizer()
    try:
        for number in range(rounds):
            for name, step in steps.items():
                limit = (limits or {}).get(name)
                if limit is None:
                    step()
                wait()
                if limit is None or number < limit:
                    start = time.perf_counter()
                    step()
                    wait()
                    seconds[name].append(time.perf_counter() - start)
    finally:
        gc.enable()
    return seconds


def _on_cuda() -> bool:
    return torch.get_default_device().type == "cuda"


def _synchronizer() -> Callable[[], None]:
    """Return what waits until the device has done what it was told."""
    return torch.cuda.synchronize if _on_cuda() else lambda: None


def medians(steps: Steps, rounds: int) -> dict[str, float]:
    """Return the median time of each step over the rounds that follow a first one."""
    return {name: median(times[1:]) for name, times in interleave(steps, rounds + 1).items()}


class Peak(NamedTuple):
    """Peak memory of some steps: above what was held before them, and of the whole process."""

    step_bytes: int
    process_bytes: int


def peak_of_steps(build: Callable[[], Competitor]) -> Peak:
    """Build a competitor and return the peak memory of its steps; to be called in a process of its own."""
    # What PyTorch takes at its first use is not the step's.
    ThisLibrary(make_problem(TINY_LOW_RANK)).step()
    competitor = build()
    gc.collect()
    # What the set-up has freed goes back to the system, lest a step takes it without being seen.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    if _on_cuda():
        torch.cuda.reset_peak_memory_stats()
    # The kernel counts the peak from now on, where it can: compiling may have taken more than a step will.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = peak_bytes()
    for _ in range(_MEMORY_STEPS):
        competitor.step()
    peak = peak_bytes()
    return Peak(peak - before, peak)


def peak_bytes() -> int:
    """Return the largest memory that this process has held, on a GPU where it computes on one; since it was set back.

    The memory of the CPU is set back on Linux alone.
    """
    if _on_cuda():
        return torch.cuda.max_memory_allocated()
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource  # which Windows has not

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
