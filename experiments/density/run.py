"""One run: a folder that holds everything that came of it."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.density.fit import Score, evaluate, fit
from experiments.density.plots import plot_density, take_picture
from experiments.density.settings import DensitySettings, build_flow
from experiments.environment import describe_commit, describe_hardware, describe_versions
from experiments.files import exclusive, write_json
from experiments.settings import to_plain
from vae_flows.data.toy import toy_density
from vae_flows.files import written_whole
from vae_flows.training.checkpoint import save_checkpoint

__all__ = ["METRICS", "PICTURE", "WEIGHTS", "run_density"]

METRICS, WEIGHTS, PICTURE = "metrics.json", "flow.ckpt", "density.png"


def run_density(folder: Path, settings: DensitySettings) -> dict[str, Any]:
    """Learn a density, test it and draw it.

    Arguments:
        folder: Receives `flow.ckpt`, `density.png` and, last, `metrics.json`. An earlier run there is replaced.
        settings: The run.

    Returns:
        What `metrics.json` holds.

    Raises:
        NonFiniteLossError: The loss is NaN or infinite.
        IntegrationError: A solve failed.
    """
    toy, flow = toy_density(settings.data), build_flow(settings)
    with exclusive(folder):
        (folder / METRICS).unlink(missing_ok=True)
        start = time.perf_counter()
        with _progress() as progress:
            task = progress.add_task("step", total=settings.steps, note="")

            def show(step: int, loss: float, evaluations: int) -> None:
                note = f"−log p(x) {loss:.3f} nats · {evaluations} evaluations/solve"
                progress.update(task, completed=step, note=note)

            trained = fit(flow, toy, settings, show)
        save_checkpoint(folder / WEIGHTS, {"weights": flow.state_dict()})
        score = evaluate(flow, toy, settings)
        picture = take_picture(flow, toy, settings.seed)
        with written_whole(folder / PICTURE) as file:
            figure = plot_density(picture, title=_title(settings, score))
            # Without the drawing library's version, so that the same figure gives the same bytes.
            figure.savefig(file, format="png", metadata={"Software": None})
        metrics = {
            "settings": to_plain(settings),
            "test": dataclasses.asdict(score),
            "mass_in_picture": picture.mass,
            "training": dataclasses.asdict(trained),
            "parameters": sum(parameter.numel() for parameter in flow.parameters()),
            "seconds": time.perf_counter() - start,
            "versions": describe_versions(),
            "hardware": describe_hardware(),
            **describe_commit(),
        }
        write_json(folder / METRICS, metrics)
    return metrics


def _title(settings: DensitySettings, score: Score) -> str:
    nll, error, truth = score.negative_log_likelihood, score.standard_error, score.true_negative_log_likelihood
    compared = "" if truth is None else f", true density {truth:.3f} on the same points"
    return f"{settings.data}: test −log p(x) {nll:.3f} ± {error:.3f} nats{compared}"


def _progress() -> Progress:
    """Return a bar that shows in terminals alone."""
    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)
