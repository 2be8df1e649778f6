"""Progress of a grid: a live table in a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from vae_flows.benchmark.forecast import EpochGlance, GridForecast, glance, word_duration
from vae_flows.benchmark.grid import GridMonitor, GridRun, RunOutcome
from vae_flows.checks import checked
from vae_flows.errors import require_positive
from vae_flows.extras import needing

with needing("cli"):
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
    from rich.text import Text

__all__ = ["LinesMonitor", "LiveMonitor", "open_monitor"]

REFRESH_SECONDS = 1.0
LINE_SECONDS = 60.0
"""Between two lines that tell where a grid stands, where there is no terminal."""
STYLES = {"finished": "", "skipped": "dim", "failed": "bold red"}
ELSEWHERE_STYLE = "yellow"

Standing = tuple[GridRun, EpochGlance | None]


def describe_outcome(outcome: RunOutcome) -> str:
    """Word what became of a run."""
    label = outcome.run.label
    if outcome.status == "skipped":
        return f"{label}: finished before"
    if outcome.status == "failed":
        return f"{label}: failed after {outcome.seconds or 0.0:.0f} s, {outcome.error}"
    latest = glance(outcome.run.folder)
    bound = f", validation −ELBO {latest.negative_elbo:.2f} at epoch {latest.epochs}" if latest else ""
    how = "by another process" if outcome.seconds is None else f"in {outcome.seconds:.0f} s"
    return f"{label}: finished {how}{bound}"


def describe_standing(forecast: GridForecast, running: Sequence[Standing]) -> str:
    """Word how many runs are done, failed, under way and waiting, and the time left."""
    elsewhere = forecast.count_elsewhere([run for run, _ in running])
    counts = {
        "done": forecast.count("finished", "skipped"),
        "failed": forecast.count("failed"),
        "elsewhere": elsewhere,
        "running": len(running),
        "waiting": len(forecast.runs) - len(forecast.ended) - len(running) - elsewhere,
    }
    told = [f"{count} {name}" for name, count in counts.items() if count or name in ("done", "failed", "running")]
    return f"{', '.join(told)} of {len(forecast.runs)}; time left {word_duration(forecast.seconds_left(running))}"


class LinesMonitor:
    """Prints a line when a run starts and when it ends, and now and then one that tells where the grid stands.

    Arguments:
        console: Where to.
        forecast: Counts the runs.
        clock: Seconds that never go back.
    """

    @checked
    def __init__(self, console: Console, forecast: GridForecast, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._forecast = forecast
        self._clock = clock
        self._told = clock()

    def started(self, run: GridRun) -> None:
        self._print(f"{run.label}: started")

    def ended(self, outcome: RunOutcome) -> None:
        self._forecast.end(outcome)
        self._print(describe_outcome(outcome), STYLES[outcome.status])

    def elsewhere(self, run: GridRun) -> None:
        self._forecast.met_elsewhere.add(run)
        self._print(f"{run.label}: at work elsewhere, waiting for the process that works on it", ELSEWHERE_STYLE)

    def running(self, runs: Sequence[GridRun]) -> None:
        if self._clock() - self._told < LINE_SECONDS:
            return
        self._told = self._clock()
        standings = [(run, glance(run.folder)) for run in runs]
        each = [f"{run.label} {_epoch(run, latest)}" for run, latest in standings]
        self._print("; ".join([describe_standing(self._forecast, standings), *each]))

    def _print(self, line: str, style: str = "") -> None:
        self._console.print(Text(line, style=style), soft_wrap=True)


class LiveMonitor(LinesMonitor):
    """Keeps a bar of the whole grid and a table of the runs under way below the lines of those that ended."""

    @checked
    def __init__(self, console: Console, forecast: GridForecast, live: Live) -> None:
        super().__init__(console, forecast)
        self._live = live
        self._refreshed = -REFRESH_SECONDS
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("runs", total=len(forecast.runs))

    def started(self, run: GridRun) -> None:
        """Print nothing: the table shows it."""
        self._refreshed = -REFRESH_SECONDS

    def ended(self, outcome: RunOutcome) -> None:
        super().ended(outcome)
        self._progress.advance(self._task)

    def running(self, runs: Sequence[GridRun]) -> None:
        now = self._clock()
        if now - self._refreshed < REFRESH_SECONDS:
            return
        self._refreshed = now
        standings = [(run, glance(run.folder)) for run in runs]
        table = Table(box=None, pad_edge=False)
        for name in ("running", "epoch", "−ELBO (nats)", "lowest", "time left"):
            table.add_column(name, justify="left" if name == "running" else "right")
        for run, latest in standings:
            bounds = ("", "") if latest is None else (f"{latest.negative_elbo:.2f}", f"{latest.lowest:.2f}")
            left = word_duration(self._forecast.seconds_of(run, latest))
            epochs = f"{latest.epochs if latest else 0} / {run.settings.training.max_epochs}"
            table.add_row(run.label, epochs, *bounds, left)
        told = Text(describe_standing(self._forecast, standings), style="bold red" if self._failed else "")
        self._live.update(Group(table, told, self._progress), refresh=True)

    @property
    def _failed(self) -> bool:
        return self._forecast.count("failed") > 0


def _epoch(run: GridRun, latest: EpochGlance | None) -> str:
    epochs = run.settings.training.max_epochs
    if latest is None:
        return f"epoch 0 / {epochs}"
    return f"epoch {latest.epochs} / {epochs}, validation −ELBO {latest.negative_elbo:.2f}"


@checked
@contextmanager
def open_monitor(console: Console, runs: Sequence[GridRun], workers: int) -> Iterator[GridMonitor]:
    """Open the monitor that suits where `console` prints to.

    Arguments:
        console: A terminal or not.
        runs: The runs of the grid, in the order in which they are started.
        workers: How many are under way at once.

    Raises:
        InvalidInputError: They are none.
    """
    require_positive("open_monitor", workers=workers)
    forecast = GridForecast(runs, workers)
    if not console.is_terminal:
        yield LinesMonitor(console, forecast)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield LiveMonitor(console, forecast, live)
