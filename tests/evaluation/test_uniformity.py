"""Bands of the ECDF of ranks: exact coverage, and the shapes of posteriors that are wrong."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from tests.seeds import numpy_generator, reseed
from vae_flows.errors import InvalidInputError
from vae_flows.evaluation import CalibrationResult
from vae_flows.evaluation.uniformity import coverage_of, rank_points, simultaneous_counts

ERRORS = 5  # standard errors allowed: a false alarm in 1.7 million comparisons


def test_the_coverage_is_that_of_all_outcomes():
    """Three samples in four cells, all 64 of them counted."""
    points, lower, upper = np.array([0.25, 0.5, 0.75]), np.array([0, 1, 1]), np.array([1, 2, 3])
    counts = [[sum(cell <= place for cell in cells) for place in range(3)] for cells in product(range(4), repeat=3)]
    inside = sum(all(lower <= count) and all(count <= upper) for count in np.array(counts))
    assert coverage_of(3, points, lower, upper) == pytest.approx(inside / 64, rel=1e-12)


@pytest.mark.parametrize("probability", [0.5, 0.95])
@pytest.mark.parametrize("num_samples", [20, 500])
def test_uniform_samples_stay_in_the_band_as_often_as_they_should(num_samples, probability):
    points = np.linspace(0, 1, 22)[1:-1]
    lower, upper, reached = simultaneous_counts(num_samples, points, probability)
    assert reached >= probability
    assert reached < probability + 0.1  # counts are whole: the band of 20 samples comes in steps
    draws, trials = numpy_generator(), 2000
    counts = (draws.random((trials, num_samples, 1)) <= points).sum(1)
    inside = ((counts >= lower) & (counts <= upper)).all(1).mean()
    assert inside == pytest.approx(reached, abs=ERRORS * (reached * (1 - reached) / trials) ** 0.5)


def test_the_band_is_wider_than_its_intervals_would_be_alone():
    from scipy import stats

    points = np.linspace(0, 1, 52)[1:-1]
    lower, upper, _ = simultaneous_counts(1000, points, 0.95)
    alone = stats.binom.interval(0.95, 1000, points)
    assert (lower <= alone[0]).all()
    assert (upper >= alone[1]).all()
    assert (upper - lower > alone[1] - alone[0]).any()


def test_points_are_ends_of_ranks():
    ranks, points = rank_points(99, 200)
    assert ranks.tolist() == list(range(99))
    assert points.tolist() == pytest.approx([(rank + 1) / 100 for rank in range(99)])


def ranks_of(posterior_scale, shift=0.0, count=2000):
    """Ranks of θ ~ N(0, 1) among 99 draws from N(shift, scale²)."""
    reseed()
    theta = torch.randn(count, 2, dtype=torch.float64)
    draws = shift + posterior_scale * torch.randn(99, count, 2, dtype=torch.float64)
    return CalibrationResult((draws < theta).sum(0), 99)


def test_an_exact_posterior_passes():
    band = ranks_of(1.0).ecdf_band(probability=1 - 1e-6)  # the false alarms
    assert band.is_inside.all()
    assert band.differences.shape == (50, 2)


@pytest.mark.parametrize(("scale", "shift", "first", "last"), [(0.5, 0.0, 1, -1), (2.0, 0.0, -1, 1), (1.0, 0.5, 1, 1)])
def test_wrong_posteriors_leave_the_band_on_the_side_that_says_how(scale, shift, first, last):
    """Too narrow: first above and then below. Too wide: the other way. Too high: ranks are low, and the curve above."""
    band = ranks_of(scale, shift).ecdf_band(probability=1 - 1e-6)
    assert not band.is_inside.any()
    for place, sign in ((12, first), (37, last)):
        edge = band.upper[place] if sign > 0 else -band.lower[place]
        assert (sign * band.differences[place] > edge).all()


def test_histograms_count_ranks():
    result = CalibrationResult(torch.tensor([[0, 9], [4, 9], [9, 9]]), num_draws=9)
    histogram = result.histogram(num_bins=5)
    assert histogram.counts.tolist() == [[1, 0], [0, 0], [1, 0], [0, 0], [1, 3]]
    assert (histogram.lower, histogram.upper) == (0, 2)  # P[B(3, 1/5) > 2] = 0.008


def test_wrong_use_is_told():
    result = CalibrationResult(torch.zeros(3, 1, dtype=torch.long), 99)
    for wrong in (0.0, 1.0, -1.0):
        with pytest.raises(InvalidInputError, match="ecdf_band probability"):
            result.ecdf_band(wrong)
        with pytest.raises(InvalidInputError, match="histogram probability"):
            result.histogram(probability=wrong)
    with pytest.raises(InvalidInputError, match="num_points"):
        result.ecdf_band(num_points=0)
    with pytest.raises(InvalidInputError, match="divisor"):
        result.histogram(30)
