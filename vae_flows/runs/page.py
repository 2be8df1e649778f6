"""Any runs as one page of HTML that stands by itself: results, differences, figures, settings, failures, provenance.

What runs left behind is taken for what anyone may have written: all of it is escaped, and damage is told in its place.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from vae_flows.checks import check_argument
from vae_flows.errors import DataError, InvalidInputError, VAEFlowsError, complaint
from vae_flows.extras import needing
from vae_flows.persistence.json_files import read_json, write_files
from vae_flows.persistence.records import flatten, to_plain
from vae_flows.reporting.tables import Entry, Table, tables_to_markdown
from vae_flows.runs.comparison import RunGroup, compare, find_runs, group_runs
from vae_flows.runs.figures import draw_figures
from vae_flows.runs.folder import FAILURE
from vae_flows.runs.run import Run

# What lacks is told before a benchmark trains, not when it comes to its page: only commands import this module.
with needing("cli"):
    from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["PAGE_FILES", "write_page"]

PAGE_FILES = PAGE, MARKDOWN, LATEX = "report.html", "report.md", "report.tex"
CONFIDENCE = 0.95
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


def write_page(runs: Iterable[Path | str], destination: Path, references: Sequence[Table] = ()) -> tuple[Path, ...]:
    """Write `report.html`, and its tables as `report.md` and `report.tex`, of any runs.

    A folder that is missing or damaged, and a run that failed, are told in the page; the rest stands.

    Arguments:
        runs: Folders of runs, or folders that hold runs at any depth.
        destination: The folder to write to.
        references: Tables to stand first, such as those beside a paper's numbers.

    Returns:
        The files.

    Raises:
        DataError: No run can be read.
        FileError: A file cannot be written.
    """
    if isinstance(runs, str | Path):
        raise InvalidInputError(complaint("runs of write_page", "several folders", repr(runs), "Pass a list."))
    found = _read(runs)
    if not found.runs:
        told = "; ".join(problem.text for problem in found.problems) or "none"
        raise DataError(complaint("runs of a report", "at least one that can be read", told))
    groups = group_runs(found.runs)
    tables = [*map(_without_bold, (*references, compare(found.runs))), _differences(groups)]
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
    return write_files(destination, contents)


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
    problems += [problem for run in runs.values() if (problem := _unfinished(run)) is not None]
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


def _without_bold(table: Table) -> Table:
    """Leave out the bold of the lowest mean, which does not say whether the difference is real."""
    return replace(table, rows=tuple(tuple(Entry(entry.text) for entry in row) for row in table.rows))


def _differences(groups: Sequence[RunGroup]) -> Table:
    """Compare the test −ELBO of each pair of posteriors on the same data over seeds, by Welch's interval.

    The levels are Bonferroni's, so that all intervals of the table hold at once.
    """
    pairs = [(a, b) for a, b in combinations(groups, 2) if a.data == b.data and a.metrics and b.metrics]
    able = sum(len(a.metrics) > 1 and len(b.metrics) > 1 for a, b in pairs)
    level = 1 - (1 - CONFIDENCE) / max(able, 1)
    rows = tuple(_difference(a, b, level) for a, b in pairs)
    notes = [
        f"Differences are of means over seeds; the intervals are Welch's and hold at once with {CONFIDENCE:.0%}, for "
        "other trainings tested on the same images. Bold: the interval leaves out zero."
    ]
    if able < len(pairs):
        notes.append("One seed does not allow to say whether a difference is real: it has no interval.")
    columns = ("first − second", "data", "difference", "interval", "seeds")
    return Table("Differences of test −ELBO, negative where the first is better", columns, rows, tuple(notes))


def _difference(a: RunGroup, b: RunGroup, level: float) -> tuple[Entry, ...]:
    first, second = ([m.in_unit(m.test.negative_elbo) for m in g.metrics] for g in (a, b))
    value = float(np.mean(first) - np.mean(second))
    interval, real = MISSING, False
    if min(len(first), len(second)) > 1 and np.var(first) + np.var(second) > 0:
        lower, upper = stats.ttest_ind(first, second, equal_var=False).confidence_interval(level)
        interval, real = f"{lower:.2f} to {upper:.2f}", bool(lower > 0 or upper < 0)
    seeds = f"{len(first)}, {len(second)}"
    name = f"{a.label} − {b.label}"
    return Entry(name), Entry(a.data), Entry(f"{value:.2f}", bold=real), Entry(interval), Entry(seeds)


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
