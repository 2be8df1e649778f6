"""The inference gap of a linear-Gaussian model and mean-field posteriors, whose parts are KL divergences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from tests.evaluation.linear_gaussian import LinearGaussianVAE, exact, weight
from tests.seeds import reseed
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.evaluation import inference_gap, local_context
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder
from vae_flows.posterior import AmortizedPosterior
from vae_flows.vae import VAE

ERRORS = 5  # standard errors allowed: a false alarm in 1.7 million comparisons
LEFT = 0.02  # nats that 300 steps of Adam leave, of a gap of some tenths


class MeanField(nn.Module):
    """q(z | h) with mean and log scale in h; both can be moved for all images by weights."""

    def __init__(self, ignore: bool = False) -> None:
        super().__init__()
        self.latent_dim = 2
        self.offset = nn.Parameter(torch.zeros(4, dtype=torch.float64))
        self.ignore = ignore

    def forward(self, h: Tensor) -> Independent:
        mean, log_scale = (self.offset.expand_as(h) if self.ignore else h + self.offset).chunk(2, -1)
        return Independent(Normal(mean, log_scale.exp(), validate_args=False), 1, validate_args=False)


class WrongEncoder(nn.Module):
    """Emits the parameters of the best mean-field posterior, with an error."""

    def __init__(self, right: nn.Module, shift: float, widen: float) -> None:
        super().__init__()
        self.right = right
        self.shift, self.widen = shift, widen

    def forward(self, x: Tensor) -> Tensor:
        mean = self.right(x)[..., :2]
        precision = self.right.covariance.inverse().diagonal()
        log_scale = -precision.log() / 2 + torch.tensor(self.widen).log()
        return torch.cat((mean + self.shift, log_scale.expand_as(mean)), -1)


def model(shift=0.4, widen=0.6, orthogonal=False, ignore=False):
    matrix = weight(orthogonal=True)
    if not orthogonal:
        matrix[:, 1] += 0.6 * matrix[:, 0]
    vae = LinearGaussianVAE(exact, matrix)
    vae.encoder = WrongEncoder(vae.encoder, shift, widen)
    vae.posterior = MeanField(ignore)
    return vae


def divergence(vae, x, h):
    """KL(q(z | h) || p(z | x))."""
    mean, log_scale = h.chunk(2, -1)
    q = MultivariateNormal(mean, torch.diag_embed((2 * log_scale).exp()))
    right = vae.encoder.right
    return kl_divergence(q, MultivariateNormal(right(x)[..., :2], right.covariance))


def parts(vae, x):
    best = WrongEncoder(vae.encoder.right, 0.0, 1.0)(x)
    approximation = divergence(vae, x, best)
    return approximation, divergence(vae, x, vae.encoder(x)) - approximation


def check(found, vae, x):
    approximation, amortization = parts(vae, x)
    # The bound of 2,000 draws is biased by less than 1e-3 here.
    slack = LEFT + ERRORS * found.local_elbo_error
    assert ((found.approximation - approximation).abs() < slack).all()
    assert ((found.amortization - amortization).abs() < slack + ERRORS * found.elbo_error).all()
    torch.testing.assert_close(found.approximation + found.amortization, found.total)
    return approximation, amortization


def test_both_parts_are_those_of_the_closed_form():
    vae = model()
    x = vae.data(5)
    approximation, amortization = check(inference_gap(vae, x), vae, x)
    assert (approximation > 2 * LEFT).all()  # so that both parts are seen
    assert (amortization > 2 * LEFT).all()


def test_a_family_that_has_the_posterior_leaves_the_amortization_gap_alone():
    vae = model(orthogonal=True)
    x = vae.data(3)
    approximation, _ = check(inference_gap(vae, x), vae, x)
    assert (approximation < 1e-9).all()


def test_a_right_encoder_leaves_no_amortization_gap():
    vae = model(shift=0.0, widen=1.0)
    x = vae.data(3)
    found = inference_gap(vae, x)
    assert (found.amortization.abs() < LEFT + ERRORS * (found.elbo_error + found.local_elbo_error)).all()
    assert (found.approximation > 2 * LEFT).all()


def test_a_posterior_that_ignores_its_context_is_mended_by_its_weights_alone():
    vae = model(ignore=True)
    with torch.no_grad():
        vae.posterior.offset.copy_(torch.tensor([0.3, 0.3, -0.5, -0.5]))
    x, before = vae.data(3), vae.posterior.offset.detach().clone()
    by_context = inference_gap(vae, x, num_steps=50)
    assert (by_context.amortization.abs() < ERRORS * (by_context.elbo_error + by_context.local_elbo_error)).all()
    by_weights = inference_gap(vae, x, family="posterior")
    approximation, _ = parts(vae, x)
    assert ((by_weights.approximation - approximation).abs() < LEFT + ERRORS * by_weights.local_elbo_error).all()
    assert torch.equal(vae.posterior.offset, before)


def test_local_contexts_of_any_density_are_found():
    reseed()
    target = MultivariateNormal(torch.tensor([1.0, -2.0]), torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
    h = local_context(target.log_prob, MeanField().float(), torch.zeros(1, 4))
    truth = torch.tensor([1.0, -2.0, *[0.5 * torch.tensor(0.75).log()] * 2])  # the diagonal of the precision is 4/3
    torch.testing.assert_close(h[0], truth, atol=0.1, rtol=0)


@pytest.mark.parametrize("flow", ["planar", "iaf", "ffjord"])
def test_the_model_stays_as_it_was(flow):
    reseed()
    options = {"hidden_dims": (8,), "amortization": "bias"} if flow == "ffjord" else {"num_layers": 2}
    shape = (1, 4, 4)
    posterior = AmortizedPosterior(2, 6, flow=flow, **options)
    vae = VAE(MLPEncoder(shape, (8,), 6), MLPDecoder(2, shape, (8,)), posterior, BernoulliLikelihood())
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    x, state = torch.rand(2, *shape), torch.random.get_rng_state()
    found = inference_gap(vae, x, num_steps=20, num_samples=300)
    again = inference_gap(vae, x, num_steps=20, num_samples=300)
    assert torch.equal(found.total, again.total)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert vae.training
    assert all(torch.equal(before[name], tensor) for name, tensor in vae.state_dict().items())
    assert all(parameter.grad is None for parameter in vae.parameters())


@pytest.mark.parametrize("num_steps", [1, 2, 9, 10, 11])
def test_few_steps_are_taken_as_well(num_steps):
    vae = model()
    x = vae.data(2)
    gap = inference_gap(vae, x, num_steps=num_steps, num_samples=50)
    assert not torch.equal(gap.local_context, vae.encoder(x))


def test_wrong_use_is_told():
    vae = model()
    with pytest.raises(InvalidInputError, match="one batch of images"):
        inference_gap(vae, vae.data(1)[0])
    with pytest.raises(UnknownNameError, match="context"):
        inference_gap(vae, vae.data(1), family="contxt")
    with pytest.raises(InvalidInputError, match="learning_rate"):
        inference_gap(vae, vae.data(1), learning_rate=0.0)
