"""Rate and mutual information of a linear-Gaussian model, for which I(x; z) = ½ log det(I + WᵀW / σ²)."""

from __future__ import annotations

import pytest
import torch

from tests.evaluation.linear_gaussian import NOISE, LinearGaussianVAE, diagonal, exact, weight
from vae_flows.errors import InvalidInputError
from vae_flows.evaluation import estimate_information

ERRORS = 5  # standard errors allowed: a false alarm in 1.7 million comparisons
ROUNDING = 1e-9


def linear(make, scale=0.5):
    return LinearGaussianVAE(make, scale * weight(orthogonal=True))


def information(vae):
    matrix = vae.matrix
    return float(torch.logdet(torch.eye(matrix.shape[1], dtype=torch.float64) + matrix.T @ matrix / NOISE**2)) / 2


@pytest.mark.parametrize("make", [exact, diagonal()])
def test_the_exact_posterior_spends_its_rate_on_information(make):
    vae = linear(make)
    found = estimate_information(vae, vae.data(2000), num_images=1000, chunk_size=100)
    truth = information(vae)
    assert found.num_images == 1000
    assert found.rate.value == pytest.approx(truth, abs=ERRORS * found.rate.standard_error)
    assert found.information_lower.value < truth + ERRORS * found.information_lower.standard_error
    assert found.information_upper.value > truth - ERRORS * found.information_upper.standard_error
    lower, upper = found.mutual_information
    assert upper - lower < 0.1  # so that the bounds say something
    assert abs(found.aggregate_divergence[0]) < 0.2
    distortion = float(-vae.marginal.entropy()) + truth  # log p(x) = −distortion − rate, for the exact posterior
    assert -found.distortion.value == pytest.approx(distortion, abs=ERRORS * found.distortion.standard_error)


def test_a_collapsed_posterior_knows_nothing():
    vae = linear(diagonal(ignore=True))
    found = estimate_information(vae, vae.data(100))
    assert found.rate.value == pytest.approx(0, abs=ROUNDING)
    assert found.mutual_information == pytest.approx((0, 0), abs=ROUNDING)


def test_a_rate_without_information_misses_the_prior():
    vae = linear(diagonal(shrink=0.0, shift=1.0))
    found = estimate_information(vae, vae.data(200))
    assert found.mutual_information == pytest.approx((0, 0), abs=ROUNDING)
    assert found.aggregate_divergence[0] > 0.9  # KL(N(1, s²) || N(0, 1)) is at least ½ in each of two dimensions


def test_bounds_part_where_posteriors_do_not_overlap():
    vae = linear(diagonal(widen=0.01))
    found = estimate_information(vae, vae.data(100))
    assert found.information_lower.value == pytest.approx(found.largest_lower_bound, abs=0.1)
    assert found.information_upper.value > 2 * found.largest_lower_bound


def test_the_same_seed_gives_the_same_result():
    vae = linear(exact)
    x = vae.data(50)
    assert estimate_information(vae, x, seed=1) == estimate_information(vae, x, seed=1)
    assert estimate_information(vae, x, seed=1) != estimate_information(vae, x, seed=2)


def test_one_image_has_no_aggregate():
    vae = linear(exact)
    with pytest.raises(InvalidInputError, match="two images or more"):
        estimate_information(vae, vae.data(1))
