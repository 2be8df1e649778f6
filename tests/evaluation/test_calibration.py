"""Simulation-based calibration on a Gaussian model whose posterior is known: N(x/2, 1/2)."""

import pytest
import torch

from tests.seeds import reseed
from vae_flows.errors import InvalidInputError
from vae_flows.evaluation import CalibrationResult, simulation_based_calibration

FALSE_ALARM = 1e-4  # of the exact posterior, over both parameters; the seed is fixed
POWER = 1e-8  # what a wrong posterior must stay below


def p_values(shift=0.0, widen=1.0, num_simulations=2000):
    reseed()
    result = simulation_based_calibration(
        lambda n: torch.randn(n, 2, dtype=torch.float64),
        lambda theta: theta + torch.randn_like(theta),
        lambda x, count: x / 2 + shift + widen * 0.5**0.5 * torch.randn(count, *x.shape, dtype=x.dtype),
        num_simulations=num_simulations,
        chunk_size=300,
    )
    assert result.ranks.shape == (num_simulations, 2)
    return result.p_values()


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
