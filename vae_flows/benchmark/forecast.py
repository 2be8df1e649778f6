"""How far a grid has come, and how long it will take: from the logs of runs under way and the durations of others."""

from __future__ import annotations

import csv
import heapq
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vae_flows.benchmark.grid import GridRun, RunOutcome
from vae_flows.runs.folder import EPOCHS

__all__ = ["EpochGlance", "GridForecast", "glance", "word_duration"]

RECENT = 5
"""Epochs whose mean duration says how long the next ones take."""


@dataclass(frozen=True)
class EpochGlance:
    """Where a training stands.

    Arguments:
        epochs: Epochs done.
        negative_elbo: Validation −ELBO of the latest, in nats per example.
        lowest: The lowest so far.
        seconds_per_epoch: Mean duration of the latest epochs, `None` where the log has none.
        age: Seconds since the log was written.
    """

    epochs: int
    negative_elbo: float
    lowest: float
    seconds_per_epoch: float | None = None
    age: float = 0.0


def glance(folder: Path) -> EpochGlance | None:
    """Read where the training in `folder` stands from the log that it writes; `None` before its first epoch.

    The log may be read in the middle of a write: a line that is not whole counts as not there.
    """
    try:
        with (folder / EPOCHS).open(newline="", encoding="utf-8") as log:
            rows = list(csv.DictReader(log))
        age = max(0.0, time.time() - (folder / EPOCHS).stat().st_mtime)
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    epochs, bounds, durations = 0, [], []
    for row in rows:
        try:
            epochs, bound = int(row["epoch"]), float(row["validation_negative_elbo"])
        except (KeyError, TypeError, ValueError):
            continue
        bounds.append(bound)
        durations += _durations(row.get("seconds"))
    if not bounds:
        return None
    lowest = min((bound for bound in bounds if not math.isnan(bound)), default=math.nan)
    seconds = statistics.fmean(durations[-RECENT:]) if durations else None
    return EpochGlance(epochs, bounds[-1], lowest, seconds, age)


def _durations(text: str | None) -> list[float]:
    try:
        seconds = float(text or "")
    except ValueError:
        return []
    return [seconds] if math.isfinite(seconds) and seconds >= 0 else []


class GridForecast:
    """Counts the runs of a grid and tells the time left.

    A run under way takes the epochs that are left to it at the pace of its latest ones, which is an upper bound where
    it may stop early. A waiting one takes as long as those of its kind that ended: of the same data and posterior, or
    else of the same data, or else all. Runs are dealt out to the workers in their order.

    Arguments:
        runs: All runs of the grid, in the order in which they are started.
        workers: Runs at once.
    """

    def __init__(self, runs: Sequence[GridRun], workers: int) -> None:
        self.runs = tuple(runs)
        self.workers = min(workers, len(self.runs))  # a cluster takes all at once, and says so by a huge number
        self.ended: dict[GridRun, RunOutcome] = {}
        self.met_elsewhere: set[GridRun] = set()

    def end(self, outcome: RunOutcome) -> None:
        """Take note of a run that ended."""
        self.ended[outcome.run] = outcome

    def count_elsewhere(self, running: Sequence[GridRun]) -> int:
        """Return how many runs other processes were met at that neither ended nor are under way here."""
        return len(self.met_elsewhere - self.ended.keys() - set(running))

    def count(self, *statuses: str) -> int:
        """Return how many runs ended so."""
        return sum(outcome.status in statuses for outcome in self.ended.values())

    def seconds_of(self, run: GridRun, latest: EpochGlance | None) -> float | None:
        """Return the seconds that a run under way still takes, `None` where nothing tells."""
        if latest is None or latest.seconds_per_epoch is None:
            return self._typical(run, {})
        epochs = max(0, run.settings.training.max_epochs - latest.epochs)
        pace = latest.seconds_per_epoch
        return max(0.0, epochs * pace - min(latest.age, pace))

    def seconds_left(self, running: Sequence[tuple[GridRun, EpochGlance | None]]) -> float | None:
        """Return the seconds until all runs have ended, `None` where nothing tells.

        Arguments:
            running: The runs under way and where they stand.
        """
        under_way = {run for run, _ in running}
        waiting = [run for run in self.runs if run not in self.ended and run not in under_way]
        paces = {
            run: latest.seconds_per_epoch * run.settings.training.max_epochs
            for run, latest in running
            if latest and latest.seconds_per_epoch is not None
        }
        remaining = [self.seconds_of(run, latest) for run, latest in running]
        remaining = [
            self._typical(run, paces) if seconds is None else seconds
            for (run, _), seconds in zip(running, remaining, strict=True)
        ]
        further = [self._typical(run, paces) for run in waiting]
        known = [seconds for seconds in remaining if seconds is not None]
        if len(known) < len(remaining) or None in further:
            return None
        free = (known + [0.0] * self.workers)[: max(self.workers, len(known))]
        heapq.heapify(free)
        for seconds in further:
            heapq.heappush(free, heapq.heappop(free) + (seconds or 0.0))
        return max(free, default=0.0)

    def _typical(self, run: GridRun, paces: dict[GridRun, float]) -> float | None:
        """Return the mean duration of the runs most like this one, of those that ended before those under way."""
        ended = {
            other: outcome.seconds
            for other, outcome in self.ended.items()
            if outcome.status == "finished" and outcome.seconds is not None
        }
        for durations in (ended, paces):
            for same in (("data", "posterior"), ("data",), ()):
                like = [
                    seconds
                    for other, seconds in durations.items()
                    if all(getattr(other.settings, name) == getattr(run.settings, name) for name in same)
                ]
                if like:
                    return statistics.fmean(like)
        return None


def word_duration(seconds: float | None) -> str:
    """Word a duration as people say it.

    Example:
        >>> word_duration(42.4), word_duration(200), word_duration(8000), word_duration(None)
        ('42 s', '3 min', '2 h 13 min', 'unknown')
    """
    if seconds is None or not math.isfinite(seconds):
        return "unknown"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
