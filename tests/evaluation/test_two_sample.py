"""The kernel two-sample test: its statistic, its level, and what it says of aggregate posteriors."""

from __future__ import annotations

import math

import pytest
import torch

from tests.evaluation.linear_gaussian import LinearGaussianVAE, diagonal, exact, weight
from tests.seeds import reseed, torch_generator
from vae_flows.errors import InvalidInputError
from vae_flows.evaluation import compare_aggregate_posterior, kernel_two_sample_test

ERRORS = 5  # standard errors allowed: a false alarm in 1.7 million comparisons


def test_the_statistic_is_the_unbiased_one():
    reseed()
    x, y = torch.randn(7, 2, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    found = kernel_two_sample_test(x, y, bandwidth=1.3, num_permutations=10)

    def average(a, b, itself):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (itself and i == j)]
        return sum(math.exp(-float((a[i] - b[j]).square().sum()) / 2 / 1.3**2) for i, j in pairs) / len(pairs)

    assert found.statistic == pytest.approx(average(x, x, True) + average(y, y, True) - 2 * average(x, y, False))


def test_the_statistic_estimates_the_discrepancy_of_gaussians():
    """E k(a, b) of Gaussians with means δ apart is (ℓ² / (ℓ² + 2))^(D/2) exp(−δ² / 2 (ℓ² + 2))."""
    reseed()
    values = torch.tensor(
        [
            kernel_two_sample_test(
                torch.randn(100, 2), torch.randn(100, 2) + 1, bandwidth=1.0, num_permutations=1
            ).statistic
            for _ in range(100)
        ]
    )
    truth = 2 * (1 / 3) * (1 - math.exp(-2 / 2 / 3))
    assert float(values.mean()) == pytest.approx(truth, abs=ERRORS * float(values.std()) / 10)


def test_p_values_are_uniform_where_samples_are_alike():
    reseed()
    count = 400
    found = torch.tensor(
        [
            kernel_two_sample_test(torch.randn(20, 3), torch.randn(25, 3), num_permutations=99).p_value
            for _ in range(count)
        ]
    )
    assert float(found.mean()) == pytest.approx(0.505, abs=ERRORS * 0.289 / count**0.5)
    assert float((found <= 0.1).double().mean()) == pytest.approx(0.1, abs=ERRORS * 0.3 / count**0.5)


def test_equal_samples_are_alike():
    x = torch.zeros(10, 2)
    assert kernel_two_sample_test(x, x, num_permutations=20) == (0.0, 1.0, 1.0, 20)


@pytest.mark.parametrize("make", [exact, diagonal(ignore=True)])
def test_an_aggregate_posterior_that_is_the_prior_passes(make):
    vae = LinearGaussianVAE(make, weight(orthogonal=True))
    assert compare_aggregate_posterior(vae, vae.data(600)).p_value > 1e-3  # the false alarms, by the test's own level


@pytest.mark.parametrize("make", [diagonal(shrink=0.3, widen=0.3), diagonal(shift=0.5), diagonal(shrink=2.0)])
def test_an_aggregate_posterior_that_misses_the_prior_is_condemned(make):
    vae = LinearGaussianVAE(make, weight(orthogonal=True))
    assert compare_aggregate_posterior(vae, vae.data(600), num_permutations=500).p_value < 0.01


def test_the_same_generator_gives_the_same_result():
    reseed()
    x, y = torch.randn(30, 2), torch.randn(30, 2)
    first, second = (kernel_two_sample_test(x, y, generator=torch_generator(3)) for _ in range(2))
    assert first == second


def test_wrong_use_is_told():
    x = torch.randn(5, 2)
    for wrong in (torch.randn(5, 3), torch.randn(1, 2), torch.randn(5), torch.full((5, 2), math.nan)):
        with pytest.raises(InvalidInputError, match="two samples of finite vectors"):
            kernel_two_sample_test(x, wrong)
    with pytest.raises(InvalidInputError, match="bandwidth"):
        kernel_two_sample_test(x, x, bandwidth=0.0)


def test_samples_far_from_zero_are_told_apart_as_near_it():
    reseed()
    x, y = torch.randn(60, 2, dtype=torch.float64), torch.randn(50, 2, dtype=torch.float64) + 0.5
    near, far = (kernel_two_sample_test(x + at, y + at, num_permutations=20) for at in (0.0, 1e8))
    assert far.statistic == pytest.approx(near.statistic, rel=1e-6)  # 1e8 leaves eight digits of 1
    assert far.bandwidth == pytest.approx(near.bandwidth, rel=1e-6)
