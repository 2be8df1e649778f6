"""Bounds that are not linear in log-densities, where those are noisy estimates: exact where that is cheap, or told."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, TransformedDistribution
from torch.distributions.transforms import ComposeTransform, ExpTransform

import vae_flows as vf
from tests.seeds import reseed
from tests.small_flows import DISCRETE, moved
from vae_flows.cnf import ContinuousNormalizingFlow, ContinuousTransform, MLPDynamics
from vae_flows.distributions import FlowDistribution, exact_where_cheap, is_estimated
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder
from vae_flows.objectives import elbo, importance_weighted_bound, renyi_bound

C, B, K = 4, 5, 8
STANDARD_ERRORS = 5.0  # a false alarm in two million
ROUNDING = 1e-10

CHEAP: dict[str, dict[str, Any]] = {
    "bias, one layer": {"amortization": "bias", "hidden_dims": (8,)},
    "bias, two layers": {"amortization": "bias", "hidden_dims": (8, 7)},
    "concat, two blocks": {"amortization": "concat", "hidden_dims": (8,), "num_blocks": 2},
    "bias, bottleneck": {"amortization": "bias", "hidden_dims": (8, 4), "divergence": "bottleneck"},
}
DEAR: dict[str, dict[str, Any]] = {
    "low rank": {"amortization": "low_rank", "rank": 2, "hidden_dims": (8,)},
    "hyper": {"amortization": "hyper", "hidden_dims": (8,)},
    "last layer": {"amortization": "last_layer", "hidden_dims": (8,)},
    "deep": {"amortization": "bias", "hidden_dims": (8, 8, 8)},
    "weights that depend on time": {"amortization": "bias", "hidden_dims": (8,), "time_conditioning": "blend"},
}


def posterior(latent_dim: int, **options: Any) -> vf.AmortizedPosterior:
    """Return a posterior in training mode whose Jacobian has a trace that is hard to estimate."""
    module = moved(vf.AmortizedPosterior(latent_dim, C, "ffjord", **options), by=0.5)
    return module.train()


def joint(z: Tensor) -> Tensor:
    """Return log p(x, z) of z ~ N(0, I) and x = 0 with x ~ N(z, I), whose log p(x) is that of N(0, 2 I)."""
    return -z.square().sum(-1) - z.shape[-1] * torch.tensor(2 * torch.pi).log()


def evidence(latent_dim: int) -> float:
    return float(-0.5 * latent_dim * torch.tensor(4 * torch.pi).log())


def exceeds(bound: Tensor, latent_dim: int) -> bool:
    return bool(bound.mean() - evidence(latent_dim) > STANDARD_ERRORS * bound.std() / len(bound) ** 0.5)


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
@pytest.mark.parametrize("options", CHEAP)
def test_in_training_mode_bounds_keep_below_the_evidence(options: str, latent_dim: int) -> None:
    module, context = posterior(latent_dim, **CHEAP[options]), torch.randn(C, dtype=torch.float64).expand(2_000, C)
    with torch.no_grad():
        bound = importance_weighted_bound(joint, module(context), K)
    assert not exceeds(bound, latent_dim)


def test_with_estimates_they_would_not() -> None:
    flow = ContinuousTransform(MLPDynamics(2, (16,), activation="tanh").double().condition())
    with torch.no_grad():
        for parameter in flow._dynamics.dependencies():
            parameter.mul_(4)
    exact = flow.exact()
    z = torch.randn(4_000, K, 2, dtype=torch.float64)
    with torch.no_grad():
        noise = (flow.evaluate(z).log_det - exact.evaluate(z).log_det).movedim(-1, 0)
    # With the true posterior for q, all that is left of log w is the noise of the estimate.
    bound = noise.logsumexp(0) - torch.tensor(float(K)).log() + evidence(2)
    assert exceeds(bound, 2)


@pytest.mark.parametrize("gradient", ["reparameterized", "path"])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("options", CHEAP)
def test_values_and_gradients_are_those_of_the_exact_trace(options: str, alpha: float, gradient: Any) -> None:
    module, context = posterior(2, **CHEAP[options]), torch.randn(B, C, dtype=torch.float64)
    results = []
    for training in (True, False):
        module.train(training).zero_grad()
        reseed(2)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            bound = renyi_bound(joint, module(context), alpha, K, gradient=gradient)
        bound.sum().backward()
        results.append([bound.detach(), *(p.grad.clone() for p in module.parameters() if p.grad is not None)])
    assert len(results[0]) > 4
    for estimated, exact in zip(*results, strict=True):
        torch.testing.assert_close(estimated, exact, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("gradient", ["reparameterized", "path"])
@pytest.mark.parametrize("options", DEAR)
def test_what_stays_an_estimate_is_told(options: str, gradient: Any) -> None:
    module, context = posterior(2, **DEAR[options]), torch.randn(B, C, dtype=torch.float64)
    with pytest.warns(vf.BiasedBoundWarning, match=r"eval\(\) first.*divergence='exact'"):
        importance_weighted_bound(joint, module(context), K, gradient=gradient, chunk_size=3)
    with pytest.warns(vf.BiasedBoundWarning):
        renyi_bound(joint, module(context), 0.5, 2, gradient=gradient)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("options", [*CHEAP, *DEAR])
def test_bounds_that_are_linear_or_exact_do_not_warn(options: str) -> None:
    settings = {**CHEAP, **DEAR}[options]
    module, context = posterior(2, **settings), torch.randn(B, C, dtype=torch.float64)
    elbo(joint, lambda z: torch.zeros_like(z[..., 0]), module(context), K, gradient="path")
    importance_weighted_bound(joint, module(context), 1)
    renyi_bound(joint, module(context), 1.0, K)
    importance_weighted_bound(joint, module.eval()(context), 2)
    exact = posterior(2, **{**settings, "divergence": "exact"})
    importance_weighted_bound(joint, exact(context), 2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("flow", DISCRETE)
def test_discrete_flows_are_exact(flow: str) -> None:
    q = moved(DISCRETE[flow].posterior(2, C)).train()(torch.randn(B, C, dtype=torch.float64))
    assert not is_estimated(q)
    assert exact_where_cheap(q) is q


def compositions() -> dict[str, Callable[[FlowDistribution], Any]]:
    return {
        "itself": lambda q: q,
        "expanded": lambda q: q.expand((3, B)),
        "followed": lambda q: FlowDistribution(q.base_dist, [*q.transforms, ExpTransform()]),
        "of torch": lambda q: TransformedDistribution(q.base_dist, q.transforms),
        "base of another": lambda q: TransformedDistribution(q, [ExpTransform()]),
        "larger events": lambda q: Independent(q, 1),
        "inverse": lambda q: FlowDistribution(q.base_dist, [q.transforms[0].inv]),
    }


@pytest.mark.parametrize("composition", compositions())
@pytest.mark.parametrize("cheap", [True, False])
def test_compositions_know_their_parts(composition: str, cheap: bool) -> None:
    settings = CHEAP["concat, two blocks"] if cheap else DEAR["low rank"]
    q = compositions()[composition](posterior(2, **settings)(torch.randn(B, C, dtype=torch.float64)))
    exact = exact_where_cheap(q)
    assert is_estimated(q)
    assert is_estimated(exact) is not cheap
    assert (exact.batch_shape, exact.event_shape) == (q.batch_shape, q.event_shape)


def test_a_composition_of_torch_is_seen_through() -> None:
    q = posterior(2, **CHEAP["bias, one layer"])(torch.randn(B, C, dtype=torch.float64))
    assert is_estimated(FlowDistribution(q.base_dist, ComposeTransform([*q.transforms, ExpTransform()])))


def test_given_probes_are_kept() -> None:
    dynamics = MLPDynamics(2, (8,)).condition()
    transform = ContinuousTransform(dynamics, probes=torch.randn(1, B, 2))
    assert transform.is_estimated
    assert transform.exact() is transform


@pytest.mark.parametrize("exact", [True, False])
def test_the_noise_of_another_library_is_known(exact: bool) -> None:
    pytest.importorskip("zuko")
    q = vf.AmortizedPosterior(2, C, "zuko:CNF", exact=exact, hidden_features=(8,))(torch.randn(B, C))
    assert is_estimated(q) is not exact


@pytest.mark.parametrize("cheap", [True, False])
def test_models_warn_of_posterior_and_prior(cheap: bool) -> None:
    shape = (1, 2, 2)
    prior = ContinuousNormalizingFlow(MLPDynamics(2, (6,) if cheap else (6, 6, 6)))
    encoder, decoder = MLPEncoder(shape, (6,), context_dim=C), MLPDecoder(2, shape, (6,))
    flow = vf.AmortizedPosterior(2, C, "planar")
    vae, x = vf.VAE(encoder, decoder, flow, BernoulliLikelihood(), prior), torch.rand(B, *shape).round()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        vae.elbo(x, 3)
        vae.importance_weighted_bound(x, 1)
        vae.renyi_bound(x, 1.0, 3)
        assert not caught
        vae.importance_weighted_bound(x, 3)
        assert [warning.category for warning in caught] == ([] if cheap else [vf.BiasedBoundWarning])
        assert cheap or "log p(z)" in str(caught[0].message)
        caught.clear()
        vae.eval().importance_weighted_bound(x, 3)
        assert not caught
