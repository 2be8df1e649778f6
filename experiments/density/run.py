"""One run: a folder that holds everything that came of it."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.density.fit import Fit, Score, evaluate, fit
from experiments.density.picture import take_picture, write_picture
from experiments.density.plots import plot_density
from experiments.density.settings import DensitySettings, build_flow
from vae_flows.cnf import ContinuousNormalizingFlow
from vae_flows.data import ToyDensity, toy_density
from vae_flows.persistence.files import exclusive, sweep
from vae_flows.persistence.json_files import read_json, write_atomically, write_json
from vae_flows.persistence.records import to_plain
from vae_flows.reporting.plots import to_png
from vae_flows.runs.provenance import describe_provenance
from vae_flows.training.checkpoint import save_checkpoint

__all__ = ["ARRAYS", "METRICS", "PICTURE", "WEIGHTS", "run_density"]

METRICS, WEIGHTS, PICTURE, ARRAYS = "metrics.json", "flow.ckpt", "density.png", "density.npz"


def run_density(folder: Path, settings: DensitySettings, *, draw: bool = True) -> dict[str, Any]:
    """Learn a density, test it and draw it, unless a finished run of these settings is there.

    Arguments:
        folder: Receives `flow.ckpt`, `density.png`, its arrays in `density.npz` and, last, `metrics.json`. A run with
            other settings, or one that was interrupted, is replaced.
        settings: The run.
        draw: Whether to draw.

    Returns:
        What `metrics.json` holds.

    Raises:
        NonFiniteLossError: The loss is NaN or infinite.
        IntegrationError: A solve failed.
        FileError: The folder cannot be written to, is in use, or was removed meanwhile.
    """
    toy, flow = toy_density(settings.data), build_flow(settings)
    with exclusive(folder) as lock:
        sweep(folder)
        finished = _find_finished(folder, settings, draw)
        if finished is not None:
            return finished
        for name in (METRICS, WEIGHTS, ARRAYS, PICTURE):
            (folder / name).unlink(missing_ok=True)
        start, start_of_processor = time.perf_counter(), time.process_time()
        trained = _train(flow, toy, settings)
        lock.require()
        save_checkpoint(folder / WEIGHTS, {"weights": flow.state_dict()})
        score = evaluate(flow, toy, settings)
        drawn = {"mass_in_picture": _draw(folder, flow, toy, settings, score)} if draw else {}
        metrics = {
            "settings": to_plain(settings),
            "test": dataclasses.asdict(score),
            **drawn,
            "training": dataclasses.asdict(trained),
            "parameters": sum(parameter.numel() for parameter in flow.parameters()),
            "seconds": time.perf_counter() - start,
            "processor_seconds": time.process_time() - start_of_processor,
            **describe_provenance(),
        }
        lock.require()
        write_json(folder / METRICS, metrics)
    return metrics


def _find_finished(folder: Path, settings: DensitySettings, draw: bool) -> dict[str, Any] | None:
    if not (folder / METRICS).exists() or (draw and not (folder / ARRAYS).exists()):
        return None
    metrics = read_json(folder / METRICS)
    return metrics if isinstance(metrics, dict) and metrics.get("settings") == to_plain(settings) else None


def _train(flow: ContinuousNormalizingFlow, toy: ToyDensity, settings: DensitySettings) -> Fit:
    """Train, with a bar that shows in terminals alone."""
    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(toy.name, total=settings.steps, note="")

        def show(step: int, loss: float, evaluations: int) -> None:
            note = f"−log p(x) {loss:.3f} nats · {evaluations} evaluations/solve"
            progress.update(task, completed=step, note=note)

        return fit(flow, toy, settings, show)


def _draw(
    folder: Path, flow: ContinuousNormalizingFlow, toy: ToyDensity, settings: DensitySettings, score: Score
) -> float:
    """Write picture and arrays, and return the probability of the square drawn."""
    picture = take_picture(flow, toy, settings.seed)
    write_picture(folder / ARRAYS, picture)
    title = (
        f"{settings.data}: test −log p(x) {score.negative_log_likelihood:.3f} nats, {score.excess:.3f} ± "
        f"{score.excess_standard_error:.3f} above the true density's on the same points"
    )
    write_atomically(folder / PICTURE, to_png(plot_density(picture, title=title)))
    return picture.mass
