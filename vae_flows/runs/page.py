"""Any runs as one page of HTML that stands by itself: results, differences, figures, settings, failures, provenance.

What runs left behind is taken for what anyone may have written: all of it is escaped, and damage is told in its place.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from vae_flows.checks import check_argument
from vae_flows.errors import DataError, InvalidInputError, VAEFlowsError, complaint
from vae_flows.extras import needing
from vae_flows.persistence.json_files import read_json, write_files
from vae_flows.persistence.records import flatten, to_plain
from vae_flows.reporting.tables import Table, tables_to_markdown
from vae_flows.runs.comparison import find_runs, tabulate
from vae_flows.runs.diagnosis import read_details
from vae_flows.runs.evaluations import find_interrupted
from vae_flows.runs.figures import draw_figures
from vae_flows.runs.folder import FAILURE
from vae_flows.runs.groups import RunGroup, group_runs
from vae_flows.runs.literature import Literature
from vae_flows.runs.page_tables import diagnostics_tables, evaluations_table, standing_tables
from vae_flows.runs.run import Run
from vae_flows.runs.standing import standings

# What lacks is told before a benchmark trains, not when it comes to its page: only commands import this module.
with needing("cli"):
    from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["PAGE_FILES", "write_page"]

PAGE_FILES = PAGE, MARKDOWN, LATEX = "report.html", "report.md", "report.tex"
MISSING = "–"
NOT_SHOWN = ("training.seed", "data_path")
"""Settings that tell runs of a group apart, or where data lie, which is the business of one machine."""


class Problem(NamedTuple):
    """What is wrong with a folder, and how it is known."""

    folder: str
    kind: str
    text: str


class Picture(NamedTuple):
    """A figure as it stands in the page: PNG in base64, or why there is none."""

    title: str
    alternative: str
    png: str
    error: str


class SettingRow(NamedTuple):
    """One setting in all groups of runs."""

    name: str
    values: tuple[str, ...]
    differs: bool


@dataclass(frozen=True)
class Readable:
    """The runs that can be read, and what is wrong with the others."""

    runs: tuple[Run, ...]
    problems: tuple[Problem, ...]


def write_page(
    runs: Iterable[Path | str], destination: Path, literature: Mapping[str, Literature] = MappingProxyType({})
) -> tuple[Path, ...]:
    """Write `report.html`, and its tables as `report.md` and `report.tex`, of any runs.

    A folder that is missing or damaged, a run that failed, and a test that was interrupted are told in the page; the
    rest stands.

    Arguments:
        runs: Folders of runs, or folders that hold runs at any depth.
        destination: The folder to write to.
        literature: Published numbers to stand beside, by data set.

    Returns:
        The files.

    Raises:
        DataError: No run can be read; the page is written, and says why.
        FileError: A file cannot be written.
    """
    if isinstance(runs, str | Path):
        raise InvalidInputError(complaint("runs of write_page", "several folders", repr(runs), "Pass a list."))
    found = _read(runs)
    groups = group_runs(found.runs)
    tables = _tables(groups, literature) if groups else []
    environment = Environment(
        loader=PackageLoader("vae_flows.runs"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template(PAGE).render(
        tables=tables,
        pictures=[*_pictures(found.runs)],
        problems=found.problems,
        labels=[f"{group.data}: {group.label}" for group in groups],
        settings=_settings(groups),
        provenance=_provenance(found.runs),
    )
    contents = {PAGE: page, MARKDOWN: tables_to_markdown(tables), LATEX: "\n".join(t.to_latex() for t in tables)}
    files = write_files(destination, contents)
    if not found.runs:
        told = "; ".join(problem.text for problem in found.problems) or "none"
        raise DataError(complaint("runs of a report", "at least one that can be read", told))
    return files


def _tables(groups: Sequence[RunGroup], literature: Mapping[str, Literature]) -> list[Table]:
    standing = standings(groups)
    tables = [tabulate(groups, standing, literature)]
    tables += [table for entry in standing for table in standing_tables(entry)]
    later = evaluations_table(groups)
    return tables + ([later] if later else []) + diagnostics_tables(groups)


def _read(folders: Iterable[Path | str]) -> Readable:
    runs: dict[Path, Run] = {}
    problems = []
    for folder in folders:
        try:
            found = find_runs(folder)
        except VAEFlowsError as error:
            problems.append(Problem(str(folder), "no runs", str(error)))
            continue
        for run in found:
            try:
                _check(run)
            except (VAEFlowsError, TypeError, ValueError) as error:
                problems.append(Problem(str(run.folder), "damaged", str(error)))
                continue
            runs.setdefault(run.folder.resolve(), run)
    for run in runs.values():
        problems += _problems(run)
    return Readable(tuple(runs.values()), tuple(problems))


def _check(run: Run) -> None:
    """Read everything that the page shows of a run.

    Raises:
        DataError: A number is missing or not finite.
    """
    _ = run.settings, run.to_record()
    if (metrics := run.metrics) is None:
        return
    for name in ("versions", "hardware"):
        check_argument(f"{name} of {run.folder}", getattr(metrics, name), Mapping)
    likelihood = metrics.test.negative_log_likelihood
    numbers = [metrics.test.negative_elbo, metrics.nats_per_unit, metrics.nats_at_zero]
    numbers += [metrics.training_seconds, metrics.best_epoch]
    numbers += [metrics.parameters] if likelihood is None else [metrics.parameters, likelihood]
    if not np.isfinite(np.array(numbers, dtype=float)).all():
        raise DataError(complaint(str(run.folder), "finite numbers", repr(numbers)))


def _problems(run: Run) -> list[Problem]:
    """Tell what is not finished or damaged in a run that can be read."""
    unfinished = _unfinished(run)
    found = [] if unfinished is None else [unfinished]
    parts: tuple[Callable[[], object], ...] = (
        lambda: run.scores,
        lambda: [run.evaluation_scores(evaluation) for evaluation in run.evaluations],
        lambda: run.diagnostics,
        lambda: read_details(run.folder),
    )
    for read in parts:
        try:
            read()
        except VAEFlowsError as error:
            found.append(Problem(str(run.folder), "damaged in part", str(error)))
    for name, told in find_interrupted(run.folder):
        text = f"{name}: {told}. The same command goes on from there, if it is not under way."
        found.append(Problem(str(run.folder), "unfinished test", text))
    return found


def _unfinished(run: Run) -> Problem | None:
    if run.status == "finished":
        return None
    if run.status == "unfinished":
        return Problem(str(run.folder), "unfinished", f"{len(run.history)} epochs so far, and no test")
    try:
        plain = read_json(run.folder / FAILURE)
    except VAEFlowsError as error:
        return Problem(str(run.folder), "failed", str(error))
    lines = [f"{name}: {value}" for name, value in plain.items()] if isinstance(plain, dict) else [str(plain)]
    return Problem(str(run.folder), "failed", "\n".join(lines))


def _pictures(runs: Sequence[Run]) -> Iterable[Picture]:
    for drawn in draw_figures(runs):
        png = ""
        if drawn.figure is not None:
            stream = io.BytesIO()
            drawn.figure.savefig(stream, format="png", dpi=130)
            png = base64.b64encode(stream.getvalue()).decode()
        yield Picture(drawn.title, drawn.alternative, png, drawn.error)


def _settings(groups: Sequence[RunGroup]) -> list[SettingRow]:
    flat = [_plain_settings(group.runs[0]) for group in groups]
    names = dict.fromkeys(name for values in flat for name in values if name not in NOT_SHOWN)
    rows = []
    for name in names:
        values = tuple(str(own.get(name, MISSING)) for own in flat)
        rows.append(SettingRow(name, values, len(set(values)) > 1))
    return rows


def _plain_settings(run: Run) -> dict[str, Any]:
    return dict(flatten(to_plain(run.settings)))


def _provenance(runs: Sequence[Run]) -> list[tuple[str, tuple[tuple[str, int], ...]]]:
    """Return what runs say of where they took place, each value with the number of runs that have it."""
    counts: dict[str, dict[str, int]] = {}
    for run in runs:
        if (metrics := run.metrics) is not None:
            own = {"commit": metrics.commit or "unknown"}
            for part in (metrics.hardware, metrics.versions):
                own |= {str(name): str(value) for name, value in part.items()}
            for name, value in own.items():
                values = counts.setdefault(name, {})
                values[value] = values.get(value, 0) + 1
    return [(name, tuple(values.items())) for name, values in counts.items()]
