"""Standard errors of gains and moments, against what repeated draws show."""

from __future__ import annotations

import torch

from examples.comparison import Comparison, Estimate
from examples.moments import Moments, tabulate

ROUNDING = 1e-12
REPEATS = 1000
# The standard deviation of REPEATS Gaussian numbers is known to 2.2 %. Four times that leaves room for estimates of
# finite series, whose laws are skewed.
SPREAD = 0.09
STANDARD_ERRORS = 5  # two-sided false-alarm rate 6e-7


def test_gains_are_paired_and_losses_and_noise_are_told():
    first = torch.tensor([-10.0, -20.0, -30.0, -40.0], dtype=torch.float64)
    changes = torch.tensor([1.0, 2.0, 1.0, 2.0], dtype=torch.float64)
    comparison = Comparison("Toy", {"a": first, "b": first + changes, "c": first - changes, "d": first + changes - 1.5})
    gain = comparison.gains["b"]
    assert abs(gain.mean - 1.5) < ROUNDING
    assert abs(gain.standard_error - (1 / 12) ** 0.5) < ROUNDING
    text = str(comparison)
    assert "1.50 ± 0.29 |" in text
    assert "-1.50 ± 0.29 (a loss)" in text
    assert "0.00 ± 0.29 (within noise)" in text
    assert str(Estimate.of(first)) == "-25.00 ± 6.45"


def test_moments_of_a_skewed_law_have_the_errors_that_repetition_shows():
    repeated = Moments.of(torch.distributions.Gamma(4.0, 1.0).sample((3000, REPEATS)))
    for values, errors, truth in zip(repeated.values, repeated.errors, (4.0, 2.0, 1.0), strict=True):
        assert abs(values.mean() - truth) < 0.01  # of finite samples the last two are biased, by less
        assert abs(errors.mean() / values.std() - 1) < SPREAD


def test_errors_of_a_markov_chain_count_its_correlation():
    """Draws of an autoregressive chain count for (1 − ρ) / (1 + ρ) of their number, as far as the mean goes."""
    correlation, length, chains = 0.6, 1000, 50
    states = [torch.randn(chains, dtype=torch.float64)]
    for _ in range(length - 1):
        states.append(correlation * states[-1] + (1 - correlation**2) ** 0.5 * torch.randn(chains, dtype=torch.float64))
    draws = torch.stack(states)
    expected = ((1 + correlation) / (1 - correlation) / length) ** 0.5
    assert abs(Moments.of(draws, markov_chain=True).errors[0].mean() / expected - 1) < SPREAD
    assert Moments.of(draws).errors[0].mean() < 0.6 * expected


def test_differences_are_in_units_of_the_reference_and_less_noise():
    errors = torch.full((3, 2), 0.03, dtype=torch.float64)
    reference = Moments(torch.tensor([[1.0, 2.0], [2.0, 2.0], [0.0, 0.0]], dtype=torch.float64), errors)
    values = reference.values + torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.6, -0.8]])
    difference = Moments(values, errors).difference(reference, STANDARD_ERRORS)
    noise = STANDARD_ERRORS * 0.03 * 2**0.5
    expected = torch.tensor([0.125**0.5, 0.0, 0.5**0.5], dtype=torch.float64)
    torch.testing.assert_close(difference.root_mean_square, expected)
    beyond = torch.tensor([0.5 - noise / 2, 0.0, 0.8 - noise], dtype=torch.float64)
    torch.testing.assert_close(difference.beyond_noise, beyond)
    table = tabulate({"flow": difference}, torch.tensor([0.3, 0.3, 0.9]))
    assert "| flow | 0.354 (one by 0.39 beyond noise) | 0.000 | 0.707 |" in table
