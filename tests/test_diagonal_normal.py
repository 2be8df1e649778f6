from __future__ import annotations

import copy
import pickle

import pyro
import pytest
import torch
from pyro.distributions import Normal
from torch import Tensor
from torch.distributions import kl_divergence

import vae_flows as vf
from tests.seeds import reseed
from tests.small_flows import FLOWS, NAMES
from vae_flows import DiagonalNormal
from vae_flows.cnf import ContinuousNormalizingFlow, MLPDynamics
from vae_flows.errors import InvalidInputError
from vae_flows.likelihoods import BernoulliLikelihood, CategoricalLikelihood, Likelihood
from vae_flows.networks import MLPDecoder, MLPEncoder

EXACT = 1e-12  # another order of the same operations
STANDARD_ERRORS = 5  # of 24 means: a false alarm in 70 000 seeds


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("expanded", [False, True])
def test_values_are_validated_where_that_is_asked_for(expanded: bool) -> None:
    value = torch.full((2, 3), torch.nan)
    for validate_args in (False, True):
        p = DiagonalNormal(torch.zeros(3), torch.ones(3), validate_args=validate_args)
        p = p.expand((2,)) if expanded else p
        assert p.log_prob(torch.zeros(2, 3)).isfinite().all()
        if validate_args:
            with pytest.raises(InvalidInputError, match=r"expected values within Real\(\), got nan"):
                p.log_prob(value)
        else:
            assert p.log_prob(value).isnan().all()


@pytest.fixture
def pair() -> tuple[DiagonalNormal, torch.distributions.Distribution]:
    loc, scale = normal(5, 3), normal(5, 3).exp()
    return DiagonalNormal(loc, scale), Normal(loc, scale).to_event(1)


def test_a_diagonal_normal_is_an_independent_one(pair) -> None:
    ours, torchs = pair
    assert (ours.batch_shape, ours.event_shape, ours.support.event_dim) == ((5,), (3,), 1)
    for name in ("mean", "mode", "variance", "stddev"):
        close(getattr(ours, name), getattr(torchs, name))
    close(ours.entropy(), torchs.entropy())
    for value in (normal(5, 3), normal(7, 5, 3), normal(3)):
        close(ours.log_prob(value), torchs.log_prob(value))
    for other in (ours.expand((2, 5)), ours.expand_by((2,))):
        assert other.batch_shape == (2, 5)
        value = normal(2, 5, 3)
        close(other.log_prob(value), torchs.log_prob(value))
    reseed(3)
    draw = ours.rsample((2,))
    reseed(3)
    close(draw, torchs.rsample((2,)))


def test_draws_have_the_mean_and_variance_and_carry_gradients(pair) -> None:
    ours, _ = pair
    draws = ours.sample((40_000,))
    standardized = (draws - ours.loc) / ours.scale
    assert not draws.requires_grad
    assert (standardized.mean(0).abs() < STANDARD_ERRORS / 200).all()
    assert ((standardized.square().mean(0) - 1).abs() < STANDARD_ERRORS * 2**0.5 / 200).all()
    loc, scale = normal(3).requires_grad_(), normal(3).exp().requires_grad_()
    reseed()
    draw = DiagonalNormal(loc, scale).rsample()
    of_loc, of_scale = torch.autograd.grad(draw.sum(), (loc, scale))
    close(of_loc, torch.ones(3).double())
    close(of_scale, ((draw - loc) / scale).detach())


def test_divergence_of_two_is_the_closed_form() -> None:
    p, q = (DiagonalNormal(normal(5, 3), normal(5, 3).exp()) for _ in range(2))
    independent = [Normal(distribution.loc, distribution.scale).to_event(1) for distribution in (p, q)]
    close(kl_divergence(p, q), kl_divergence(*independent))


@pytest.mark.parametrize(("sample", "batch"), [((), (0,)), ((4,), (0,)), ((0,), (5,)), ((), (2, 0)), ((0, 2), ())])
def test_nothing_is_drawn_and_scored(sample: tuple[int, ...], batch: tuple[int, ...]) -> None:
    p = DiagonalNormal(normal(*batch, 3), normal(*batch, 3).exp(), validate_args=True)
    z = p.rsample(sample)
    assert (z.shape, p.log_prob(z).shape, p.entropy().shape) == ((*sample, *batch, 3), sample + batch, batch)


def test_it_is_a_pyro_distribution_that_can_be_copied(pair) -> None:
    ours, _ = pair
    with pyro.plate("right", 5), pyro.plate("left", 4):
        z = pyro.sample("z", ours)
    assert z.shape == (4, 5, 3)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        close(other.log_prob(z), ours.log_prob(z))
    assert ours.to_event(1).event_shape == (5, 3)


def test_wrong_parameters_and_values_are_named() -> None:
    with pytest.raises(InvalidInputError, match=r"on one device, got loc .*\(3, 2\), scale .*\(4,\)"):
        DiagonalNormal(normal(3, 2), normal(4))
    with pytest.raises(InvalidInputError, match=r"got loc .*\(\), scale .*\(\)"):
        DiagonalNormal(torch.tensor(0.0), torch.tensor(1.0))
    with pytest.raises(InvalidInputError, match=r"scale: expected values within GreaterThan.*, got -1.0"):
        DiagonalNormal(normal(3), -torch.ones(3), validate_args=True)
    for validate_args in (False, True):
        p = DiagonalNormal(normal(5, 3), torch.ones(3), validate_args=validate_args)
        assert p.log_prob(torch.ones(5, 3, dtype=torch.int64)).shape == (5,)
        for value in (normal(4, 3), normal(5, 1), normal(5, 3) > 0, normal(5, 3).to("meta"), normal(5, 3).to_sparse()):
            with pytest.raises(InvalidInputError, match=r"expected real numbers of shape \(\*sample, 5, 3\) on cpu"):
                p.log_prob(value)


@pytest.mark.filterwarnings("ignore::vae_flows.BiasedBoundWarning")  # of a low-rank flow in training mode
@pytest.mark.parametrize("flow", NAMES)
@pytest.mark.parametrize("likelihood", [BernoulliLikelihood(), CategoricalLikelihood(levels=4)], ids=["binary", "grey"])
def test_bounds_of_no_images_are_empty(flow: str, likelihood: Likelihood) -> None:
    shape, latent_dim = (1, 2, 2), 2
    prior = vf.FlowPrior(ContinuousNormalizingFlow(MLPDynamics(latent_dim, (4,)))) if flow == "none" else None
    vae = vf.VAE(
        MLPEncoder(shape, (4,), context_dim=3),
        MLPDecoder(latent_dim, shape, (4,), parameters_per_pixel=likelihood.parameters_per_pixel),
        FLOWS[flow].posterior(latent_dim, 3),
        likelihood,
        prior,
    )
    x = torch.rand(0, *shape)
    pyro.clear_param_store()
    terms = vae.elbo(x, num_particles=3)
    assert {tensor.shape for tensor in (terms.elbo, terms.log_likelihood, terms.kl)} == {(0,)}
    terms.elbo.sum().backward()
    assert vae.importance_weighted_bound(x, 4, chunk_size=3).shape == (0,)
    assert vae.reconstruct(x).shape == x.shape
    with pytest.raises(InvalidInputError, match="expected one or more, got none"):
        vae.guide(x)


def test_a_context_of_more_digits_than_the_posterior_is_named() -> None:
    with pytest.raises(InvalidInputError, match=r"at most torch\.float32, got torch\.float64.*\.to\(dtype\)"):
        vf.AmortizedPosterior(2, 3, "planar")(normal(5, 3))
