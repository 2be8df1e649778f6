"""Any runs side by side, whatever grids they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vae_flows.checks import check_argument
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.persistence.files import checked_path
from vae_flows.persistence.records import flatten, to_plain
from vae_flows.reporting.summaries import Estimate
from vae_flows.reporting.tables import Entry, Table
from vae_flows.runs.folder import SETTINGS, data_name
from vae_flows.runs.run import Run, RunMetrics, is_run
from vae_flows.training.told import TRAINING

__all__ = ["RunGroup", "compare", "find_runs", "group_runs"]

NOT_COMPARED = ("posterior", "data", "training.seed", "split_seed", "data_path", "compute.", "evaluation.")
"""Settings that say what is compared, or where and how often it took place."""
MISSING = "–"

Settings = Mapping[str, Any]


def find_runs(folder: Path | str) -> tuple[Run, ...]:
    """Return the run that a folder is, or else the runs below it, in the order of their paths.

    Raises:
        DataError: There is none.
    """
    path = checked_path(folder, "folder of runs")
    if is_run(path) or not path.is_dir():
        return (Run(path),)
    found = sorted({file.parent for name in (SETTINGS, TRAINING) for file in path.rglob(name)})
    return tuple(map(Run, found)) or (Run(path),)


def compare(runs: Iterable[Run | Path | str]) -> Table:
    """Compare runs: one row for each posterior and each setting that differs, over the seeds.

    Bounds are means and sample standard deviations over the finished runs of a row. The lowest mean of a data set is
    bold where another row of it has one; whether the difference is real is for `vae_flows.evaluation.paired_difference`
    to say.

    Arguments:
        runs: Runs, their folders, or folders that hold runs at any depth.

    Returns:
        A table, which shows itself in a terminal and in a notebook, and as Markdown, CSV and LaTeX.

    Raises:
        InvalidInputError: There is nothing to compare.
        DataError: A folder holds no run, or a damaged one.

    Example:
        >>> import tempfile
        >>> from vae_flows.benchmark.presets import PRESETS
        >>> from vae_flows.runs.folder import prepare
        >>> root = Path(tempfile.mkdtemp())
        >>> for posterior in ("none", "planar"):
        ...     prepare(root / posterior, PRESETS["smoke"].settings("caltech101-silhouettes", posterior, 0))
        >>> [row[0].text for row in compare([root]).rows]
        ['none', 'planar']
    """
    if isinstance(runs, str | Path) or not isinstance(runs, Iterable):
        raise InvalidInputError(complaint("runs of compare", "several runs or folders", repr(runs), "Pass a list."))
    found: dict[Path, Run] = {}
    for given in runs:
        check_argument("runs of compare", given, Run | Path | str)
        for run in (given,) if isinstance(given, Run) else find_runs(given):
            found.setdefault(run.folder.resolve(), run)
    if not found:
        raise InvalidInputError(complaint("runs of compare", "at least one run", "none"))
    return _tabulate(list(found.values()))


def _tabulate(runs: Sequence[Run]) -> Table:
    rows = group_runs(runs)
    means = [_estimate([metrics.in_unit(metrics.test.negative_elbo) for metrics in row.metrics]) for row in rows]
    entries = []
    for row, mean in zip(rows, means, strict=True):
        rivals = [m.mean for r, m in zip(rows, means, strict=True) if m is not None and r.data == row.data]
        best = mean is not None and len(rivals) > 1 and mean.mean == min(rivals)
        entries.append(_entries(row, mean, best=best))
    columns = (
        "posterior",
        "data",
        "seeds",
        "test −ELBO",
        "−log p(x)",
        "unit",
        "best epoch",
        "training s",
        "parameters",
    )
    return Table(f"{len(runs)} run{'' if len(runs) == 1 else 's'}, lower is better", columns, tuple(entries))


class RunGroup:
    """Runs that differ in their seeds alone, with a label that sets them apart from others on the same data."""

    def __init__(self, data: str, label: str, runs: Sequence[Run]) -> None:
        self.data, self.label, self.runs = data, label, runs
        self.metrics: list[RunMetrics] = [metrics for run in runs if (metrics := run.metrics) is not None]


def group_runs(runs: Sequence[Run]) -> list[RunGroup]:
    """Group runs by their settings, and name each group by what sets it apart from others of its posterior."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    settings: dict[tuple[str, str, str], Settings] = {}
    for run in runs:
        own = run.settings
        kept = {name: value for name, value in flatten(to_plain(own)) if not name.startswith(NOT_COMPARED)}
        kept |= {f"posterior_options.{name}": value for name, value in flatten(to_plain(own.posterior_options))}
        key = (data_name(own), own.posterior, repr(sorted(kept.items())))
        groups.setdefault(key, []).append(run)
        settings[key] = kept
    rows = []
    for key, members in groups.items():
        data, posterior, _ = key
        others = [settings[other] for other in groups if other[:2] == key[:2]]
        apart = [name for name in settings[key] if any(other.get(name) != settings[key][name] for other in others)]
        told = ", ".join(f"{name.rpartition('.')[2]} {settings[key][name]}" for name in apart)
        rows.append(RunGroup(data, f"{posterior} ({told})" if told else posterior, members))
    return rows


def _entries(row: RunGroup, bound: Estimate | None, *, best: bool) -> tuple[Entry, ...]:
    likelihoods = [
        metrics.in_unit(metrics.test.negative_log_likelihood)
        for metrics in row.metrics
        if metrics.test.negative_log_likelihood is not None
    ]
    likelihood = _estimate(likelihoods)
    lacking = [run.status for run in row.runs if run.status != "finished"]
    seeds = f"{len(row.metrics)} of {len(row.runs)} ({', '.join(dict.fromkeys(lacking))})" if lacking else len(row.runs)
    first = row.metrics[0] if row.metrics else None
    epochs = _estimate([float(metrics.best_epoch) for metrics in row.metrics])
    seconds = _estimate([metrics.training_seconds for metrics in row.metrics])
    return (
        Entry(row.label),
        Entry(row.data),
        Entry(str(seeds)),
        Entry(bound.text() if bound else MISSING, bold=best),
        Entry(likelihood.text() if likelihood else MISSING),
        Entry(first.unit if first else MISSING),
        Entry(f"{epochs.mean:.0f}" if epochs else MISSING),
        Entry(f"{seconds.mean:.1f}" if seconds else MISSING),
        Entry(f"{first.parameters:,}" if first else MISSING),
    )


def _estimate(values: Sequence[float]) -> Estimate | None:
    return Estimate.of(list(values)) if values else None
