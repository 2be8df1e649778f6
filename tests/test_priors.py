"""A continuous flow as the prior of a VAE: trained with it, and the same in Pyro."""

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.cnf import ContinuousNormalizingFlow, MLPDynamics
from vae_flows.errors import InvalidInputError
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder
from vae_flows.priors import FlowPrior

SHAPE = (1, 4, 4)
SOLVER = 1e-4  # solves at tolerance 1e-5, there and back


@pytest.fixture(autouse=True)
def _clean_param_store():
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


def make(num_blocks=1):
    flow = ContinuousNormalizingFlow([MLPDynamics(3, (8,), activation="tanh") for _ in range(num_blocks)])
    return vf.VAE(
        MLPEncoder(SHAPE, hidden_dims=(8,), context_dim=6),
        MLPDecoder(3, SHAPE, hidden_dims=(8,)),
        vf.AmortizedPosterior(3, 6, "ffjord", hidden_dims=(8,), rank=2),
        BernoulliLikelihood(),
        prior=FlowPrior(flow),
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("particles", [1, 3])
def test_pyro_computes_the_same_elbo_for_the_same_draws(training, particles):
    vae, x = make().double().train(training), torch.rand(7, *SHAPE, dtype=torch.float64)
    reseed(1)
    expected = vae.elbo(x, num_particles=particles, beta=0.3).elbo.sum()
    reseed(1)
    estimator = Trace_ELBO(num_particles=particles, vectorize_particles=particles > 1, max_plate_nesting=1)
    assert -estimator.loss(vae.model, vae.guide, x, 0.3) == pytest.approx(float(expected.detach()), rel=1e-9)


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_the_bound_reaches_every_parameter_of_the_prior(num_blocks):
    vae = make(num_blocks)
    (-vae.elbo(torch.rand(7, *SHAPE)).elbo.mean()).backward()
    gradients = {name: parameter.grad for name, parameter in vae.prior_model.named_parameters()}
    assert len(gradients) == 6 * num_blocks
    assert not [name for name, gradient in gradients.items() if gradient is None or not gradient.abs().sum() > 0]


def test_pyro_trains_the_prior():
    vae, x = make(), torch.rand(7, *SHAPE)
    before = {name: parameter.detach().clone() for name, parameter in vae.prior_model.named_parameters()}
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
    for _ in range(3):
        svi.step(x)
    assert not [name for name, parameter in vae.prior_model.named_parameters() if torch.equal(parameter, before[name])]


def test_the_kl_term_is_that_of_this_prior_and_samples_are_its_own():
    vae, x = make().eval(), torch.rand(5, *SHAPE)
    reseed(2)
    with torch.no_grad():
        q = vae.encode(x)
        z = q.rsample((1,))
        reseed(2)
        kl = vae.elbo(x).kl
        torch.testing.assert_close(kl, (q.log_prob(z) - vae.prior_model.flow().log_prob(z))[0])
        reseed(3)
        z = vae.prior(z).sample((4,))
        reseed(3)
        expected = vae.prior_model.flow.transform()(torch.randn(4, 3))
    torch.testing.assert_close(z, expected)
    assert vae.generate(4).shape == (4, *SHAPE)
    assert vae.importance_weighted_bound(x, 4, chunk_size=2).shape == (5,)


def test_a_better_prior_is_learned_for_latents_that_are_not_gaussian():
    """The prior alone, fitted to draws on a circle, comes to prefer them over draws from the Gaussian."""
    prior = FlowPrior(ContinuousNormalizingFlow(MLPDynamics(2, (16,), activation="tanh")))
    optimizer = torch.optim.Adam(prior.parameters(), lr=2e-2)
    angle = torch.rand(256) * 6.283
    z = 2 * torch.stack([angle.cos(), angle.sin()], -1) + 0.3 * torch.randn(256, 2)
    standard = -prior.flow.base().log_prob(z).mean()
    for _ in range(60):
        loss = -prior().log_prob(z).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    prior.eval()
    assert -prior().log_prob(z).mean() < standard - 0.5


def test_conditional_flows_are_refused():
    with pytest.raises(InvalidInputError, match="unconditional flow, got context_dim=3"):
        FlowPrior(ContinuousNormalizingFlow(MLPDynamics(2, (8,)), context_dim=3))
