"""The tables of a page beside the one of results: differences, ranks, later tests, diagnostics."""

from __future__ import annotations

from collections.abc import Sequence

from vae_flows.errors import VAEFlowsError
from vae_flows.reporting.tables import Entry, Table
from vae_flows.runs.diagnosis import RunDiagnostics
from vae_flows.runs.evaluations import RunEvaluation
from vae_flows.runs.groups import RunGroup
from vae_flows.runs.run import Run
from vae_flows.runs.standing import BOTH, CONFIDENCE, IMAGES, NOTHING, SEEDS, Difference, Standing
from vae_flows.runs.verdicts import ABSENT, KINDS, Finding, judge

__all__ = ["diagnostics_tables", "evaluations_table", "standing_tables"]

MISSING = "–"
HOW = "`vae-flows evaluate FOLDER --diagnostics` does it"
MEANINGS = {
    BOTH: "Over images and seeds: paired by image, for other images and other trainings.",
    IMAGES: "For these models alone: with one seed nothing is known of other trainings, and nothing is bold.",
    SEEDS: "Over seeds alone: there are no scores of the same images, and the interval is Welch's.",
    NOTHING: "Without an interval: one seed, without scores of the same images, does not tell what is real.",
}


def standing_tables(standing: Standing) -> list[Table]:
    """Return the differences of each pair of posteriors, and the ranks where there are any."""
    measure = f"{standing.measure}, {standing.draws} draws" if standing.draws else f"test {standing.measure}"
    tables = []
    if standing.differences:
        kinds = dict.fromkeys(difference.over for difference in standing.differences)
        notes = [f"All intervals hold at once with {CONFIDENCE:.0%}. Bold: the interval leaves out zero."]
        tables.append(
            Table(
                f"{standing.data}: differences of {measure} ({standing.unit}), negative where the first is better",
                ("first − second", "difference", "interval", "over", "seeds"),
                tuple(map(_difference, standing.differences)),
                (*notes, *(MEANINGS[kind] for kind in kinds), *standing.notes),
            )
        )
    ranking = standing.ranking
    if ranking is not None and len(ranking.names) > 1:
        rows = tuple(
            (Entry(name, bold=name == standing.best), Entry(f"{average:.2f}"), Entry(_ranks(low, high)))
            for name, average, low, high in zip(
                ranking.names, ranking.averages, ranking.lowest_ranks, ranking.highest_ranks, strict=True
            )
        )
        able = ", ".join(ranking.possibly_best)
        notes = [f"All ranks are within these bounds at once with {CONFIDENCE:.0%}. May be the best: {able}."]
        if not ranking.generalizes_over_seeds:
            notes.append("The ranks are of these models: with one seed nothing is known of other trainings.")
        title = f"{standing.data}: ranks by {measure} ({standing.unit})"
        tables.append(Table(title, ("posterior", "average", "rank"), rows, tuple(notes)))
    return tables


def evaluations_table(groups: Sequence[RunGroup]) -> Table | None:
    """Return what later tests of runs found, `None` where there are none."""
    rows = [
        _evaluation(group, run, evaluation)
        for group in groups
        for run in group.runs
        for evaluation in _evaluations_of(run)
    ]
    if not rows:
        return None
    columns = ("posterior", "data", "seed", "draws", "−ELBO", "bounds between", "−log p(x)")
    columns += ("effective draws", "bias left", "draws/s")
    notes = ("In nats per image, ± standard error over images. Bounds between are of 10, 100, … draws.",)
    return Table("Later tests, by importance sampling", columns, tuple(rows), notes)


def diagnostics_tables(groups: Sequence[RunGroup]) -> list[Table]:
    """Return the diagnostics of the first diagnosed run of each group, a table for each data set."""
    tables = []
    for data in dict.fromkeys(group.data for group in groups):
        members = [group for group in groups if group.data == data and group.metrics]
        if not members:
            continue
        chosen = {group.label: _diagnosed(group) for group in members}
        known = {label: found for label, found in chosen.items() if found is not None}
        lacking = [label for label, found in chosen.items() if found is None]
        notes = [f"Not diagnosed: {', '.join(lacking)}; {HOW}."] if lacking else []
        notes += [f"{label}, {problem}" for label, (_, found) in known.items() for problem in found.problems]
        notes += [f"{kind.name}: {kind.meaning}." for kind in KINDS] if known else []
        findings = [judge(found, _evaluations_by_epoch(run)) for run, found in known.values()]
        rows = tuple(
            (Entry(kind.name), *map(_word, of_kind))
            for kind, *of_kind in zip(KINDS, *findings, strict=True)
            if any(finding != ABSENT for finding in of_kind)
        )
        labels = tuple(f"{label}, seed {run.settings.seed}" for label, (run, _) in known.items())
        tables.append(Table(f"{data}: diagnostics of the test images", ("diagnostic", *labels), rows, tuple(notes)))
    return tables


def _difference(found: Difference) -> tuple[Entry, ...]:
    interval = MISSING if found.lower is None or found.upper is None else f"{found.lower:.2f} to {found.upper:.2f}"
    return (
        Entry(f"{found.first} − {found.second}"),
        Entry(f"{found.value:.2f}", bold=found.is_real),
        Entry(interval),
        Entry(found.over),
        Entry(", ".join(map(str, found.seeds))),
    )


def _ranks(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _evaluations_of(run: Run) -> tuple[RunEvaluation, ...]:
    try:
        return run.evaluations
    except VAEFlowsError:  # told among the problems
        return ()


def _evaluation(group: RunGroup, run: Run, found: RunEvaluation) -> tuple[Entry, ...]:
    between = [f"{bound:.2f}" for size, bound in zip(found.particles, found.bounds, strict=True)][1:-1]
    return (
        Entry(group.label),
        Entry(group.data),
        Entry(str(run.settings.seed)),
        Entry(f"{found.importance_samples:,}"),
        Entry(_with_error(found.negative_elbo, found.negative_elbo_standard_error)),
        Entry(", ".join(between) or MISSING),
        Entry(_with_error(found.negative_log_likelihood, found.negative_log_likelihood_standard_error)),
        Entry(f"{found.effective_sample_size:.1f}" if found.importance_samples else MISSING),
        Entry(MISSING if found.monte_carlo_bias is None else f"{found.monte_carlo_bias:.2f}"),
        Entry(f"{found.samples_per_second:,.0f}"),
    )


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:.2f}" if error is None else f"{value:.2f} ± {error:.2f}"


def _diagnosed(group: RunGroup) -> tuple[Run, RunDiagnostics] | None:
    for run in group.runs:
        try:
            found = run.diagnostics
        except VAEFlowsError:  # told among the problems
            continue
        if found is not None:
            return run, found
    return None


def _evaluations_by_epoch(run: Run) -> list[float]:
    return [epoch.evaluations_per_solve for epoch in run.history if epoch.evaluations_per_solve is not None]


def _word(finding: Finding) -> Entry:
    return Entry(f"{finding.text} ({finding.word})" if finding.word else finding.text)
