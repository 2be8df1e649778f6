"""How posteriors stand on one data set: paired differences over images and seeds, and ranks with their uncertainty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_flows.errors import VAEFlowsError
from vae_flows.evaluation import PairedDifference, Ranking, paired_difference, rank_posteriors
from vae_flows.evaluation.units import Unit
from vae_flows.runs.groups import RunGroup
from vae_flows.runs.run import Run
from vae_flows.runs.scores import RunScores

__all__ = ["CONFIDENCE", "ELBO", "LIKELIHOOD", "Difference", "Standing", "standings"]

CONFIDENCE = 0.95
ELBO, LIKELIHOOD = "−ELBO", "−log p(x)"
BOTH, IMAGES, SEEDS, NOTHING = "images and seeds", "images, for these models alone", "seeds", "–"
"""What an interval holds for: other images and trainings, other images, other trainings."""


class Difference(NamedTuple):
    """The first posterior less the second, in the unit of the data; negative where the first is better.

    Arguments:
        first: Name of the first.
        second: Name of the second.
        value: The difference of the averages.
        lower: Lower end of its interval; `None` where nothing tells it.
        upper: Upper end.
        over: What the interval holds for.
        seeds: Seeds of both.
    """

    first: str
    second: str
    value: float
    lower: float | None
    upper: float | None
    over: str
    seeds: tuple[int, int]

    @property
    def is_real(self) -> bool:
        """Whether the interval holds for other trainings, and leaves out zero."""
        if self.over not in (BOTH, SEEDS) or self.lower is None or self.upper is None:
            return False
        return self.lower > 0 or self.upper < 0


@dataclass(frozen=True)
class Standing:
    """How the posteriors on one data set compare by one measure.

    Arguments:
        data: Name of the data set.
        measure: `ELBO` or `LIKELIHOOD`.
        unit: Unit of the differences.
        draws: Importance samples of a likelihood, 0 of the ELBO.
        differences: Of each pair; their intervals hold at once, with `CONFIDENCE`.
        ranking: Ranks, `None` where not all posteriors have scores of the same images.
        notes: What a reader must know.
    """

    data: str
    measure: str
    unit: str
    draws: int
    differences: tuple[Difference, ...]
    ranking: Ranking | None
    notes: tuple[str, ...]

    @property
    def best(self) -> str | None:
        """The posterior that is really better than every other, for other trainings too; else `None`."""
        ranking = self.ranking
        if ranking is None or len(ranking.names) < 2 or not ranking.generalizes_over_seeds:
            return None
        return ranking.best


class Scored(NamedTuple):
    """Scores of a group: of S seeds the same N images each."""

    values: NDArray[np.float64]
    images: NDArray[np.int64]


def standings(groups: Sequence[RunGroup]) -> tuple[Standing, ...]:
    """Compare the finished runs of groups on the same data, by −ELBO and, where computed, by −log p(x)."""
    found = []
    for data in dict.fromkeys(group.data for group in groups):
        finished = [group for group in groups if group.data == data and group.metrics]
        if len({(m.unit, m.nats_per_unit, m.nats_at_zero) for group in finished for m in group.metrics}) != 1:
            continue
        scores = {group.label: [_read(run) for run in group.runs if run.metrics is not None] for group in finished}
        found.append(_stand(data, ELBO, finished, scores, 0))
        if draws := _common_draws(scores.values()):
            found.append(_stand(data, LIKELIHOOD, finished, scores, draws))
    return tuple(found)


def _read(run: Run) -> dict[int, RunScores]:
    """Return scores of a run by their draws, those of its own test under 0 as well; what is damaged is left out."""
    found: dict[int, RunScores] = {}
    try:
        for evaluation in run.evaluations:
            scores = run.evaluation_scores(evaluation)
            if scores is not None and scores.negative_log_likelihood is not None:
                found[scores.importance_samples] = scores
        own = run.scores
        if own is not None:
            found[0] = own
            if own.negative_log_likelihood is not None:
                found[own.importance_samples] = own
    except VAEFlowsError:  # told among the problems of a report
        return found
    return found


def _common_draws(scores: Iterable[Sequence[Mapping[int, RunScores]]]) -> int:
    """Return the largest number of draws that all runs have −log p(x) of, or 0."""
    counts = [set(of_run) for runs in scores for of_run in runs]
    return max(set.intersection(*counts), default=0) if counts else 0


def _stand(
    data: str,
    measure: str,
    groups: Sequence[RunGroup],
    scores: Mapping[str, Sequence[Mapping[int, RunScores]]],
    draws: int,
) -> Standing:
    first = groups[0].metrics[0]
    unit = Unit(first.unit, first.nats_per_unit, first.nats_at_zero)
    scored = {label: found for label, runs in scores.items() if (found := _stack(runs, draws, unit))}
    pairs = list(combinations(groups, 2))
    level = 1 - (1 - CONFIDENCE) / max(len(pairs), 1)
    differences = tuple(_difference(a, b, scored, measure, level) for a, b in pairs)
    ranking, notes = None, []
    if len(scored) == len(groups) and _same_images(list(scored.values())):
        ranking = rank_posteriors({label: found.values for label, found in scored.items()}, confidence=CONFIDENCE)
    elif len(groups) > 1:
        lacking = [label for label in scores if label not in scored]
        told = f"no scores of each image for {', '.join(lacking)}" if lacking else "runs were tested on other images"
        notes.append(f"No ranks: {told}.")
    return Standing(data, measure, unit.name, draws, differences, ranking, tuple(notes))


def _stack(runs: Sequence[Mapping[int, RunScores]], draws: int, unit: Unit) -> Scored | None:
    """Return the scores of all runs of a group, if they are of the same images."""
    found = [of_run.get(draws) for of_run in runs]
    known = [scores for scores in found if scores is not None]
    if not known or len(known) < len(found) or any(len(k.images) < 2 for k in known):
        return None
    if not all(np.array_equal(scores.images, known[0].images) for scores in known):
        return None
    values = [scores.negative_log_likelihood if draws else scores.negative_elbo for scores in known]
    stacked = np.stack([value for value in values if value is not None])
    return Scored((stacked - unit.zero) / unit.nats, known[0].images)


def _same_images(scored: Sequence[Scored]) -> bool:
    return all(np.array_equal(found.images, scored[0].images) for found in scored)


def _difference(a: RunGroup, b: RunGroup, scored: Mapping[str, Scored], measure: str, level: float) -> Difference:
    one, other = scored.get(a.label), scored.get(b.label)
    if one is None or other is None or not _same_images([one, other]):
        return _of_averages(a, b, measure, level)
    found: PairedDifference = paired_difference(one.values, other.values, confidence=level)
    over = BOTH if found.generalizes_over_seeds else IMAGES
    return Difference(a.label, b.label, found.value, found.lower, found.upper, over, found.num_seeds)


def _of_averages(a: RunGroup, b: RunGroup, measure: str, level: float) -> Difference:
    """Compare what runs came to by Welch's interval over seeds, for want of scores of the same images."""
    from scipy import stats  # takes half a second, which training need not wait for

    first, second = (_averages(group, measure) for group in (a, b))
    seeds = (len(first), len(second))
    value = float(np.mean(first) - np.mean(second)) if min(seeds) else float("nan")
    if min(seeds) < 2 or np.var(first) + np.var(second) == 0:
        return Difference(a.label, b.label, value, None, None, NOTHING, seeds)
    lower, upper = stats.ttest_ind(first, second, equal_var=False).confidence_interval(level)
    return Difference(a.label, b.label, value, float(lower), float(upper), SEEDS, seeds)


def _averages(group: RunGroup, measure: str) -> list[float]:
    values = [
        (metrics, metrics.test.negative_elbo if measure == ELBO else metrics.test.negative_log_likelihood)
        for metrics in group.metrics
    ]
    return [metrics.in_unit(value) for metrics, value in values if value is not None]
