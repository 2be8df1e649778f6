"""How many processes have worked on a run."""

from __future__ import annotations

from pathlib import Path

__all__ = ["processes_of_events"]


def processes_of_events(folder: Path) -> set[str]:
    """Return the processes that wrote TensorBoard events: their names end in the process and a number of the file."""
    return {path.name.rsplit(".", 2)[1] for path in folder.glob("events.*")}
