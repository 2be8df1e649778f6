"""Monte-Carlo estimates against closed forms, within the standard errors that they state."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from tests.seeds import reseed
from vae_flows.distributions import DiagonalNormal
from vae_flows.errors import InvalidInputError
from vae_flows.evaluation import (
    MonteCarloEstimate,
    estimate_entropy,
    estimate_kl_divergence,
    estimate_moments,
    monte_carlo,
)

STANDARD_ERRORS = 5  # of at most 12 numbers a test: a false alarm once in 100,000 runs, if they were Gaussian


def gaussian() -> DiagonalNormal:
    loc = torch.tensor([[0.0, 1000.0], [1.0, -2.0], [3.0, 0.1]], dtype=torch.float64)
    return DiagonalNormal(loc, torch.tensor([[1.0, 2.0], [0.1, 3.0], [1.0, 1.0]], dtype=torch.float64))


def assert_within(estimate: MonteCarloEstimate, exact: torch.Tensor) -> None:
    assert estimate.value.shape == estimate.standard_error.shape == exact.shape
    assert (estimate.standard_error > 0).all()
    assert ((estimate.value - exact).abs() <= STANDARD_ERRORS * estimate.standard_error).all()


def test_estimates_agree_with_closed_forms():
    reseed(0)
    q = gaussian()
    p = Independent(Normal(torch.zeros(2, dtype=torch.float64), 2.0), 1)
    moments = estimate_moments(q, 4000, 300)
    assert_within(estimate_entropy(q, 4000, 300), q.entropy())
    assert_within(estimate_kl_divergence(q, p, 4000, 300), kl_divergence(q, p.expand((3,))))
    assert_within(moments.mean, q.mean)
    assert_within(moments.variance, q.variance)


def test_standard_errors_are_those_of_theory():
    reseed(1)
    count = 20_000
    moments = estimate_moments(gaussian(), count, 1000)
    # Relative errors of s are 1 / sqrt(2 n) = 0.005, of the fourth moment sqrt(96 / n) / 3 = 0.023; five times each.
    torch.testing.assert_close(moments.mean.standard_error, gaussian().stddev / count**0.5, rtol=0.025, atol=0)
    expected = gaussian().variance * (2 / (count - 1)) ** 0.5
    torch.testing.assert_close(moments.variance.standard_error, expected, rtol=0.1, atol=0)


@pytest.mark.parametrize("chunk_size", [1, 7, 50, 100])
def test_chunks_change_no_average(chunk_size: int, monkeypatch: pytest.MonkeyPatch):
    reseed(2)
    q = gaussian()
    draws = q.sample((50,))
    taken = 0

    def draw(q: DiagonalNormal, sample_shape: tuple[int]) -> monte_carlo.Draw:
        nonlocal taken
        z = draws[taken : taken + sample_shape[0]]
        taken += sample_shape[0]
        return monte_carlo.Draw(z, q.log_prob(z))

    monkeypatch.setattr(monte_carlo, "draw_from", draw)
    mean, variance = estimate_moments(q, 50, chunk_size)
    rounding = 1e-10  # float64; sums of 50 fourth powers of up to ten
    torch.testing.assert_close(mean.value, draws.mean(0), rtol=rounding, atol=rounding)
    torch.testing.assert_close(variance.value, draws.var(0), rtol=rounding, atol=rounding)


def test_wrong_calls_are_refused():
    q = gaussian()
    with pytest.raises(InvalidInputError, match="num_samples: expected at least 2"):
        estimate_entropy(q, 1)
    with pytest.raises(InvalidInputError, match=r"events of shape \(2,\), as of q"):
        estimate_kl_divergence(q, DiagonalNormal(torch.zeros(3), torch.ones(3)))
