r"""Which differences between posteriors are real: intervals of paired differences, and ranks with their uncertainty.

Scores are those of each test image under each trained model, such as −log p(x) per image; lower is better. Two things
vary: which images were drawn, the same ones for all posteriors, and how a training went, which its seed decides. With
:math:`\bar d_i` the difference of image i averaged over seeds, and :math:`\bar a_s` the average of seed s over images,

.. math:: \mathrm{Var}(\bar d) = s^2_{\bar d_i} / N + s^2_{\bar a} / S_a + s^2_{\bar b} / S_b.

Each part is the square of a standard error; their sum counts the interaction of seeds and images twice, and so errs on
the safe side. Its degrees of freedom are Satterthwaite's. With one seed nothing is known of other trainings: the
interval is that of these models, over images, by the bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vae_flows.checks import checked, described
from vae_flows.errors import InvalidInputError, complaint, require_fraction, require_positive
from vae_flows.randomness import derive_seed

__all__ = ["PairedDifference", "Ranking", "paired_difference", "rank_posteriors"]

Scores = NDArray[np.float64]
RESAMPLES_AT_ONCE = 100
RESAMPLES_BEYOND = 20
"""Resamples that are to fall outside an interval, whose ends they are."""


class PairedDifference(NamedTuple):
    """The average of `first` less `second`, and where it is.

    Arguments:
        value: The difference.
        lower: Lower end of its interval.
        upper: Upper end.
        standard_error: Its standard error.
        p_value: Two-sided, of no difference.
        confidence: Level of the interval.
        generalizes_over_seeds: Whether the interval holds for other trainings too, or for these models alone.
        num_images: Images paired.
        num_seeds: Seeds of the first and of the second.
    """

    value: float
    lower: float
    upper: float
    standard_error: float
    p_value: float
    confidence: float
    generalizes_over_seeds: bool
    num_images: int
    num_seeds: tuple[int, int]

    @property
    def is_real(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.lower > 0 or self.upper < 0


class Ranking(NamedTuple):
    """Posteriors from the best to the worst, with the ranks that the data leave open.

    Arguments:
        names: The posteriors, by rising average score.
        averages: Their average scores.
        lowest_ranks: The best rank that each may have: 1 more than the posteriors that are really better.
        highest_ranks: The worst rank.
        confidence: With which all true ranks are within these bounds at once.
        generalizes_over_seeds: Whether that holds for other trainings too, or for these models alone.
    """

    names: tuple[str, ...]
    averages: tuple[float, ...]
    lowest_ranks: tuple[int, ...]
    highest_ranks: tuple[int, ...]
    confidence: float
    generalizes_over_seeds: bool

    @property
    def possibly_best(self) -> tuple[str, ...]:
        """The posteriors than which none is really better; among them is the best one, with the confidence."""
        return tuple(name for name, rank in zip(self.names, self.lowest_ranks, strict=True) if rank == 1)

    @property
    def best(self) -> str | None:
        """The posterior that is really better than every other; `None` where several may be the best."""
        return self.possibly_best[0] if len(self.possibly_best) == 1 else None


@checked
def paired_difference(
    first: Any, second: Any, *, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> PairedDifference:
    """Compare two posteriors by their scores of the same images, such as −log p(x).

    With two seeds or more of each, the interval is Welch's and holds for other images and other trainings; with one, it
    is a bootstrap over images (bias-corrected and accelerated) and holds for these models alone: a few seeds are too
    few to be drawn from again.

    Source: Satterthwaite (1946), "An approximate distribution of estimates of variance components"; Efron (1987),
    "Better bootstrap confidence intervals".

    Arguments:
        first: Scores `(N,)` of images, or `(S, N)` of S seeds, images in the same order.
        second: Those of the other posterior; seeds need not be as many.
        confidence: Level of the interval.
        num_resamples: Resamples of the bootstrap; more are taken where the level is so high that its ends need them.
        seed: Of the resamples.

    Raises:
        InvalidInputError: Scores that are not finite, of other images, or of fewer than two; or a level not in (0, 1).

    Example:
        >>> scores = np.random.default_rng(0).normal(size=(3, 200))
        >>> paired_difference(scores + 1, scores).is_real
        True
    """
    require_fraction("paired_difference", confidence=confidence)
    require_positive("paired_difference", num_resamples=num_resamples)
    a, b = _scores("first", first), _scores("second", second)
    if a.shape[1] != b.shape[1]:
        remedy = "Score both on the same test images."
        raise InvalidInputError(complaint("second", f"scores of the same {a.shape[1]} images", b.shape[1], remedy))
    return _compare(a, b, confidence, num_resamples, seed)


@checked
def rank_posteriors(
    scores: Mapping[str, Any], *, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> Ranking:
    """Rank posteriors by their average scores, with bounds of all ranks that hold at once.

    A posterior ranks behind each one that is really better, and before each one that is really worse, by paired
    differences whose levels are Bonferroni's. Lower scores are better.

    Source: Mogstad, Romano, Shaikh and Wilhelm (2024), "Inference for ranks with applications to mobility across
    neighbourhoods and academic achievement across countries".

    Arguments:
        scores: Of each posterior by name, `(N,)` or `(S, N)` as in `paired_difference`.
        confidence: With which all ranks are within their bounds.
        num_resamples: Resamples of the bootstrap, where a posterior has one seed.
        seed: Of the resamples.

    Raises:
        InvalidInputError: No posteriors, scores as `paired_difference` refuses them, or a level not in (0, 1).

    Example:
        >>> scores = np.random.default_rng(0).normal(size=(3, 200))
        >>> ranking = rank_posteriors({"none": scores + 2, "planar": scores + 0.01, "ffjord": scores})
        >>> ranking.names[-1], ranking.lowest_ranks, ranking.highest_ranks, ranking.best
        ('none', (1, 1, 3), (2, 2, 3), None)
    """
    require_fraction("rank_posteriors", confidence=confidence)
    require_positive("rank_posteriors", num_resamples=num_resamples)
    if not scores:
        raise InvalidInputError(complaint("rank_posteriors scores", "one posterior or more", "none"))
    found = {name: _scores(f"scores of {name!r}", values) for name, values in scores.items()}
    if len({values.shape[1] for values in found.values()}) > 1:
        sizes = {name: values.shape[1] for name, values in found.items()}
        raise InvalidInputError(complaint("rank_posteriors scores", "those of the same images", sizes))
    names = sorted(found, key=lambda name: float(found[name].mean()))
    pairs = list(combinations(names, 2))
    level = 1 - (1 - confidence) / max(len(pairs), 1)
    better, worse = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    generalizes = all(len(values) > 1 for values in found.values())
    for front, back in pairs:
        difference = _compare(found[front], found[back], level, num_resamples, seed)
        if difference.is_real:
            leader, follower = (front, back) if difference.value < 0 else (back, front)
            better[follower] += 1
            worse[leader] += 1
    return Ranking(
        tuple(names),
        tuple(float(found[name].mean()) for name in names),
        tuple(1 + better[name] for name in names),
        tuple(len(names) - worse[name] for name in names),
        float(confidence),
        generalizes,
    )


def _compare(a: Scores, b: Scores, confidence: float, num_resamples: int, seed: int) -> PairedDifference:
    from scipy import stats  # takes half a second, which training need not wait for

    by_image = a.mean(0) - b.mean(0)
    value, images, seeds = float(by_image.mean()), len(by_image), (len(a), len(b))
    parts = [(by_image.var(ddof=1) / images, images - 1)]
    if generalizes := min(seeds) > 1:
        parts += [(scores.mean(1).var(ddof=1) / len(scores), len(scores) - 1) for scores in (a, b)]
    variance = float(sum(part for part, _ in parts))
    error = math.sqrt(variance)
    if not error:
        p_value = 1.0 if value == 0 else 0.0
        return PairedDifference(value, value, value, 0.0, p_value, float(confidence), generalizes, images, seeds)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    p_value = float(2 * stats.t.sf(abs(value) / error, freedom))
    if generalizes:
        half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
        lower, upper = value - half, value + half
    else:
        lower, upper = _bootstrap(by_image, confidence, num_resamples, seed)
    return PairedDifference(value, lower, upper, error, p_value, float(confidence), generalizes, images, seeds)


def _bootstrap(values: Scores, confidence: float, num_resamples: int, seed: int) -> tuple[float, float]:
    from scipy import stats

    # Releases of SciPy before 1.15 know the generator by this name alone, later ones by both.
    generator: dict[str, Any] = {"random_state": np.random.default_rng(derive_seed(seed, "bootstrap"))}
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=max(num_resamples, math.ceil(RESAMPLES_BEYOND / (1 - confidence))),
        batch=RESAMPLES_AT_ONCE,
        confidence_level=confidence,
        method="BCa",
        **generator,
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _scores(subject: str, values: Any) -> Scores:
    """Return scores as `(S, N)`."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy() if not values.is_sparse and not values.is_meta else None
    try:
        given = np.asarray(values, dtype=np.float64) if isinstance(values, np.ndarray | Sequence) else np.empty(0)
    except (TypeError, ValueError):
        given = np.empty(0)
    scores: Scores = np.atleast_2d(given)
    if scores.ndim != 2 or not len(scores) or scores.shape[1] < 2 or not np.isfinite(scores).all():
        expected = "finite scores (N,) or (S, N) of two images or more"
        raise InvalidInputError(complaint(subject, expected, described(values), "Leave out runs that failed."))
    return scores
