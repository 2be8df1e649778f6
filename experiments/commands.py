"""The commands: what each does, in terms of the other modules."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.build import build_data, build_vae
from experiments.cell import METRICS, cell_folder, evaluate_cell, is_main_process, load_settings, prepare_cell, run_cell
from experiments.density import DensitySettings, Score, run_density, run_trials, write_densities, write_trials
from experiments.density.settings import ALL
from experiments.environment import torch_threads
from experiments.files import check_destination, write_json
from experiments.grid import plan_grid, run_grid
from experiments.monitor import open_monitor
from experiments.presets import find_preset
from experiments.report import REPORT_FILES, render_tables, write_report
from experiments.runners import IN_USE, LocalRunner
from experiments.settings import CellSettings, override
from experiments.speed.speed_comparison import FULL, QUICK, compare
from experiments.speed.speed_report import write_comparison
from vae_flows.data import available_toys
from vae_flows.errors import FolderInUseError, InvalidInputError, complaint
from vae_flows.evaluation import EvaluationResult
from vae_flows.persistence.files import file_errors
from vae_flows.training import ComputeSettings

__all__ = ["benchmark", "cell", "density", "evaluate", "regularizers", "report", "speed", "train"]

RUNS = Path("runs")
ANY_DEVICE = ComputeSettings()
DENSITY = DensitySettings()
REGULARIZED = DensitySettings(hidden_dims=(64, 64), steps=800, batch_size=128, test_tolerance=1e-5)
PLAIN_WIDTH = 140
"""Columns of a table that goes to a file or a pipe."""

Folder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
Assignments = Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="NAME=VALUE ...")]


def train(
    data: str = "caltech101-silhouettes",
    posterior: str = "ffjord",
    preset: str = "quick",
    seed: int = 0,
    folder: Path | None = None,
    resume: bool = False,
    overrides: Assignments = (),
    compute: ComputeSettings = ANY_DEVICE,
) -> int:
    """Train one VAE and test it.

    Arguments:
        data: Name of a data set, or path of an .npz file or a folder of pictures.
        posterior: Name of the posterior's flow.
        preset: Where settings come from: smoke, quick or paper.
        seed: Seed of weights, batches and draws.
        folder: Where to put settings, checkpoints, logs and metrics; by default a folder below runs/train.
        resume: Go on from the folder's checkpoint.
        overrides: Settings to change, by the names that settings.json has, such as training.max_epochs=5
            network.hidden_dims=[100,100] posterior_options.rank=10.
        compute: Device, precision, processes.
    """
    settings = override(find_preset(preset).cell(data, posterior, seed, compute), overrides)
    folder = folder or cell_folder(RUNS / "train", settings)
    if is_main_process():
        _prepare_training(folder, settings, resume)
    metrics = run_cell(folder, progress=True)
    if metrics is not None:
        _print_test(settings, EvaluationResult(**metrics["test"]))
        print(f"All of it is in {folder}.")
    return 0


def evaluate(
    folder: Folder,
    importance_samples: int = 1000,
    chunk_size: int | None = 50,
    batch_size: int = 100,
    device: str = "auto",
) -> int:
    """Test a trained VAE again: −ELBO and, by importance sampling, −log p(x).

    Arguments:
        folder: Folder of the run.
        importance_samples: Samples an image; 0 leaves −log p(x) out. The literature uses 5000.
        chunk_size: Samples at once; fewer need less memory.
        batch_size: Images at once.
        device: cpu, cuda, cuda:1, mps, …; auto takes a GPU if there is one.
    """
    settings = load_settings(folder)
    chosen = replace(
        settings.evaluation, importance_samples=importance_samples, chunk_size=chunk_size, batch_size=batch_size
    )
    path = folder / f"evaluation-{importance_samples}-samples.json"
    check_destination(folder, path.name)
    result = evaluate_cell(folder, chosen, device)
    write_json(path, asdict(result))
    _print_test(settings, result)
    print(f"Written to {path}.")
    return 0


def benchmark(
    preset: str = "quick",
    posteriors: tuple[str, ...] = (),
    data: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (),
    folder: Path | None = None,
    workers: int | None = None,
    threads: int | None = None,
    overrides: Assignments = (),
    compute: ComputeSettings = ANY_DEVICE,
) -> int:
    """Compare posteriors: train and test every posterior on every data set with every seed, and report.

    Finished runs are not repeated, interrupted ones go on from their checkpoints, a failed one does not stop the
    others, nor does one that another process works on. The exit status is 1 when any failed.

    Arguments:
        preset: Where settings come from: smoke, quick or paper.
        posteriors: Instead of the preset's.
        data: Data sets, instead of the preset's.
        seeds: Instead of the preset's.
        folder: Where to put everything; by default runs/ and the preset's name.
        workers: Runs at once; by default one a GPU, or as many as there are cores.
        threads: Threads of each run; by default the cores are shared among the workers.
        overrides: Settings to change in every run, such as training.max_epochs=5.
        compute: Device, precision, processes.
    """
    folder = folder or RUNS / preset
    cells = plan_grid(
        find_preset(preset),
        folder,
        posteriors=posteriors,
        data=data,
        seeds=seeds,
        compute=compute,
        overrides=overrides,
    )
    check_destination(folder, *REPORT_FILES)
    console = _console()
    runner = LocalRunner(workers, threads, gpus_each=0 if compute.accelerator == "cpu" else compute.devices)
    with open_monitor(console, len(cells)) as monitor:
        outcomes = run_grid(cells, runner, monitor)
    _report(console, folder, None)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        print(f"failed: {outcome.cell.label} ({outcome.cell.folder}): {outcome.error}", file=sys.stderr)
    return 1 if failed else 0


def report(folder: Folder, publish: Path | None = None) -> int:
    """Make results.json, tables and plots from the runs of a benchmark, and show the table.

    Arguments:
        folder: Folder of the benchmark.
        publish: Write the report there instead: small files, fit to be committed.
    """
    _report(_console(), folder, publish)
    return 0


def speed(
    folder: Path = RUNS / "speed",
    publish: Path | None = None,
    quick: bool = False,
    rounds: int | None = None,
    threads: int | None = None,
) -> int:
    """Compare the speed of this library with the published formulation, zuko and diffrax at equal work.

    The peers come with the extra "peers"; those that are not installed are told. Takes some twenty minutes, on
    a machine that does nothing else.

    Arguments:
        folder: Where to put tables, plot and numbers.
        publish: Write them there instead: small files, fit to be committed.
        quick: Tiny sizes, to see that everything works; the times say nothing.
        rounds: Interleaved rounds at each size, instead of the plan's.
        threads: Threads of PyTorch and XLA; by default all cores.
    """
    plan = QUICK if quick else FULL
    console = _console()
    check_destination(publish or folder)
    comparison = compare(plan if rounds is None else replace(plan, rounds=rounds), threads=threads, say=console.print)
    tables, files = write_comparison(comparison, publish or folder)
    for table in tables:
        console.print(table.to_rich())
    print(f"Written to {publish or folder}: {', '.join(path.name for path in files)}.")
    return 0


def density(
    settings: DensitySettings = DENSITY,
    folder: Path = RUNS / "density",
    publish: Path | None = None,
    threads: int = 1,
) -> int:
    """Learn a toy density of the plane by maximum likelihood, test it exactly and draw it.

    With --data all, learn all of them. Each takes some minutes on two cores. The picture shows data, density, samples
    and trajectories.

    Arguments:
        settings: Data, flow, training and test.
        folder: Where to put pictures, weights and metrics, in a folder for each density and seed. A finished run of the
            same settings that is there is not repeated, one of other settings is replaced.
        publish: Write one table, picture and file of numbers there: small files, fit to be committed.
        threads: Threads of PyTorch. These matrices are so small that more make it slower.
    """
    runs = [replace(settings, data=name) for name in (available_toys() if settings.data == ALL else [settings.data])]
    places = [folder / run.data / f"seed-{run.seed}" for run in runs]
    check_destination(folder)
    if publish is not None:
        check_destination(publish)
    for run, place in zip(runs, places, strict=True):
        with torch_threads(threads):
            metrics = run_density(place, run)
        _print_score(run, Score(**metrics["test"]), metrics["training"]["seconds"])
        print(f"Picture, weights and metrics are in {place}.")
    if publish is not None:
        table, files = write_densities(places, publish)
        _console().print(table.to_rich())
        print(f"Written to {publish}: {', '.join(path.name for path in files)}.")
    return 0


def regularizers(
    data: tuple[str, ...] = ("8gaussians", "checkerboard"),
    seeds: tuple[int, ...] = (0, 1, 2),
    steps: int = REGULARIZED.steps,
    folder: Path = RUNS / "regularizers",
    publish: Path | None = None,
    threads: int = 1,
) -> int:
    """Compare regularisers of the dynamics on toy densities: evaluations of a solve against likelihood.

    Finished runs are not repeated.

    Arguments:
        data: Toy densities.
        seeds: Seeds of each way to regularise.
        steps: Steps of training.
        folder: Where to put runs, table, plot and numbers.
        publish: Write table, plot and numbers there instead: small files, fit to be committed.
        threads: Threads of PyTorch. These matrices are so small that more make it slower.
    """
    settings, console = replace(REGULARIZED, steps=steps), _console()
    check_destination(publish or folder)
    with torch_threads(threads):
        results = run_trials(settings, folder, data=data, seeds=seeds, say=lambda line: console.print(Text(line)))
    tables, files = write_trials(results, publish or folder)
    for table in tables:
        console.print(table.to_rich())
    print(f"Written to {publish or folder}: {', '.join(path.name for path in files)}.")
    return 0


def cell(folder: Folder) -> int:
    """Train and test the run that settings.json in a folder defines; the benchmark starts its runs this way.

    Arguments:
        folder: Folder of the run.
    """
    try:
        run_cell(folder)
    except FolderInUseError as error:
        print(f"error: {error}", file=sys.stderr)
        return IN_USE
    return 0


def _prepare_training(folder: Path, settings: CellSettings, resume: bool) -> None:
    """Write the settings to the folder, unless they are wrong or the folder is taken."""
    elsewhere = "Choose another --folder."
    if (folder / METRICS).exists():
        raise InvalidInputError(complaint(str(folder), "a new or an unfinished run", "a finished one", elsewhere))
    with file_errors(folder, "a folder that can be read"):
        taken = not resume and folder.exists() and any(folder.iterdir())
    if taken:
        remedy = f"Pass --resume to go on. {elsewhere}"
        raise InvalidInputError(complaint(str(folder), "a new folder", "one that has files", remedy))
    build_vae(settings, build_data(settings))  # What is wrong with the settings shows before anything is written.
    prepare_cell(folder, settings)


def _report(console: Console, folder: Path, destination: Path | None) -> None:
    results, files = write_report(folder, destination)
    for table in render_tables(results):
        console.print(table.to_rich())
    print(f"Written to {destination or folder}: {', '.join(path.name for path in files)}.")


def _print_test(settings: CellSettings, result: EvaluationResult) -> None:
    title = Text(f"{settings.posterior} on {settings.data}: test images")
    table = Table(title=title, title_justify="left", show_header=False)
    numbers = {
        "−ELBO": f"{result.negative_elbo:.2f} nats = {result.bits_per_dim_elbo:.4f} bits/dim",
        "standard error": f"{result.negative_elbo_standard_error:.2f} nats over {result.num_images} images",
        "reconstruction": f"{result.negative_log_likelihood_term:.2f} nats",
        "KL": f"{result.kl:.2f} nats",
    }
    if result.negative_log_likelihood is not None:
        bound = f"{result.negative_log_likelihood:.2f} nats = {result.bits_per_dim:.4f} bits/dim"
        numbers["−log p(x)"] = f"{bound}, {result.importance_samples} importance samples an image"
    if result.evaluations_per_solve is not None:
        numbers["evaluations / solve"] = f"{result.evaluations_per_solve:.1f}"
    for name, text in numbers.items():
        table.add_row(name, text)
    _console().print(table)


def _print_score(settings: DensitySettings, score: Score, training_seconds: float) -> None:
    table = Table(title=Text(f"{settings.data}: test points"), title_justify="left", show_header=False)
    numbers = {
        "−log p(x)": f"{score.negative_log_likelihood:.3f} ± {score.standard_error:.3f} nats, {score.points} points",
        "true density": f"{score.true_negative_log_likelihood:.3f} nats on the same points",
        "excess": f"{score.excess:.3f} ± {score.excess_standard_error:.3f} nats",
        "evaluations / solve": f"{score.evaluations_per_solve:.1f}",
        "training": f"{settings.steps} steps in {training_seconds:.0f} s",
    }
    for name, text in numbers.items():
        table.add_row(name, text)
    _console().print(table)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)
