"""From the folder of a grid to its report: one file of results, tables, plots, and the table of the README."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_flows.benchmark.presets import POSTERIORS
from vae_flows.benchmark.published import PUBLISHED
from vae_flows.checks import checked
from vae_flows.data.images import is_integer
from vae_flows.errors import DataError, VAEFlowsError, complaint
from vae_flows.evaluation.units import Unit
from vae_flows.persistence.archives import read_npz
from vae_flows.persistence.json_files import read_json, to_lines, write_files
from vae_flows.persistence.records import from_plain
from vae_flows.reporting import (
    Reference,
    RunResult,
    Table,
    results_table,
    summaries_to_csv,
    summarize,
)
from vae_flows.reporting.tables import tables_to_markdown
from vae_flows.runs.folder import FAILURE, IMAGES, METRICS, SETTINGS, data_name, load_settings, run_folder
from vae_flows.runs.groups import group_runs
from vae_flows.runs.literature import deviation_notes
from vae_flows.runs.run import Run
from vae_flows.runs.settings import RunSettings
from vae_flows.runs.standing import ELBO, LIKELIHOOD, standings

__all__ = ["REPORT_FILES", "Results", "collect_results", "render_tables", "write_report"]

REPORT_FILES = RESULTS, TABLE_MARKDOWN, TABLE_CSV = "results.json", "table.md", "table.csv"
BEST = "best"
RECORDS, FORMER_RECORDS = "runs", "cells"
"""Entry of `results.json` that holds the records, and its name before."""
MAX_VALUES = 2**24
"""Of the pictures that a run leaves: more would not be seen."""


@dataclass(frozen=True)
class Results:
    """What the runs of a grid reported, in its order.

    Arguments:
        records: Of each finished run its `metrics.json`; of another data, posterior, seed and status.
        best: By data set and measure, the posterior that is really better than every other, where there is one.
    """

    records: tuple[dict[str, Any], ...]
    best: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    @checked
    def read(cls, path: Path) -> Results:
        """Read a `results.json`.

        Raises:
            DataError: The file is missing or damaged.
        """
        plain = read_json(path)
        records = plain.get(RECORDS, plain.get(FORMER_RECORDS)) if isinstance(plain, dict) else None
        if not isinstance(records, list):
            raise DataError(complaint(str(path), "results of a benchmark", "other JSON"))
        best = plain.get(BEST, {})
        if not isinstance(best, dict) or not all(isinstance(of_data, dict) for of_data in best.values()):
            raise DataError(complaint(f"{path}, {BEST}", "posteriors by data set and measure", "other JSON"))
        return cls(tuple(records), best)

    def to_json(self) -> str:
        """Return JSON with one line per run."""
        best = json.dumps(self.best, ensure_ascii=False)
        return f'{{"{BEST}": {best},\n{to_lines(RECORDS, self.records).removeprefix("{")}'

    def runs(self) -> tuple[RunResult, ...]:
        """Return what tables and plots are made of."""
        return tuple(map(_to_run, self.records))


@checked
def collect_results(root: Path) -> Results:
    """Gather the runs below `root`.

    Raises:
        DataError: There is no run.
    """
    folders = [path.parent for path in root.glob(f"*/*/*/{SETTINGS}")]
    if not folders:
        raise DataError(complaint(str(root), "the folder of a benchmark", "one without a run"))
    records = [_record(folder) for folder in folders]
    order = {name: place for place, name in enumerate(POSTERIORS)}
    records.sort(key=lambda of: (of["data"], order.get(of["posterior"], len(order)), of["posterior"], of["seed"]))
    return Results(tuple(records), _best_of(folders))


def _best_of(folders: Iterable[Path]) -> dict[str, dict[str, str]]:
    """Return, by data set and measure, the posterior whose paired differences to all others are real."""
    found: dict[str, dict[str, str]] = {}
    try:
        standing = standings(group_runs([Run(folder) for folder in sorted(folders)]))
    except VAEFlowsError:  # of runs that cannot be read as a whole, none is called the best
        return {}
    for entry in standing:
        if entry.best is not None:
            found.setdefault(entry.data, {})[entry.measure] = entry.best
    return found


@checked
def render_tables(results: Results) -> tuple[Table, ...]:
    """Return one table per data set, beside the paper's numbers, with notes on what differs from the paper."""
    references = _references()
    return tuple(
        results_table(
            summaries,
            references.get(data),
            _notes(_records_of(data, results)),
            best_elbo=results.best.get(data, {}).get(ELBO),
            best_likelihood=results.best.get(data, {}).get(LIKELIHOOD),
        )
        for data, summaries in summarize(results.runs()).items()
    )


def _records_of(data: str, results: Results) -> list[dict[str, Any]]:
    return [record for record in results.records if record["data"] == data]


def _references() -> dict[str, Reference]:
    return {data: published.reference for data, published in PUBLISHED.items()}


@checked
def write_report(root: Path, destination: Path | None = None) -> tuple[Results, tuple[Path, ...]]:
    """Write `results.json`, `table.md`, `table.csv` and plots of the grid in `root`.

    Arguments:
        root: Folder of the grid.
        destination: Where to write, the same folder by default.

    Returns:
        The results and the files written.
    """
    destination = destination or root
    results = collect_results(root)
    summaries = summarize(results.runs())
    flat = [summary for group in summaries.values() for summary in group]
    files: dict[str, bytes | str] = {
        RESULTS: results.to_json(),
        TABLE_MARKDOWN: tables_to_markdown(render_tables(results)),
        TABLE_CSV: summaries_to_csv(flat, _references()),
    }
    for data in summaries:
        files |= {f"{data}-{name}.png": png for name, png in _draw(root, data, results).items()}
    return results, write_files(destination, files)


def _record(folder: Path) -> dict[str, Any]:
    """Read what a run's folder tells, which is taken for what anyone may have written.

    Raises:
        DataError: It is not what a run writes, or of another run than the folder's.
    """
    if not (folder / METRICS).exists():
        settings = load_settings(folder)
        status = "failed" if (folder / FAILURE).exists() else "unfinished"
        record = {"data": data_name(settings), "posterior": settings.posterior, "seed": settings.seed, "status": status}
        _check_identity(folder / SETTINGS, record)
        return record
    path, plain = folder / METRICS, read_json(folder / METRICS)
    try:
        # Where a data file lies is the business of one machine.
        record = plain | {"status": "finished", "settings": plain["settings"] | {"data_path": None}}
        from_plain(RunSettings, record["settings"])
        run = _to_run(record)
        numbers = [run.negative_elbo, run.negative_log_likelihood, run.seconds_per_epoch, *run.curve]
        if not all(math.isfinite(number) for number in numbers if number is not None):
            raise ValueError("numbers that are not finite")
        if not isinstance(run.unit, str) or not is_integer(run.parameters):
            raise TypeError("another unit, or another number of parameters")
        hash((record["commit"], record["dirty"]))
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        told = f"others ({type(error).__name__}: {error})"
        raise DataError(complaint(str(path), "the metrics of a finished run", told)) from error
    _check_identity(path, record)
    return record


def _check_identity(path: Path, record: Mapping[str, Any]) -> None:
    """Refuse a record that names another run than its folder: names become those of files."""
    data, posterior, seed = record["data"], record["posterior"], record["seed"]
    named = all(isinstance(name, str) for name in (data, posterior)) and is_integer(seed)
    folder = path.parent
    if not named or run_folder(folder.parents[2], data, posterior, seed) != folder or data != folder.parents[1].name:
        got = f"data {data!r}, posterior {posterior!r}, seed {seed!r}"
        raise DataError(complaint(str(path), "the run that its folder is named after", got, "Remove this folder."))


def _to_run(record: Mapping[str, Any]) -> RunResult:
    identity = {"data": record["data"], "posterior": record["posterior"], "seed": record["seed"]}
    if record["status"] != "finished":
        return RunResult(**identity, status=record["status"])
    unit = Unit(record["unit"], record["nats_per_unit"], record.get("nats_at_zero", 0.0))
    test, history = record["test"], record["history"]
    likelihood, seconds = test["negative_log_likelihood"], history["seconds"]
    return RunResult(
        **identity,
        unit=unit.name,
        negative_elbo=unit.of(test["negative_elbo"]),
        negative_log_likelihood=None if likelihood is None else unit.of(likelihood),
        evaluations_per_solve=test["evaluations_per_solve"],
        seconds_per_epoch=sum(seconds) / len(seconds) if seconds else None,
        parameters=record["parameters"],
        curve=tuple(map(unit.of, history["validation_negative_elbo"])),
        epoch_seconds=tuple(seconds),
        epoch_evaluations=tuple(count for count in history.get("evaluations_per_solve", ()) if count is not None),
    )


def _notes(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what a reader must know to compare these runs of one data set with the paper's and among themselves."""
    finished = [record for record in records if record["status"] == "finished"]
    unfinished = sum(record["status"] == "unfinished" for record in records)
    failed = len(records) - len(finished) - unfinished
    notes = [f"{failed} of {len(records)} runs failed."] if failed else []
    notes += [f"{unfinished} of {len(records)} runs are not finished."] if unfinished else []
    if len({(record["commit"], record["dirty"]) for record in finished}) > 1:
        notes.append("The runs come from different versions of the code.")
    settings = [from_plain(RunSettings, record["settings"]) for record in finished]
    published = PUBLISHED.get(records[0]["data"])
    return notes if published is None else [*notes, *deviation_notes(settings, published)]


def _draw(root: Path, data: str, results: Results) -> dict[str, bytes]:
    """Return plots of one data set, as PNG, by name."""
    # Imported here, as they bring matplotlib, which those who train need not have.
    from vae_flows.reporting.plots import image_grid, plot_costs, plot_curves, plot_elbo_by_time, plot_results, to_png

    runs = [run for run in results.runs() if run.data == data]
    figures = {}
    if any(run.curve for run in runs):
        figures["elbo-by-epoch"] = plot_curves(runs, title=data)
    if any(run.curve and run.epoch_seconds for run in runs):
        figures["elbo-by-time"] = plot_elbo_by_time(runs, title=data)
    if any(run.negative_elbo is not None for run in runs):
        title = f"{data}: mean ± std, seeds as circles"
        figures["test-elbo"] = plot_results(runs, summarize(runs)[data], title=title)
    if any(run.status == "finished" for run in runs):
        figures["costs"] = plot_costs([run for run in runs if run.status == "finished"], title=data)
    # Runs on other data than images leave none; those of before the entry were all on images.
    drawn = {
        (record["data"], record["posterior"], record["seed"])
        for record in results.records
        if record["status"] == "finished" and record.get("has_images", True)
    }
    images = {
        run.posterior: _read_images(root, run) for run in reversed(runs) if (run.data, run.posterior, run.seed) in drawn
    }
    if images:
        shown = dict(reversed(images.items()))
        originals = next(iter(shown.values()))["originals"]
        reconstructions = {"original": originals, **{name: rows["reconstructions"] for name, rows in shown.items()}}
        figures["reconstructions"] = image_grid(reconstructions, title=f"{data}: test images and reconstructions")
        samples = {name: rows["samples"] for name, rows in shown.items()}
        figures["samples"] = image_grid(samples, title=f"{data}: samples from the prior, decoded")
    return {name: to_png(figure) for name, figure in figures.items()}


def _read_images(root: Path, run: RunResult) -> dict[str, NDArray[np.float64]]:
    path = run_folder(root, run.data, run.posterior, run.seed) / IMAGES
    stored = read_npz(path, ("originals", "reconstructions", "samples"))
    for name, levels in stored.items():
        if levels.dtype != np.uint8 or levels.ndim != 4 or levels.size > MAX_VALUES:
            got = f"{levels.dtype} of shape {levels.shape}"
            raise DataError(complaint(f"{path}, {name}", "levels (N, C, H, W) of a few images", got))
    return {name: levels / 255.0 for name, levels in stored.items()}
