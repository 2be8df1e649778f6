"""The commands about this project's own figures: what each does, in terms of the other modules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from rich.table import Table
from rich.text import Text

from experiments.ablations import find_questions, plan_ablations, retest_models, write_ablations
from experiments.density import (
    DensitySettings,
    GlowSettings,
    Score,
    run_density,
    run_glow,
    run_trials,
    write_comparison,
    write_densities,
    write_trials,
)
from experiments.density.settings import ALL
from experiments.density.tabular import MODELS, TabularSettings, is_table, load_table, run_table, write_tables
from experiments.images import ImageSettings, paper_settings, run_images, write_images
from experiments.speed.speed_comparison import FULL, QUICK, compare
from experiments.speed.speed_report import write_comparison as write_speed
from experiments.threads import torch_threads
from vae_flows.benchmark.grid import run_grid
from vae_flows.benchmark.local import LocalEngine
from vae_flows.benchmark.monitor import open_monitor
from vae_flows.checks import require_device
from vae_flows.cli.console import open_console
from vae_flows.cli.flags import Group, flags_of_record
from vae_flows.data import available_toys
from vae_flows.persistence.json_files import check_destination
from vae_flows.reporting import Table as ResultTable

__all__ = ["ablations", "density", "density_flags", "density_glow", "density_images", "regularizers", "speed"]

MakeSettings = Callable[..., DensitySettings | TabularSettings]

RUNS = Path("runs")
ABLATION_SEEDS = (1, 2, 3, 4)
QUICK_IMAGES = ImageSettings()
DENSITY, EVERY_DENSITY = DensitySettings(), DensitySettings(data=ALL)
REGULARIZED = DensitySettings(hidden_dims=(64, 64), steps=800, batch_size=128, test_tolerance=1e-5)


def speed(
    folder: Path = RUNS / "speed",
    publish: Path | None = None,
    quick: bool = False,
    rounds: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> int:
    """Compare the speed of this library with published formulations, zuko, diffrax, torchode and Pyro at equal work.

    The peers come with `make speed`; those that are not installed are told. Takes half an hour, on a machine that does
    nothing else.

    Arguments:
        folder: Where to put tables, plot and numbers.
        publish: Write them there instead: small files, fit to be committed.
        quick: Tiny sizes, to see that everything works; the times say nothing.
        rounds: Interleaved rounds at each size, instead of the plan's.
        threads: Threads of PyTorch and XLA; by default all cores.
        device: On which PyTorch computes: cpu, or cuda where there is a GPU. Peers that know the CPU alone are told.
    """
    require_device("device", device)
    plan = QUICK if quick else FULL
    console = open_console()
    check_destination(publish or folder)
    plan = plan if rounds is None else replace(plan, rounds=rounds)
    comparison = compare(plan, threads=threads, device=device, say=console.print)
    tables, files = write_speed(comparison, publish or folder)
    for table in tables:
        console.print(table.to_rich())
    print(f"Written to {publish or folder}: {', '.join(path.name for path in files)}.")
    return 0


def density(
    data: str = DENSITY.data,
    folder: Path = RUNS / "density",
    publish: Path | None = None,
    threads: int = 1,
    settings: MakeSettings | None = None,
) -> int:
    """Learn a density by maximum likelihood: a toy density of the plane, or a table of numbers.

    A toy density is tested exactly and drawn, some minutes on two cores each. A table is learned by a Gaussian, a
    continuous flow and a spline flow of zuko in equal time; its settings are others: --data my.csv --help shows them.

    Arguments:
        data: 8gaussians, checkerboard, moons, 2spirals, rings, pinwheel or swissroll, or all of them; or a table: the
            path of an .npz, .npy or .csv file, or one of the literature's five as power:path, gas:path, hepmass:folder,
            miniboone:path or bsds300:path, which is prepared as published.
        folder: Where to put pictures, weights and metrics, in a folder for each density and seed. A finished run of the
            same settings that is there is not repeated, one of other settings is replaced.
        publish: Write one table, picture and file of numbers there: small files, fit to be committed.
        threads: Threads of PyTorch. These matrices are so small that more make it slower.
        settings: Makes the settings for the name of a density; by default the kind's own.
    """
    settings = settings or _settings_of(data)
    names = available_toys() if data == ALL else [data]
    runs = [settings(data=name) for name in names]
    check_destination(folder)
    if publish is not None:
        check_destination(publish)
    with torch_threads(threads):
        written = _learn_table(runs[0], folder, publish) if is_table(data) else _learn_toys(runs, folder, publish)
    if written is not None:
        table, files = written
        open_console().print(table.to_rich())
        print(f"Written to {files[0].parent}: {', '.join(path.name for path in files)}.")
    return 0


def density_flags(given: Mapping[str, Any], _arguments: Sequence[str]) -> Group:
    """Return the flags of `density` that depend on what is learned: a toy density or a table."""
    kind = _settings_of(given.get("data", DENSITY.data))

    def make(changes: Mapping[str, Any]) -> MakeSettings:
        return partial(kind, **changes)

    return Group("settings", flags_of_record(kind, without=("data",)), None, "flow, training and test", make)


def density_glow(
    settings: DensitySettings = EVERY_DENSITY,
    glow_steps: int = 16,
    glow_learning_rate: float = 2e-3,
    folder: Path = RUNS / "density",
    publish: Path | None = None,
    threads: int = 1,
) -> int:
    """Learn toy densities by FFJORD, and by a discrete flow like Glow in at least the same processor time.

    Two to five minutes a density on one core. Finished runs are not repeated, those of the command density neither.

    Arguments:
        settings: Data, FFJORD's training and test; seed and test are the other flow's, too.
        glow_steps: Steps of the flow like Glow.
        glow_learning_rate: Its learning rate at the start.
        folder: Where to put runs, in folders for each density, flow and seed.
        publish: Write table, picture and numbers there instead of to the folder: small files, fit to be committed.
        threads: Threads of PyTorch. These matrices are so small that more make it slower.
    """
    console, places = open_console(), []
    check_destination(publish or folder)
    for name in available_toys() if settings.data == ALL else [settings.data]:
        run = replace(settings, data=name)
        ffjord, glow = folder / name / f"seed-{run.seed}", folder / name / f"glow-seed-{run.seed}"
        with torch_threads(threads):
            metrics = run_density(ffjord, run)
            seconds = metrics["processor_seconds"]
            other = GlowSettings(
                name,
                seconds,
                seed=run.seed,
                num_steps=glow_steps,
                learning_rate=glow_learning_rate,
                test_size=run.test_size,
            )
            found = run_glow(glow, other)
        excess = [f"{record['test']['excess']:.3f}" for record in (metrics, found)]
        console.print(Text(f"{name}: {excess[0]} nats above the true density by FFJORD, {excess[1]} like Glow"))
        places.append((ffjord, glow))
    table, files = write_comparison(places, publish or folder)
    console.print(table.to_rich())
    print(f"Written to {publish or folder}: {', '.join(path.name for path in files)}.")
    return 0


def density_images(
    data: tuple[str, ...] = ("frey-faces", "omniglot"),
    preset: Literal["quick", "paper"] = "quick",
    scales: tuple[int, ...] = (1, 3),
    dequantization: tuple[Literal["uniform", "variational"], ...] = ("uniform",),
    seconds: float = QUICK_IMAGES.seconds or 0.0,
    seed: int = 0,
    folder: Path = RUNS / "images",
    publish: Path | None = None,
    threads: int = 1,
) -> int:
    """Learn densities of images by convolutional flows, at one scale and at several, in equal time.

    An interrupted run goes on, a finished one is not repeated. The published settings (--preset paper --data mnist
    cifar10) are for a GPU.

    Arguments:
        data: Data sets of grey or colour images.
        preset: Settings of minutes, or those of the paper, whose number of scales and of epochs are its own.
        scales: Numbers of scales to compare, for the quick preset.
        dequantization: Noise within the cells of pixels: uniform, or variational, which is learned.
        seconds: Processor time of each training, of all threads together, for the quick preset.
        seed: Seed of weights, noise and order.
        folder: Where to put weights, samples and metrics, in a folder for each run.
        publish: Write table, curves and pictures there: small files, fit to be committed.
        threads: Threads of PyTorch; with one, a training lasts as long as its processor time.
    """
    if preset == "paper":
        runs = [paper_settings(name, multiscale=multiscale) for name in data for multiscale in (False, True)]
    else:
        runs = [
            replace(QUICK_IMAGES, data=name, num_scales=number, seconds=seconds) for name in data for number in scales
        ]
    runs = [replace(run, dequantization=noise, seed=seed) for run in runs for noise in dequantization]
    places = [
        folder / Path(run.data).stem / f"{run.num_scales}-scales-{run.dequantization}" / f"seed-{seed}" for run in runs
    ]
    check_destination(folder)
    if publish is not None:
        check_destination(publish)
    for run, place in zip(runs, places, strict=True):
        print(f"{run.data}, {run.num_scales} scale(s), {run.dequantization} noise:")
        with torch_threads(threads):
            metrics = run_images(place, run, print)
        print(f"  test {metrics['test']['bits_per_dim']:.3f} ± {metrics['test']['standard_error']:.3f} bits/dim")
    table, files = write_images(places, publish or folder)
    open_console().print(table.to_rich())
    print(f"Written to {publish or folder}: {', '.join(path.name for path in files)}.")
    return 0


def ablations(
    questions: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (),
    folder: Path | None = None,
    publish: Path | None = None,
    quick: bool = False,
    workers: int | None = None,
    threads: int | None = None,
) -> int:
    """Ask what each part of FFJORD as a posterior is worth: trained settings, intervals, and an answer in a sentence.

    Finished runs are not repeated, interrupted ones go on from their checkpoints.

    Arguments:
        questions: Names of questions: tolerance, training, dimension, time, noise, amortization, blocks, gradient,
            length; by default all.
        seeds: Seeds of each setting, by default 1 to 4, or with --quick 1 alone.
        folder: Where to put runs, tables, pictures and numbers; by default runs/ablations.
        publish: Write tables, pictures and numbers there instead: small files, fit to be committed.
        quick: Tiny models on a few images, to see that everything works; the answers say nothing.
        workers: Runs at once; by default as many as there are cores.
        threads: Threads of each run.
    """
    asked, console = find_questions(questions), open_console()
    seeds = seeds or (ABLATION_SEEDS[:1] if quick else ABLATION_SEEDS)
    folder = folder or RUNS / ("ablations-quick" if quick else "ablations")
    check_destination(folder)
    if publish is not None:
        check_destination(publish)
    runs = plan_ablations(asked, folder, seeds=seeds, tiny=quick)
    engine = LocalEngine(workers, threads, gpus_each=0)
    with open_monitor(console, runs, engine.workers) as monitor:
        outcomes = run_grid(runs, engine, monitor)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        print(f"failed: {outcome.run.folder}: {outcome.error}", file=sys.stderr)
    if failed:
        return 1
    with torch_threads(torch.get_num_threads() if threads is None else threads):
        retest_models(asked, folder, seeds=seeds, tiny=quick, say=lambda line: console.print(Text(line)))
    tables, files = write_ablations(asked, folder, publish or folder, seeds=seeds, tiny=quick)
    for table in tables:
        console.print(table.to_rich())
    print(f"Written to {publish or folder}: {', '.join(path.name for path in files)}.")
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
    settings, console = replace(REGULARIZED, steps=steps), open_console()
    check_destination(publish or folder)
    with torch_threads(threads):
        results = run_trials(settings, folder, data=data, seeds=seeds, say=lambda line: console.print(Text(line)))
    tables, files = write_trials(results, publish or folder)
    for table in tables:
        console.print(table.to_rich())
    print(f"Written to {publish or folder}: {', '.join(path.name for path in files)}.")
    return 0


def _settings_of(data: str) -> type[DensitySettings] | type[TabularSettings]:
    return TabularSettings if is_table(data) else DensitySettings


def _learn_toys(runs: Sequence[Any], folder: Path, publish: Path | None) -> tuple[ResultTable, tuple[Path, ...]] | None:
    places = [folder / run.data / f"seed-{run.seed}" for run in runs]
    for run, place in zip(runs, places, strict=True):
        metrics = run_density(place, run)
        _print_score(run, Score(**metrics["test"]), metrics["training"]["seconds"])
        print(f"Picture, weights and metrics are in {place}.")
    return None if publish is None else write_densities(places, publish)


def _learn_table(run: Any, folder: Path, publish: Path | None) -> tuple[ResultTable, tuple[Path, ...]]:
    table = load_table(run.data, split_seed=run.split_seed, label_column=run.label_column)
    places = [folder / table.name / f"{model}-seed-{run.seed}" for model in MODELS]
    for model, place in zip(MODELS, places, strict=True):
        print(f"{table.name}, {model}:")
        test = run_table(place, model, table, run, print)["test"]
        print(f"  test {test['negative_log_likelihood']:.3f} ± {test['standard_error']:.3f} nats")
    return write_tables(places, publish or folder / table.name)


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
    open_console().print(table)
