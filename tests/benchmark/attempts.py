"""What tests of engines share: runs without one, a silent monitor, and how many processes have worked on a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.threads import torch_threads
from vae_flows.benchmark.grid import GridRun, RunOutcome
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import prepare

__all__ = ["Silent", "executed", "processes_of_events"]


class Silent:
    """Wants to know nothing."""

    def started(self, run: GridRun) -> None: ...

    def ended(self, outcome: RunOutcome) -> None: ...

    def elsewhere(self, run: GridRun) -> None: ...

    def running(self, runs: Sequence[GridRun]) -> None: ...


def processes_of_events(folder: Path) -> set[str]:
    """Return the processes that wrote TensorBoard events: their names end in the process and a number of the file."""
    return {path.name.rsplit(".", 2)[1] for path in folder.glob("events.*")}


def executed(run: GridRun) -> dict[str, Any]:
    """Train and test a run here, in one thread as engines do: the sums of two threads have other last digits."""
    prepare(run.folder, run.settings)
    with torch_threads(1):
        return execute(run.folder) or {}
