"""Any runs side by side, whatever grids they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from vae_flows.checks import check_argument
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.persistence.files import checked_path
from vae_flows.reporting.summaries import Estimate
from vae_flows.reporting.tables import Entry, Table
from vae_flows.runs.folder import SETTINGS
from vae_flows.runs.groups import RunGroup, group_runs
from vae_flows.runs.literature import Literature, literature_notes
from vae_flows.runs.run import Run, is_run
from vae_flows.runs.standing import ELBO, LIKELIHOOD, Standing, standings
from vae_flows.training.told import TRAINING

__all__ = ["compare", "find_runs", "tabulate"]

MISSING = "–"
COLUMNS = (
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
BEFORE_PUBLISHED = COLUMNS.index("−log p(x)")
"""Published −ELBO stands beside one's own."""


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

    Bounds are means and sample standard deviations over the finished runs of a row. The best of a data set is bold only
    where it really is: where its paired differences to all others, over seeds and test images, leave out zero.

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
    groups = group_runs(list(found.values()))
    return tabulate(groups, standings(groups))


def tabulate(
    groups: Sequence[RunGroup],
    standing: Sequence[Standing],
    literature: Mapping[str, Literature] = MappingProxyType({}),
) -> Table:
    """Tabulate groups of runs, the best in bold where it really is, beside numbers of the literature."""
    best = {(entry.data, entry.measure): entry for entry in standing}
    data = dict.fromkeys(group.data for group in groups)
    sources = dict.fromkeys(literature[name].reference.source for name in data if name in literature)
    columns = (*COLUMNS[:BEFORE_PUBLISHED], *(f"{source}, −ELBO" for source in sources), *COLUMNS[BEFORE_PUBLISHED:])
    rows = []
    for group in groups:
        by_elbo, by_likelihood = (best.get((group.data, measure)) for measure in (ELBO, LIKELIHOOD))
        entries = _entries(group, by_elbo, by_likelihood)
        published = [Entry(_published(group, source, literature)) for source in sources]
        rows.append((*entries[:BEFORE_PUBLISHED], *published, *entries[BEFORE_PUBLISHED:]))
    notes = [note for name in data if name in literature for note in literature_notes(name, literature[name], groups)]
    count = sum(len(group.runs) for group in groups)
    return Table(f"{count} run{'' if count == 1 else 's'}, lower is better", columns, tuple(rows), tuple(notes))


def _published(group: RunGroup, source: str, literature: Mapping[str, Literature]) -> str:
    of_data = literature.get(group.data)
    if of_data is None or of_data.reference.source != source:
        return MISSING
    found = of_data.reference.negative_elbo.get(group.runs[0].settings.posterior)
    return found.text() if found else MISSING


def _entries(row: RunGroup, by_elbo: Standing | None, by_likelihood: Standing | None) -> tuple[Entry, ...]:
    bound = _estimate([metrics.in_unit(metrics.test.negative_elbo) for metrics in row.metrics])
    likelihoods = [
        metrics.in_unit(metrics.test.negative_log_likelihood)
        for metrics in row.metrics
        if metrics.test.negative_log_likelihood is not None
    ]
    likelihood = _estimate(likelihoods)
    draws = {metrics.test.importance_samples for metrics in row.metrics}
    comparable = by_likelihood is not None and draws == {by_likelihood.draws}
    lacking = [run.status for run in row.runs if run.status != "finished"]
    seeds = f"{len(row.metrics)} of {len(row.runs)} ({', '.join(dict.fromkeys(lacking))})" if lacking else len(row.runs)
    first = row.metrics[0] if row.metrics else None
    epochs = _estimate([float(metrics.best_epoch) for metrics in row.metrics])
    seconds = _estimate([metrics.training_seconds for metrics in row.metrics])
    return (
        Entry(row.label),
        Entry(row.data),
        Entry(str(seeds)),
        Entry(bound.text() if bound else MISSING, bold=by_elbo is not None and by_elbo.best == row.label),
        Entry(
            likelihood.text() if likelihood else MISSING,
            bold=comparable and by_likelihood is not None and by_likelihood.best == row.label,
        ),
        Entry(first.unit if first else MISSING),
        Entry(f"{epochs.mean:.0f}" if epochs else MISSING),
        Entry(f"{seconds.mean:.1f}" if seconds else MISSING),
        Entry(f"{first.parameters:,}" if first else MISSING),
    )


def _estimate(values: Sequence[float]) -> Estimate | None:
    return Estimate.of(list(values)) if values else None
