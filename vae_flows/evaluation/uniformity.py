r"""Whether ranks are uniform, by their histogram and by their ECDF with a band that holds everywhere at once.

The ECDF of N uniform ranks has at each point a binomial distribution. Intervals of level 1 − γ at K points hold all of
them with a probability below 1 − γ; the band takes the γ for which that probability is what was asked for (Säilynoja,
Bürkner and Vehtari 2022, "Graphical test for discrete uniformity and its applications in goodness-of-fit evaluation and
multiple sample comparison", section 2). The probability is found exactly: counts up to one point after the other are a
Markov chain with binomial steps, of which only the states within the band are followed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["RankBand", "RankHistogram", "coverage_of", "simultaneous_counts"]

BISECTIONS = 30
"""Halvings of γ: what is left of it is below the steps in which the band can change."""


class RankHistogram(NamedTuple):
    """Ranks in bins of equal width.

    Arguments:
        counts: Simulations in each bin, `(num_bins, K)`, one column a parameter.
        lower: Least count that a bin of uniform ranks has with the probability asked for, each bin by itself.
        upper: The largest.
    """

    counts: Tensor
    lower: int
    upper: int


class RankBand(NamedTuple):
    """The ECDF of ranks less that of the uniform distribution, with a simultaneous band.

    Arguments:
        points: Where the ECDF is evaluated, `(P,)`, in (0, 1).
        differences: ECDF less uniform, `(P, K)`, one column a parameter.
        lower: Lower edge of the band for the differences, `(P,)`.
        upper: Upper edge.
        probability: The probability with which the ECDF of uniform ranks is in the band at all points at once: at
            least what was asked for.
    """

    points: Tensor
    differences: Tensor
    lower: Tensor
    upper: Tensor
    probability: float

    @property
    def is_inside(self) -> Tensor:
        """Whether the ECDF of each parameter is in the band everywhere, booleans `(K,)`."""
        above, below = self.differences >= self.lower[:, None], self.differences <= self.upper[:, None]
        return (above & below).all(0)


def simultaneous_counts(
    num_samples: int, points: NDArray[np.float64], probability: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """Return the narrowest binomial intervals of counts that hold at all points at once.

    Arguments:
        num_samples: N.
        points: Probabilities of the uniform distribution up to each point, increasing, in (0, 1).
        probability: With which the counts of uniform samples are to be within all intervals.

    Returns:
        Least and largest counts `(P,)`, and the probability that they have: at least the one asked for.

    Example:
        >>> lower, upper, probability = simultaneous_counts(10, np.array([0.5]), 0.9)
        >>> lower.tolist(), upper.tolist(), round(probability, 3)
        ([2], [8], 0.979)
    """
    return _simultaneous_counts(num_samples, tuple(points.tolist()), probability)


@lru_cache(maxsize=32)
def _simultaneous_counts(
    num_samples: int, points: tuple[float, ...], probability: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    places = np.array(points)
    low, high = 0.0, 1 - probability  # of γ: with all of it at each point, the band cannot hold everywhere
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if coverage_of(num_samples, places, *_intervals(num_samples, places, middle)) >= probability:
            low = middle
        else:
            high = middle
    lower, upper = _intervals(num_samples, places, low)
    return lower, upper, coverage_of(num_samples, places, lower, upper)


def coverage_of(
    num_samples: int, points: NDArray[np.float64], lower: NDArray[np.int64], upper: NDArray[np.int64]
) -> float:
    """Return the probability that uniform samples have counts within all intervals.

    Example:
        >>> round(coverage_of(2, np.array([0.5]), np.array([1]), np.array([1])), 6)
        0.5
    """
    from scipy import stats  # takes half a second, which training need not wait for

    states, weights, before = np.array([0]), np.array([1.0]), 0.0
    for point, least, most in zip(points, lower, upper, strict=True):
        following = np.arange(least, most + 1)
        steps = following[:, None] - states
        # Of the samples beyond the point before, each falls before this one with the same probability.
        chances = stats.binom.pmf(steps, num_samples - states, (point - before) / (1 - before))
        weights = chances @ weights
        states, before = following, point
    return float(weights.sum())


def _intervals(
    num_samples: int, points: NDArray[np.float64], gamma: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    from scipy import stats

    lower = stats.binom.ppf(gamma / 2, num_samples, points).clip(min=0)
    upper = stats.binom.ppf(1 - gamma / 2, num_samples, points)
    return lower.astype(np.int64), upper.astype(np.int64)


def rank_points(num_draws: int, num_points: int) -> tuple[Tensor, NDArray[np.float64]]:
    """Return which ranks the ECDF is evaluated at, and the uniform probability up to each.

    Example:
        >>> rank_points(9, 4)
        (tensor([1, 3, 5, 7]), array([0.2, 0.4, 0.6, 0.8]))
    """
    ends = np.unique(np.round(np.linspace(0, num_draws + 1, num_points + 2)[1:-1]).astype(np.int64))
    ends = ends[(ends > 0) & (ends <= num_draws)]
    return torch.from_numpy(ends - 1), ends / (num_draws + 1)
