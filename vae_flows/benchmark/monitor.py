"""Progress of a grid: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vae_flows.benchmark.grid import GridMonitor, GridRun, RunOutcome
from vae_flows.extras import needing
from vae_flows.runs.folder import EPOCHS

with needing("cli"):
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
    from rich.text import Text

__all__ = ["EpochGlance", "LinesMonitor", "LiveMonitor", "glance", "open_monitor"]

REFRESH_SECONDS = 1.0
STYLES = {"finished": "", "skipped": "dim", "failed": "bold red", "elsewhere": "yellow"}


@dataclass(frozen=True)
class EpochGlance:
    """Where a training stands: epochs done and the latest validation −ELBO in nats."""

    epochs: int
    negative_elbo: float


def glance(folder: Path) -> EpochGlance | None:
    """Read where the training in `folder` stands from the log that it writes; `None` before its first epoch.

    The log may be read in the middle of a write: a line that is not whole counts as not there.
    """
    try:
        with (folder / EPOCHS).open(newline="", encoding="utf-8") as log:
            rows = list(csv.DictReader(log))
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    for row in reversed(rows):
        try:
            return EpochGlance(int(row["epoch"]), float(row["validation_negative_elbo"]))
        except (KeyError, TypeError, ValueError):
            continue
    return None


def describe_outcome(outcome: RunOutcome) -> str:
    """Word what became of a cell."""
    label = outcome.cell.label
    if outcome.status == "skipped":
        return f"{label}: finished before"
    if outcome.status == "elsewhere":
        return f"{label}: in progress elsewhere, another process works on it"
    if outcome.status == "failed":
        return f"{label}: failed after {outcome.seconds:.0f} s, {outcome.error}"
    latest = glance(outcome.cell.folder)
    bound = f", validation −ELBO {latest.negative_elbo:.2f} after {latest.epochs} epochs" if latest else ""
    return f"{label}: finished in {outcome.seconds:.0f} s{bound}"


class LinesMonitor:
    """Prints a line when a cell starts and when it ends."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def started(self, cell: GridRun) -> None:
        self._print(f"{cell.label}: started")

    def ended(self, outcome: RunOutcome) -> None:
        self._print(describe_outcome(outcome), STYLES[outcome.status])

    def running(self, cells: Sequence[GridRun]) -> None:
        """Print nothing: a log wants events, not a clock."""

    def _print(self, line: str, style: str = "") -> None:
        self._console.print(Text(line, style=style), soft_wrap=True)


class LiveMonitor(LinesMonitor):
    """Keeps a bar of the whole grid and a table of the cells under way below the lines of those that ended."""

    def __init__(self, console: Console, live: Live, total: int) -> None:
        super().__init__(console)
        self._live = live
        self._refreshed = -REFRESH_SECONDS
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("cells", total=total)

    def started(self, cell: GridRun) -> None:
        """Print nothing: the table shows it."""
        self._refreshed = -REFRESH_SECONDS

    def ended(self, outcome: RunOutcome) -> None:
        super().ended(outcome)
        self._progress.advance(self._task)

    def running(self, cells: Sequence[GridRun]) -> None:
        now = time.monotonic()
        if now - self._refreshed < REFRESH_SECONDS:
            return
        self._refreshed = now
        table = Table(box=None, pad_edge=False)
        for name in ("running", "epoch", "validation −ELBO (nats)"):
            table.add_column(name, justify="left" if name == "running" else "right")
        for cell in cells:
            latest = glance(cell.folder)
            epoch = f"{latest.epochs if latest else 0} / {cell.settings.training.max_epochs}"
            table.add_row(cell.label, epoch, f"{latest.negative_elbo:.2f}" if latest else "")
        self._live.update(Group(table, self._progress), refresh=True)


@contextmanager
def open_monitor(console: Console, total: int) -> Iterator[GridMonitor]:
    """Open the monitor that suits where `console` prints to.

    Arguments:
        console: A terminal or not.
        total: Number of cells.
    """
    if not console.is_terminal:
        yield LinesMonitor(console)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield LiveMonitor(console, live, total)
