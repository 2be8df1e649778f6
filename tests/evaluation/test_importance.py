"""Importance-weighted bounds of a linear-Gaussian model, whose weights have known moments."""

from __future__ import annotations

import math
import sys

import pytest
import torch

from tests.evaluation.linear_gaussian import LinearGaussianVAE, diagonal, exact, weight
from tests.seeds import reseed
from vae_flows.errors import InvalidInputError, MissingPackageError
from vae_flows.evaluation import (
    diagnose_weights,
    effective_sample_size,
    importance_weighted_bounds,
    sample_log_weights,
)
from vae_flows.evaluation.importance import BoundSums

ROUNDING = 1e-10  # float64 sums over some thousand draws
ERRORS = 5  # standard errors allowed: a false alarm in 1.7 million comparisons


def problem(make, count=3, orthogonal=True, latent_dim=2):
    vae = LinearGaussianVAE(make, weight(latent_dim=latent_dim, orthogonal=orthogonal))
    x = vae.data(count)
    return vae, x, lambda z: vae.log_likelihood(x, z) + vae.log_prior(z), vae.encode(x)


def relative_variance(vae, x):
    """Var(w) / p(x)² of a centred diagonal q for a diagonal posterior: ∏ r² / √(2 r² − 1) − 1, r = σ_q / σ_p."""
    ratio = vae.encode(x).stddev.square() / vae.true_posterior(x).variance
    return (ratio / (2 * ratio - 1).sqrt()).prod(-1) - 1


@pytest.mark.parametrize("chunk", [1, 7, 25, 100])
def test_groups_do_not_depend_on_chunks(chunk):
    reseed()
    log_weights = 3 * torch.randn(100, 2, dtype=torch.float64)
    sums = BoundSums([1, 8, 30, 100])
    for part in log_weights.split(chunk):
        sums.add(part)
    found = sums.result()
    for size, bound in zip(found.particles, found.bounds, strict=True):
        groups = log_weights[: len(log_weights) // size * size].unflatten(0, (-1, size))
        torch.testing.assert_close(bound, (groups.logsumexp(1) - math.log(size)).mean(0), rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(found.effective_sample_size, effective_sample_size(log_weights))
    assert found.num_samples == 100


def test_bounds_are_exact_where_the_posterior_is():
    reseed()
    vae, x, log_joint, q = problem(exact, orthogonal=False)
    found = importance_weighted_bounds(log_joint, q, (5,), num_samples=20, chunk_size=8)
    torch.testing.assert_close(found.bounds, vae.marginal.log_prob(x).expand(3, -1), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found.effective_sample_size, torch.full((3,), 20.0, dtype=torch.float64))
    assert (found.standard_error < 1e-4).all()


def test_the_elbo_misses_log_p_by_the_divergence_and_bounds_rise():
    reseed()
    vae, x, log_joint, q = problem(diagonal(widen=1.5, shift=0.2), orthogonal=False)
    log_p = vae.marginal.log_prob(x)
    num_samples, sizes = 40_000, (1, 4, 16, 64)
    log_weights = sample_log_weights(log_joint, q, num_samples)
    found = BoundSums(sizes)
    found.add(log_weights)
    bounds = found.result().bounds
    error = log_weights.std(0) / num_samples**0.5
    assert ((bounds[0] - (log_p - vae.gap(x))).abs() < ERRORS * error).all()
    # Each bound's error is at most that of the ELBO: averages of logarithms vary less.
    assert (bounds[1:] > bounds[:-1] - ERRORS * error).all()
    assert (bounds < log_p + ERRORS * error).all()
    assert (bounds[-1] - bounds[0] > ERRORS * error).all()


def test_the_bias_is_half_the_relative_variance_over_k():
    reseed()
    vae, x, log_joint, q = problem(diagonal(widen=1.3))
    variance = relative_variance(vae, x)
    K, num_samples = 10, 200_000
    found = importance_weighted_bounds(log_joint, q, (K,), num_samples=num_samples, chunk_size=20_000)
    gap = vae.marginal.log_prob(x) - found.bounds[1]
    groups = num_samples // K
    error = (variance / K / groups).sqrt()  # of the average of the groups' logarithms, to leading order
    beyond = variance / K**2  # the size of the next terms of the expansion in 1 / K
    assert ((gap - variance / K / 2).abs() < ERRORS * error + beyond).all()
    assert (gap > ERRORS * error + beyond).all()  # so that the bias is seen at all
    torch.testing.assert_close(found.bias, -variance / num_samples / 2, rtol=0.1, atol=0)


def test_the_standard_error_is_that_of_repetitions():
    reseed()
    vae, x, _, _ = problem(diagonal(widen=1.4), count=1)
    repeated = x.expand(2000, -1)
    found = importance_weighted_bounds(
        lambda z: vae.log_likelihood(repeated, z) + vae.log_prior(z), vae.encode(repeated), num_samples=400
    )
    standardized = (found.bounds[-1] - vae.marginal.log_prob(x)) / found.standard_error
    # The variance of 2,000 unit normals is 1 ± 0.03; the delta method adds terms of 1 / 400.
    assert float(standardized.var()) == pytest.approx(1, abs=ERRORS * 0.032 + 0.02)
    covered = float((standardized.abs() < 1.96).double().mean())
    assert covered == pytest.approx(0.95, abs=ERRORS * 0.005 + 0.01)


def test_the_effective_sample_size_is_that_of_the_divergence():
    reseed()
    vae, x, log_joint, q = problem(diagonal(widen=1.3))
    log_weights = sample_log_weights(log_joint, q, 50_000, chunk_size=10_000)
    torch.testing.assert_close(
        effective_sample_size(log_weights) / 50_000, 1 / (1 + relative_variance(vae, x)), rtol=0.05, atol=0
    )


def test_one_draw_has_no_standard_error():
    _, _, log_joint, q = problem(diagonal())
    assert importance_weighted_bounds(log_joint, q, num_samples=1).standard_error.isinf().all()


@pytest.mark.parametrize("narrow", [0.3, 0.5])
def test_pareto_condemns_over_narrow_posteriors(narrow):
    """Of Gaussians in one dimension, k is 1 − σ_q² / σ_p² exactly."""
    pytest.importorskip("arviz_stats")
    reseed()
    _, _, log_joint, q = problem(diagonal(widen=narrow), count=10, latent_dim=1)
    found = diagnose_weights(sample_log_weights(log_joint, q, 20_000))
    assert float(found.pareto_k.mean()) == pytest.approx(1 - narrow**2, abs=0.15)
    assert narrow == 0.5 or float(found.is_reliable.double().mean()) < 0.5
    assert (found.effective_sample_size < 5_000).all()


@pytest.mark.parametrize("make", [exact, diagonal(widen=1.3)])
def test_pareto_passes_posteriors_with_bounded_weights(make):
    pytest.importorskip("arviz_stats")
    reseed()
    _, _, log_joint, q = problem(make, count=10)
    found = diagnose_weights(sample_log_weights(log_joint, q, 5_000))
    assert found.is_reliable.all()
    assert (found.pareto_k < 0.3).all()


def test_the_threshold_rises_with_the_draws():
    found = [diagnostics(count).threshold for count in (1, 30, 2000, 10**6)]
    assert found == sorted(found)
    assert found[0] == -math.inf
    assert found[-1] == 0.7


def diagnostics(count):
    from vae_flows.evaluation.importance import WeightDiagnostics

    return WeightDiagnostics(torch.ones(1), torch.zeros(1), count)


def test_what_to_install_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz_stats", None)
    monkeypatch.setitem(sys.modules, "arviz_stats.base", None)
    with pytest.raises(MissingPackageError, match=r"vae-flows\[stats\]"):
        diagnose_weights(torch.randn(50))


def test_wrong_use_is_told():
    _, _, log_joint, q = problem(diagonal())
    with pytest.raises(InvalidInputError, match="at most num_samples = 10"):
        importance_weighted_bounds(log_joint, q, (11,), num_samples=10)
    with pytest.raises(InvalidInputError, match="particles: expected a positive integer"):
        importance_weighted_bounds(log_joint, q, (0,), num_samples=10)
    with pytest.raises(InvalidInputError, match="one number for each draw"):
        importance_weighted_bounds(lambda z: z, q, num_samples=10)
    with pytest.raises(InvalidInputError, match="at least 25 draws"):
        diagnose_weights(torch.zeros(5, 2))
    with pytest.raises(InvalidInputError, match="finite"):
        diagnose_weights(torch.full((50,), math.nan))


@pytest.mark.parametrize(
    ("log_weights", "reliable"),
    [
        (torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 1000, False),  # exp leaves nothing of the tail
        (torch.cat([torch.zeros(99), torch.tensor([50.0])]), False),
        (torch.cat([torch.zeros(98), torch.tensor([40.0, 40.0])]), False),
        (torch.cat([torch.zeros(300), -torch.rand(700)]), True),  # the largest are tied
        (torch.cat([torch.full((10,), 0.1), torch.zeros(90)]), True),
        (torch.cat([torch.tensor([1e-3]), torch.zeros(99)]), True),
        (torch.zeros(100), True),
    ],
)
def test_weights_without_a_tail_to_fit_are_judged_by_who_carries_them(log_weights, reliable):
    pytest.importorskip("arviz_stats")
    beside = torch.stack([log_weights, torch.linspace(0, 1, len(log_weights))], 1)
    for found in (diagnose_weights(log_weights), diagnose_weights(beside)):
        shape = found.pareto_k.reshape(-1)[0]
        assert shape == (-math.inf if reliable else math.inf) or (not reliable and shape > 10)
        assert bool(found.is_reliable.reshape(-1)[0]) == reliable
