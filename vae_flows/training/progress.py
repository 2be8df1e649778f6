"""The progress bar of a run, in a terminal or a notebook."""

from __future__ import annotations

from html import escape
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from vae_flows.extras import needing
from vae_flows.training.records import EpochRecord

with needing("train"):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["TrainingProgress"]

INTERVAL = 0.2
"""Seconds between two pictures of the bars in a notebook; they go through a browser."""


class TrainingProgress:
    """Two bars in a terminal or a notebook: epochs with the validation bound, and the steps of the running epoch.

    Arguments:
        epochs: Epochs at most.
        epochs_done: Epochs of the part of the run that came before.
        show: Show the bars, provided that the standard output is a terminal or a notebook.
    """

    def __init__(self, epochs: int, epochs_done: int, *, show: bool) -> None:
        console = Console()
        self._in_notebook = show and console.is_jupyter
        self._progress = Progress(
            TextColumn("{task.description:<5}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=self._in_notebook or not (show and console.is_terminal),
        )
        self._epochs = self._progress.add_task("epoch", total=epochs, completed=epochs_done, note="")
        self._steps = self._progress.add_task("step", total=None, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        if self._in_notebook:
            from IPython.display import HTML, display  # pyright: ignore[reportMissingImports] -- a notebook has it

            self._shown: Any = display(HTML(self._html()), display_id=True)
            self._next = perf_counter() + INTERVAL
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._progress.disable:  # older releases of rich write a line all the same
            self._progress.stop()
        self._redraw(always=True)

    def start_epoch(self, steps: int) -> None:
        """Begin the bar of an epoch of so many steps."""
        self._progress.reset(self._steps, total=steps, note="")
        self._redraw()

    def step(self, negative_elbo: float, kl: float, evaluations: int | None, examples_per_second: float) -> None:
        """Advance by one step and show its bound and KL term, in nats per image, and the running speed."""
        solve = "" if evaluations is None else f" · {evaluations} evaluations/solve"
        note = f"−ELBO {negative_elbo:.2f} · KL {kl:.2f}{solve} · {examples_per_second:.0f} examples/s"
        self._progress.update(self._steps, advance=1, note=note)
        self._redraw()

    def end_epoch(self, record: EpochRecord, best: EpochRecord) -> None:
        """Advance by one epoch and show its validation bound beside the best one."""
        note = (
            f"validation −ELBO {record.validation_negative_elbo:.2f}"
            f" · best {best.validation_negative_elbo:.2f} in epoch {best.epoch} · β {record.beta:.2f}"
        )
        self._progress.update(self._epochs, advance=1, note=note)
        self._redraw()

    def _redraw(self, *, always: bool = False) -> None:
        """Draw the bars in a notebook again, where there is one and it is time."""
        if not self._in_notebook or (perf_counter() < self._next and not always):
            return
        from IPython.display import HTML  # pyright: ignore[reportMissingImports]

        self._shown.update(HTML(self._html()))
        self._next = perf_counter() + INTERVAL

    def _html(self) -> str:
        rows = (
            f"<tr><td>{escape(task.description)}</td>"
            f'<td><progress value="{task.completed:g}" max="{task.total or 1:g}"></progress></td>'
            f"<td>{task.completed:g}/{task.total or 0:g}</td><td>{escape(task.fields['note'])}</td></tr>"
            for task in self._progress.tasks
        )
        return f"<table>{''.join(rows)}</table>"
