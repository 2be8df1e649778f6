"""The commands: what each does, in terms of the other modules."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from vae_flows.benchmark.engine import IN_USE
from vae_flows.benchmark.engines import EngineSettings, open_engine
from vae_flows.benchmark.grid import grid_settings, plan_grid, run_grid
from vae_flows.benchmark.monitor import open_monitor
from vae_flows.benchmark.presets import Preset, find_preset
from vae_flows.benchmark.published import PUBLISHED
from vae_flows.benchmark.report import REPORT_FILES, render_tables, write_report
from vae_flows.cli.console import open_console
from vae_flows.cli.evaluation import (
    diagnostics_progress,
    diagnostics_table,
    evaluation_progress,
    evaluation_table,
    test_table,
)
from vae_flows.cli.flags import Alias, Group, Subject
from vae_flows.cli.run_flags import NO_CHANGES, Changes, changes_flags
from vae_flows.data import DataSet, available_data_sets, load
from vae_flows.errors import DataError, FolderInUseError, InvalidInputError, complaint, refuse_unused
from vae_flows.extras import needing
from vae_flows.flows import available_flows
from vae_flows.persistence.files import file_errors
from vae_flows.persistence.json_files import check_destination
from vae_flows.processes import is_main_process
from vae_flows.runs.build import build_data, build_vae
from vae_flows.runs.comparison import compare as compare_runs
from vae_flows.runs.comparison import find_runs
from vae_flows.runs.diagnosis import DIAGNOSTICS_FILES, diagnose_run, read_diagnostics
from vae_flows.runs.evaluations import evaluate_run, evaluation_name
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import METRICS, SETTINGS, folder_of, load_settings, prepare
from vae_flows.runs.page import PAGE_FILES, write_page
from vae_flows.runs.settings import RunSettings, with_changes
from vae_flows.runs.settings_files import read_settings, settings_text

with needing("cli"):
    import tyro
    from rich.console import Console

__all__ = [
    "benchmark",
    "benchmark_flags",
    "compare",
    "data",
    "evaluate",
    "flows",
    "report",
    "run",
    "train",
    "train_flags",
]

RUNS = Path("runs")
PRESET, DATA, POSTERIOR = "quick", "caltech101-silhouettes", "ffjord"
COLOUR_CHANNELS = 3
THIS_MACHINE = EngineSettings()

Folder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
SettingsFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]


def train(
    data: Annotated[str | None, Subject("data set")] = None,
    posterior: Annotated[str | None, Subject("flow")] = None,
    preset: str | None = None,
    settings: SettingsFile = None,
    seed: Annotated[int | None, Alias("--training.seed")] = None,
    folder: Path | None = None,
    resume: bool = False,
    print_settings: bool = False,
    changes: Changes = NO_CHANGES,
) -> int:
    """Train one VAE and test it.

    Options of the posterior are flags with its name, such as --ffjord.rank 8; --posterior planar --help shows others.

    --network.kind chooses among the library's networks. Networks of your own are trained from Python: an encoder from
    x to features, a decoder from z to the parameters of the likelihood.

        import vae_flows as vf
        data = vf.data.load("mnist-static")
        posterior = vf.AmortizedPosterior(64, 256, flow="ffjord")
        likelihood = vf.likelihoods.BernoulliLikelihood()
        vae = vf.VAE(MyEncoder(), MyDecoder(), posterior, likelihood)
        vf.training.train(vae, data, vf.training.TrainingSettings(max_epochs=36))
        vae.save_pretrained("mine")

    Arguments:
        data: Name of a data set, or path of an .npz, .npy or .csv file or of a folder of pictures; by default that of
            --settings, or caltech101-silhouettes.
        posterior: Name of the posterior's flow; by default that of --settings, or ffjord.
        preset: Where settings come from: quick by default, quick-all, smoke or paper.
        settings: Where they come from instead: a file that --print-settings wrote, TOML with the same names, or the
            folder of a run. Flags beside it win.
        seed: Seed of weights, batches and draws; by default that of --settings, or 0.
        folder: Where to put settings, checkpoints, logs and metrics; by default a folder below runs/train.
        resume: Go on from the folder's checkpoint.
        print_settings: Only print all settings, as --settings reads them.
        changes: Settings to change.
    """
    chosen = with_changes(_run_settings(data, posterior, preset, settings, seed), *changes)
    if print_settings:
        print(settings_text([chosen]), end="")
        return 0
    folder = folder or folder_of(RUNS / "train", chosen)
    if is_main_process():
        _prepare_training(folder, chosen, resume)
    metrics = execute(folder, progress=True)
    if metrics is not None:
        console = open_console()
        console.print(test_table(f"{chosen.posterior} on {chosen.data}: test", metrics))
        if chosen.evaluation.diagnostics and (diagnosed := read_diagnostics(folder)) is not None:
            console.print(diagnostics_table("diagnostics", diagnosed))
        print(f"All of it is in {folder}.")
    return 0


def evaluate(
    folder: Folder,
    importance_samples: int = 1000,
    chunk_size: int | None = None,
    batch_size: int | None = None,
    diagnostics: bool = False,
    device: str = "auto",
    devices: int = 1,
) -> int:
    """Test a trained VAE again: −ELBO and, by importance sampling, bounds up to −log p(x), with the time left.

    What is finished is kept, and the same command goes on from it after a kill. With --diagnostics its posterior is
    diagnosed instead: collapse, unused units, importance weights, noise, inverses, calibration. Reports show both.
    Runs with evaluation.diagnostics, as quick and paper have it, are diagnosed when they are trained.

    Arguments:
        folder: Folder of a run, or one that holds runs at any depth.
        importance_samples: Samples per image; 0 leaves −log p(x) out. The literature uses 5000.
        chunk_size: Samples of all images of a batch at once, by default what is fast; fewer need less memory.
        batch_size: Images at once, by default what is fast.
        diagnostics: Diagnose the posterior, on a few images: about a minute for each run.
        device: cpu, cuda, cuda:1, mps, …; auto takes a GPU if there is one.
        devices: Number of devices of that kind, with one process each, which share the images; on the CPU no more than
            it has processors (two on any).
    """
    if diagnostics:
        refuse_unused("evaluate", "--diagnostics", devices=devices if devices != 1 else None)
    folders = [run.folder for run in find_runs(folder)] if folder.is_dir() else [folder]
    console = open_console()
    for each in folders:
        settings = load_settings(each)
        title = f"{settings.posterior} on {settings.data}, seed {settings.seed}"
        if diagnostics:
            check_destination(each, *DIAGNOSTICS_FILES)
            with diagnostics_progress(console) as tell:
                diagnosed = diagnose_run(each, device, tell)
            console.print(diagnostics_table(f"{title}: diagnostics", diagnosed))
            print(f"Written to {each / DIAGNOSTICS_FILES[0]}.")
            continue
        name = evaluation_name(importance_samples)
        check_destination(each, f"{name}.json", f"{name}.npz")
        with evaluation_progress(console) as progress:
            found = evaluate_run(
                each,
                importance_samples,
                batch_size=batch_size,
                chunk_size=chunk_size,
                device=device,
                devices=devices,
                progress=progress,
            )
        if is_main_process():
            console.print(evaluation_table(f"{title}: test", found))
            print(f"Written to {each / name}.json; scores of each image are beside it.")
    return 0


def benchmark(
    preset: str | None = None,
    settings: SettingsFile = None,
    posteriors: Annotated[tuple[str, ...], Subject("flow")] = (),
    data: Annotated[tuple[str, ...], Subject("data set")] = (),
    seeds: Annotated[tuple[int, ...], Alias("--training.seed")] = (),
    folder: Path | None = None,
    engine: EngineSettings = THIS_MACHINE,
    print_settings: bool = False,
    changes: Changes = NO_CHANGES,
) -> int:
    """Compare posteriors: train and test every posterior on every data set with every seed, and report.

    Finished runs are not repeated, interrupted ones go on from their checkpoints, a failed one does not stop the
    others, nor does one that another process works on. The exit status is 1 when any failed.

    Arguments:
        preset: Where settings come from: quick by default, quick-all, smoke or paper.
        settings: Where they come from instead: a file that --print-settings wrote, TOML with the same names, or the
            folder of a run. Flags beside it win.
        posteriors: Instead of those of the preset or file.
        data: Data sets, instead of those of the preset or file: names, or paths of .npz, .npy or .csv files or of
            folders of pictures.
        seeds: Instead of those of the preset or file.
        folder: Where to put everything; by default runs/ and the name of the preset or file.
        engine: Where the runs take place.
        print_settings: Only print the settings of all runs, as --settings reads them.
        changes: Settings to change in every run, and options of single posteriors.
    """
    folder = folder or RUNS / (settings.stem if settings else preset or PRESET)
    source = _grid_source(preset, settings, posteriors, data)
    common, flow_options = changes
    runs = plan_grid(
        source, folder, posteriors=posteriors, data=data, seeds=seeds, changes=common, flow_options=flow_options
    )
    if print_settings:
        print(settings_text([run.settings for run in runs]), end="")
        return 0
    check_destination(folder, *REPORT_FILES, *PAGE_FILES)
    for chosen in {run.settings.data: run.settings for run in runs}.values():
        if chosen.data not in available_data_sets():  # what is wrong with them shows before anything is trained
            build_vae(chosen, build_data(chosen))
    console = open_console()
    with (
        open_engine(engine, runs[0].settings.compute) as runner,
        open_monitor(console, runs, runner.workers) as monitor,
    ):
        outcomes = run_grid(runs, runner, monitor)
    _report(console, folder, None)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        print(f"failed: {outcome.run.label} ({outcome.run.folder}): {outcome.error}", file=sys.stderr)
    return 1 if failed else 0


def report(runs: Annotated[tuple[Path, ...], tyro.conf.Positional], publish: Path | None = None) -> int:
    """Make one page of HTML from any runs, with its tables as Markdown and LaTeX.

    From the folder of a benchmark, results.json, tables and plots are made as well, and the table is shown.

    Arguments:
        runs: Folders of runs, or folders that hold runs at any depth.
        publish: Where to write, by default to the first folder that there is: small files, fit to be committed.
    """
    if not runs:
        raise InvalidInputError(complaint("runs of report", "at least one folder", "none"))
    destination = publish or next((folder for folder in runs if folder.is_dir()), None)
    if destination is None:
        got, remedy = ", ".join(map(str, runs)), "Check the names."
        raise DataError(complaint("runs of a report", "at least one that can be read", got, remedy))
    if len(runs) == 1 and any(runs[0].glob(f"*/*/*/{SETTINGS}")):
        _report(open_console(), runs[0], publish)
    else:
        _print_page(write_page(runs, destination, PUBLISHED))
    return 0


def compare(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    style: Literal["text", "markdown", "csv", "latex"] = "text",
) -> int:
    """Compare any runs: one row for each posterior and each setting that differs, over the seeds.

    Arguments:
        runs: Folders of runs, or folders that hold runs at any depth.
        style: How to print the table.
    """
    table = compare_runs(runs)
    if style == "text":
        open_console().print(table.to_rich())
    else:
        print({"markdown": table.to_markdown, "csv": table.to_csv, "latex": table.to_latex}[style](), end="")
    return 0


def flows() -> int:
    """List the posteriors that are known: the library's, registered ones, and the families of other libraries."""
    print(*available_flows(), sep="\n")
    return 0


def data(names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()) -> int:
    """List the data sets that are known, or say what those are that are named.

    Arguments:
        names: Names, or paths of .npz, .npy or .csv files or of folders of pictures; they are loaded.
    """
    if not names:
        print(*available_data_sets(), sep="\n")
        return 0
    for name in names:
        found = load(name)
        sizes = ", ".join(f"{part} {len(getattr(found, part)):,}" for part in ("train", "validation", "test"))
        shape = "×".join(map(str, found.event_shape))
        print(f"{found.name}: {shape}, {_values_of(found)}; {sizes}. {found.description}")
    return 0


def _values_of(data: DataSet) -> str:
    """Say in a word what the values of a data set are."""
    if data.pixels is None:
        return "numbers"
    return "colour" if data.pixels == "grey" and data.event_shape[0] == COLOUR_CHANNELS else data.pixels


def run(folder: Folder) -> int:
    """Train and test the run that settings.json in a folder defines; a benchmark starts its runs this way.

    Arguments:
        folder: Folder of the run.
    """
    try:
        execute(folder)
    except FolderInUseError as error:
        print(f"error: {error}", file=sys.stderr)
        return IN_USE
    return 0


def train_flags(given: Mapping[str, Any], arguments: Sequence[str]) -> Group:
    """Return the flags of `train` that depend on the run that others name."""
    names = ("data", "posterior", "preset", "settings", "seed")
    return changes_flags([_run_settings(*map(given.get, names))], arguments)


def benchmark_flags(given: Mapping[str, Any], arguments: Sequence[str]) -> Group:
    """Return the flags of `benchmark` that depend on the runs that others name."""
    axes = {name: given.get(name, ()) for name in ("posteriors", "data", "seeds")}
    source = _grid_source(given.get("preset"), given.get("settings"), axes["posteriors"], axes["data"])
    return changes_flags(grid_settings(source, **axes), arguments)


def _run_settings(
    data: str | None, posterior: str | None, preset: str | None, file: Path | None, seed: int | None
) -> RunSettings:
    """Return the settings that a preset or a file has for a run, before any other flags."""
    if file is None:
        return find_preset(preset or PRESET).settings(data or DATA, posterior or POSTERIOR, seed or 0)
    _refuse_both(preset, file)
    named = {name: value for name, value in (("data", data), ("posterior", posterior)) if value is not None}
    runs = read_settings(file, named)
    if len(runs) > 1:
        raise InvalidInputError(complaint(str(file), "the settings of one run", f"those of {len(runs)}"))
    return with_changes(next(iter(runs)), named if seed is None else {**named, "training.seed": seed})


def _grid_source(
    preset: str | None, file: Path | None, posteriors: Sequence[str], data: Sequence[str]
) -> Preset | tuple[RunSettings, ...]:
    """Return where the settings of a grid come from."""
    if file is None:
        return find_preset(preset or PRESET)
    _refuse_both(preset, file)
    absent = {name: values[0] for name, values in {"posterior": posteriors, "data": data}.items() if values}
    return read_settings(file, absent)


def _refuse_both(preset: str | None, file: Path) -> None:
    if preset is not None:
        raise InvalidInputError(complaint("--preset", f"none beside --settings {file}", repr(preset), "Leave one out."))


def _prepare_training(folder: Path, settings: RunSettings, resume: bool) -> None:
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
    prepare(folder, settings)


def _report(console: Console, folder: Path, destination: Path | None) -> None:
    """Report a benchmark; the page is written even where its results are damaged, which it tells."""
    destination = destination or folder
    try:
        results, files = write_report(folder, destination)
    except DataError:
        _print_page(write_page([folder], destination, PUBLISHED))
        raise
    tables = render_tables(results)
    for table in tables:
        console.print(table.to_rich())
    print(f"Written to {destination}: {', '.join(path.name for path in files)}.")
    _print_page(write_page([folder], destination, PUBLISHED))


def _print_page(files: Sequence[Path]) -> None:
    print(f"The report is {files[0]}; its tables are {', '.join(path.name for path in files[1:])} beside it.")
