"""What `vae-flows train` and `evaluate` show of tests: a bar with the time left, and tables of what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vae_flows.evaluation import EvaluationResult, LikelihoodProgress
from vae_flows.evaluation.units import Unit
from vae_flows.extras import needing
from vae_flows.processes import is_main_process
from vae_flows.runs import RunDiagnostics, RunEvaluation
from vae_flows.runs.verdicts import KINDS, judge

with needing("cli"):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.table import Table
    from rich.text import Text

__all__ = ["diagnostics_progress", "diagnostics_table", "evaluation_progress", "evaluation_table", "test_table"]


@contextmanager
def evaluation_progress(console: Console) -> Iterator[Callable[[LikelihoodProgress], None]]:
    """Show a bar of the images done, the draws per second and the time left, where there is a terminal, and once."""
    shown = console.is_terminal and is_main_process()
    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=console, disable=not shown, transient=True) as bar:
        task = bar.add_task("images", total=None, note="")

        def tell(step: LikelihoodProgress) -> None:
            minutes, seconds = divmod(round(step.seconds_left), 60)
            note = f"{step.samples_per_second:,.0f} draws/s · {minutes}:{seconds:02} left"
            bar.update(task, total=step.num_images, completed=step.images_done, note=note)

        yield tell


def test_table(title: str, metrics: Mapping[str, Any]) -> Table:
    """Tabulate the test that ends a training, from the run's metrics."""
    result = EvaluationResult(**metrics["test"])
    unit = Unit(metrics["unit"], metrics["nats_per_unit"], metrics["nats_at_zero"])
    table = Table(title=Text(title), title_justify="left", show_header=False)
    numbers = {
        "−ELBO": unit.worded(result.negative_elbo),
        "standard error": f"{result.negative_elbo_standard_error:.2f} nats over {result.num_images} examples",
        "reconstruction": f"{result.negative_log_likelihood_term:.2f} nats",
        "KL": f"{result.kl:.2f} nats",
    }
    if result.negative_log_likelihood is not None:
        draws = f"{result.importance_samples} importance samples per example"
        numbers["−log p(x)"] = f"{unit.worded(result.negative_log_likelihood)}, {draws}"
    if result.evaluations_per_solve is not None:
        numbers["evaluations / solve"] = f"{result.evaluations_per_solve:.1f}"
    for name, text in numbers.items():
        table.add_row(name, text)
    return table


def evaluation_table(title: str, found: RunEvaluation) -> Table:
    """Tabulate a later test: its bounds in nats and the usual unit, the parts of the ELBO, and how far to trust it."""
    table = Table(title=Text(title), title_justify="left", show_header=False)
    for size, nats in zip(found.particles, found.bounds, strict=True):
        name = "−ELBO" if size == 1 else f"bound of {size:,} draws"
        if size > 1 and size == found.importance_samples:
            name = "−log p(x)"
        table.add_row(name, found.worded(nats))
    errors = (found.negative_elbo_standard_error, found.negative_log_likelihood_standard_error)
    told = " and ".join(f"{error:.2f}" for error in errors if error is not None)
    if told:
        table.add_row("standard errors", f"{told} nats over {found.num_images} examples")
    table.add_row("distortion, rate", f"{found.distortion:.2f} and {found.rate:.2f} nats")
    if found.importance_samples:
        table.add_row("draws", f"{found.importance_samples} importance samples per example")
        table.add_row("effective draws", f"{found.effective_sample_size:.1f} of the weights on average")
        if found.monte_carlo_bias is not None:
            table.add_row("bias left", f"about {found.monte_carlo_bias:.2f} nats too high, which more draws take away")
    table.add_row("speed", f"{found.samples_per_second:,.0f} draws/s, {found.seconds:.0f} s")
    return table


@contextmanager
def diagnostics_progress(console: Console) -> Iterator[Callable[[str], None]]:
    """Show which diagnostic is under way, where there is a terminal."""
    with console.status("") as status:
        yield lambda name: status.update(Text(name)) if console.is_terminal else None


def diagnostics_table(title: str, found: RunDiagnostics) -> Table:
    """Tabulate diagnostics with the word on each; what failed is told below."""
    caption = Text("\n".join(found.problems)) if found.problems else None
    table = Table("diagnostic", "found", "", title=Text(title), title_justify="left", caption=caption)
    for kind, finding in zip(KINDS, judge(found), strict=True):
        table.add_row(kind.name, finding.text, Text(finding.word, style="bold red" if finding.word == "bad" else ""))
    return table
