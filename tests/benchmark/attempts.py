"""What tests of engines share: a monitor that wants to know nothing, and how many processes have worked on a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vae_flows.benchmark.grid import GridRun, RunOutcome

__all__ = ["Silent", "processes_of_events"]


class Silent:
    """Wants to know nothing."""

    def started(self, run: GridRun) -> None: ...

    def ended(self, outcome: RunOutcome) -> None: ...

    def elsewhere(self, run: GridRun) -> None: ...

    def running(self, runs: Sequence[GridRun]) -> None: ...


def processes_of_events(folder: Path) -> set[str]:
    """Return the processes that wrote TensorBoard events: their names end in the process and a number of the file."""
    return {path.name.rsplit(".", 2)[1] for path in folder.glob("events.*")}
