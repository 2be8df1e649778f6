"""Values of the objectives, against closed forms and long Monte Carlo; averages of weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.distributions as td
from torch import Tensor

from tests.objectives.problems import ALPHAS, ROUNDING, STANDARD_ERRORS, LinearGaussian, close
from tests.seeds import reseed
from vae_flows.objectives import draw, elbo, importance_weighted_bound, renyi_average, renyi_bound


@pytest.mark.parametrize("alpha", ALPHAS)
def test_average_is_that_of_powers(alpha: float) -> None:
    log_weights = 3 * torch.randn(7, 5, dtype=torch.float64).requires_grad_()
    average = renyi_average(log_weights, alpha)
    powers = log_weights.exp().pow(1 - alpha)
    close(average, log_weights.mean(0) if alpha == 1 else powers.mean(0).log() / (1 - alpha))
    (gradient,) = torch.autograd.grad(average.sum(), log_weights)
    close(gradient, ((1 - alpha) * log_weights).softmax(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_near_one_the_average_keeps_its_digits(dtype: torch.dtype, sign: int, scale: float) -> None:
    log_weights = scale * (torch.randn(50, 4, dtype=torch.float64) - 1)
    for exponent in range(1, 15):
        order = sign * 10.0**-exponent
        alpha = 1 - order
        order = 1 - alpha
        small = log_weights - log_weights.mean(0)
        # The cumulants' series where it converges, else powers in float64 with the mean taken out first.
        series = order / 2 * small.pow(2).mean(0) + order**2 / 6 * small.pow(3).mean(0)
        powers = ((order * small).logsumexp(0) - math.log(50)) / order
        expected = log_weights.mean(0) + (series if (order * small).abs().max() < 1e-5 else powers)
        actual = renyi_average(log_weights.to(dtype), alpha)
        tolerance = 200 * torch.finfo(dtype).eps if dtype == torch.float32 else 1e-9
        torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=scale * tolerance)


def test_large_and_vanishing_weights_do_no_harm() -> None:
    log_weights = torch.tensor([[1e4, -1e4, -math.inf], [1e4 + 1, -1e4, 0.0]], dtype=torch.float64).requires_grad_()
    average = renyi_average(log_weights, 0.0)
    close(average, torch.tensor([1e4 + math.log((1 + math.e) / 2), -1e4, -math.log(2)], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(average.sum(), log_weights)
    assert gradient.isfinite().all()
    assert renyi_average(log_weights, 2.0)[2] == -math.inf


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("particles", [1, 4])
def test_with_the_true_posterior_every_draw_gives_the_evidence(alpha: float, particles: int) -> None:
    model = LinearGaussian()
    q = model.posterior().expand((6,))
    expected = model.evidence().expand(6)
    close(renyi_bound(model.log_joint, q, alpha, particles), expected)
    close(importance_weighted_bound(model.log_joint, q, particles), expected)
    close(elbo(model.log_likelihood, model.log_prior, q, particles).elbo, expected)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_renyi_bounds_reach_their_closed_form(alpha: float) -> None:
    model, repeats, particles = LinearGaussian(), 50, 4_000
    # At this scale fourth moments of the averaged powers are finite for every order, as a standard error asks.
    q = td.Normal(torch.tensor(0.2, dtype=torch.float64), 0.6)
    with torch.no_grad():
        bounds = renyi_bound(model.log_joint, q.expand((repeats,)), alpha, particles)
        whole = renyi_bound(model.log_joint, q, alpha, repeats * particles)
        expected = model.renyi(q, alpha)
    error = bounds.std() / repeats**0.5  # that of `whole`, whose bias is far below it
    assert error < 0.01
    assert (whole - expected).abs() < STANDARD_ERRORS * error


def test_elbo_and_its_terms_reach_their_closed_forms() -> None:
    model, particles, beta = LinearGaussian(), 200_000, 0.3
    q = td.Normal(torch.tensor([0.2, -1.0], dtype=torch.float64), 0.8)
    with torch.no_grad():
        terms = elbo(model.log_likelihood, model.log_prior, q, particles, beta=beta)
        kl = td.kl_divergence(q, td.Normal(0.0, 1.0))
        log_likelihood = model.log_likelihood(q.loc) - model.weight**2 * q.variance / 2
        z = q.sample(torch.Size([particles]))
        errors = [v.std(0) / particles**0.5 for v in (model.log_likelihood(z), q.log_prob(z) - model.log_prior(z))]
    assert ((terms.log_likelihood - log_likelihood).abs() < STANDARD_ERRORS * errors[0]).all()
    assert ((terms.kl - kl).abs() < STANDARD_ERRORS * errors[1]).all()
    close(terms.elbo, terms.log_likelihood - beta * terms.kl)
    assert terms.regularization is None


def test_one_draw_is_the_default() -> None:
    model, q = LinearGaussian(), td.Normal(torch.tensor([0.2, -1.0], dtype=torch.float64), 0.8)
    assert draw(q).z.shape == (1, 2)
    bounds = []
    for particles in ((), (1,)):
        reseed(7)
        bounds.append(elbo(model.log_likelihood, model.log_prior, q, *particles).elbo)
    assert torch.equal(*bounds)


def test_bounds_are_ordered_by_alpha_and_meet_at_their_special_cases() -> None:
    model, q = LinearGaussian(), td.Normal(torch.tensor(0.2, dtype=torch.float64), 0.8)

    def seeded(bound: Callable[[], Tensor]) -> float:
        reseed(7)
        return float(bound().detach())

    values = [
        seeded(lambda alpha=alpha: renyi_bound(model.log_joint, q, alpha, 20)) for alpha in (-1, 0, 0.5, 0.99, 1, 2)
    ]
    assert values == sorted(values, reverse=True)
    expected_elbo = seeded(lambda: elbo(model.log_likelihood, model.log_prior, q, 20).elbo)
    assert values[4] == pytest.approx(expected_elbo, rel=ROUNDING)
    assert values[1] == pytest.approx(seeded(lambda: importance_weighted_bound(model.log_joint, q, 20)), rel=ROUNDING)
    log_weights = model.log_joint(draw(q, 20).z)
    assert renyi_average(log_weights, 0.0) > log_weights.mean()
