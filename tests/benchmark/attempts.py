"""What tests of engines share: runs without one, a silent monitor, how far a run is and who has worked on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.threads import torch_threads
from vae_flows.benchmark.grid import GridRun, RunOutcome
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import prepare

__all__ = ["SECONDS", "Silent", "epochs", "executed", "processes_of_events", "wait_for"]

SECONDS = 120.0  # for anything to happen on a busy machine


class Silent:
    """Wants to know nothing."""

    def started(self, run: GridRun) -> None: ...

    def ended(self, outcome: RunOutcome) -> None: ...

    def elsewhere(self, run: GridRun) -> None: ...

    def running(self, runs: Sequence[GridRun]) -> None: ...


def processes_of_events(folder: Path) -> set[str]:
    """Return the processes that wrote TensorBoard events: their names end in the process and a number of the file."""
    return {path.name.rsplit(".", 2)[1] for path in folder.glob("events.*")}


def epochs(folder: Path) -> int:
    """Return how many epochs a folder knows of."""
    path = folder / "metrics.csv"
    return max(0, len(path.read_text().splitlines()) - 1) if path.exists() else 0


def wait_for(what: Callable[[], Any]) -> Any:
    """Return what is found as soon as it is true."""
    deadline = time.monotonic() + SECONDS
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def executed(run: GridRun) -> dict[str, Any]:
    """Train and test a run here, in one thread as engines do: the sums of two threads have other last digits."""
    prepare(run.folder, run.settings)
    with torch_threads(1):
        return execute(run.folder) or {}
