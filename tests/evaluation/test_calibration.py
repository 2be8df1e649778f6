"""Simulation-based calibration on a Gaussian model whose posterior is known: N(x/2, 1/2)."""

import pytest
import torch

from tests.seeds import reseed
from vae_flows.errors import InvalidInputError
from vae_flows.evaluation import CalibrationResult, simulation_based_calibration

FALSE_ALARM = 1e-4  # of the exact posterior, over both parameters; the seed is fixed
POWER = 1e-8  # what a wrong posterior must stay below


def ranks_of(shift=0.0, widen=1.0, num_simulations=2000):
    reseed()
    result = simulation_based_calibration(
        lambda n: torch.randn(n, 2, dtype=torch.float64),
        lambda theta: theta + torch.randn_like(theta),
        lambda x, count: x / 2 + shift + widen * 0.5**0.5 * torch.randn(count, *x.shape, dtype=x.dtype),
        num_simulations=num_simulations,
        chunk_size=300,
    )
    assert result.ranks.shape == (num_simulations, 2)
    assert result.num_draws == 99
    return result.ranks


def p_values(**wrong):
    return CalibrationResult(ranks_of(**wrong), 99).p_values()


def test_the_exact_posterior_is_calibrated():
    assert p_values().min() > FALSE_ALARM / 2


@pytest.mark.parametrize("wrong", [{"shift": 0.2}, {"widen": 1.3}, {"widen": 0.75}])
def test_wrong_posteriors_are_caught(wrong):
    assert p_values(**wrong).max() < POWER


def test_p_values_are_those_of_chi_squared():
    ranks = torch.tensor([[0], [0], [0], [1], [2], [2], [3], [3]])
    # counts 3, 1, 2, 2 against 2 each: statistic 1, of which P[χ²₃ > 1] is tabulated
    assert CalibrationResult(ranks, num_draws=3).p_values(4).tolist() == pytest.approx([0.80125], abs=1e-5)


def test_false_alarms_are_as_rare_as_they_should_be():
    reseed()
    ranks = torch.randint(0, 100, (400, 2000))
    found = float((CalibrationResult(ranks, 99).p_values(10) < 0.05).double().mean())
    # binomial standard error 0.005; five of them, and chi-squared's own approximation is far smaller
    assert abs(found - 0.05) < 5 * 0.005


def test_wrong_use_is_told():
    with pytest.raises(InvalidInputError, match="divisor of L \\+ 1 = 100"):
        CalibrationResult(torch.zeros(3, 1, dtype=torch.long), 99).p_values(30)
    arguments = (lambda n: torch.zeros(n, 2), lambda theta: theta)
    with pytest.raises(InvalidInputError, match=r"draws of shape \(9, 5, K\), got \(5, 2\) and \(5, 9, 2\)"):
        simulation_based_calibration(*arguments, lambda x, n: torch.zeros(5, n, 2), num_simulations=5, num_draws=9)
    with pytest.raises(InvalidInputError, match="finite values"):
        simulation_based_calibration(
            *arguments, lambda x, n: torch.full((n, 5, 2), torch.nan), num_simulations=5, num_draws=9
        )
    with pytest.raises(InvalidInputError, match="num_draws"):
        simulation_based_calibration(*arguments, lambda x, n: x, num_simulations=5, num_draws=0)


def test_ranks_count_the_draws_below_the_true_value():
    """A rank from the other end would be as uniform: only its side tells a posterior too high from one too low."""
    truth = torch.tensor([[0.0, 2.5], [9.0, -1.0]])
    result = simulation_based_calibration(
        lambda n: truth,
        lambda theta: theta,
        lambda x, count: torch.arange(count, dtype=x.dtype)[:, None, None].expand(count, *x.shape),
        num_simulations=2,
        num_draws=9,
    )
    assert result.ranks.tolist() == [[0, 3], [9, 0]]


@pytest.mark.parametrize(("shift", "low"), [(0.5, True), (-0.5, False)])
def test_the_slope_of_ranks_says_which_way_a_posterior_is_off(shift, low):
    ranks = ranks_of(shift=shift).double()
    error = ranks.std() / len(ranks) ** 0.5
    mean = ranks.mean() - 99 / 2  # 0 for an exact posterior
    assert (mean < -20 * error) if low else (mean > 20 * error)


@pytest.mark.parametrize("bins", [0, 1, -5, 3, 2.0, True, "10"])
def test_bins_are_a_divisor(bins):
    with pytest.raises(InvalidInputError, match="p_values num_bins"):
        CalibrationResult(torch.zeros(3, 1, dtype=torch.long), 99).p_values(bins)


@pytest.mark.parametrize("spoiled", ["parameters", "draws"])
def test_numbers_that_are_not_finite_have_no_rank(spoiled):
    def posterior(x, n):
        return torch.full((n, *x.shape), torch.nan) if spoiled == "draws" else torch.randn(n, *x.shape)

    def prior(n):
        return torch.full((n, 1), torch.nan) if spoiled == "parameters" else torch.randn(n, 1)

    with pytest.raises(InvalidInputError, match=f"simulation_based_calibration {spoiled}: expected finite values"):
        simulation_based_calibration(prior, torch.zeros_like, posterior, num_simulations=20, num_draws=9)
