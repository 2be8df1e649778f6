from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from vae_flows.data import Images
from vae_flows.errors import InvalidInputError
from vae_flows.evaluation import EvaluationResult, evaluate
from vae_flows.evaluation.bounds import score
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.modules import in_mode, placement
from vae_flows.networks import MLPDecoder, MLPEncoder
from vae_flows.posterior import AmortizedPosterior
from vae_flows.vae import ELBO, VAE

ROUNDING = 1e-9  # float64, sums over some hundred images
TIMINGS = ("seconds",)

SHAPE = (1, 4, 4)


def make_images(count: int = 50, *, dynamic: bool = False) -> Images:
    levels = torch.randint(256, (count, 16 if dynamic else 2), dtype=torch.uint8)
    return Images(levels, SHAPE, packed=not dynamic, dynamic_binarization=dynamic)


def make_vae(flow: str = "planar", **options: Any) -> VAE:
    encoder = MLPEncoder(SHAPE, hidden_dims=(8,), context_dim=6)
    posterior = AmortizedPosterior(2, 6, flow=flow, **options)
    return VAE(encoder, MLPDecoder(2, SHAPE, hidden_dims=(8,)), posterior, BernoulliLikelihood())


def numbers(result: EvaluationResult) -> dict[str, object]:
    return {field.name: getattr(result, field.name) for field in fields(result) if field.name not in TIMINGS}


def test_the_bound_is_the_sum_of_its_terms():
    result = evaluate(make_vae().double(), make_images(), batch_size=20)
    assert result.negative_elbo == pytest.approx(result.negative_log_likelihood_term + result.kl, rel=ROUNDING)
    assert (result.num_images, result.num_pixels, result.importance_samples) == (50, 16, 0)
    assert result.negative_log_likelihood is None
    assert result.bits_per_dim is None
    assert result.evaluations_per_solve is None
    assert result.seconds > 0


def test_scores_are_those_of_the_images_asked_for(monkeypatch: pytest.MonkeyPatch):
    vae, images = make_vae().double(), make_images()
    indices, batches = torch.tensor([7, 3, 3]), []
    elbo = vae.elbo

    def recorded(x: Tensor) -> ELBO:
        batches.append(x)
        return elbo(x)

    monkeypatch.setattr(vae, "elbo", recorded)
    scores = score(vae, images, indices, batch_size=2, generator=torch.Generator())
    assert torch.equal(torch.cat(batches), images.batch(indices, dtype=torch.float64))
    assert [len(batch) for batch in batches] == [2, 1]
    assert scores.log_likelihood.shape == scores.kl.shape == (3,)
    assert scores.bound is None
    assert scores.evaluations == []


class Table(VAE):
    """Stands in for a VAE: −log p and KL are read off the first two pixels."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.posterior = AmortizedPosterior(2, 6, flow="none")
        self.likelihood = BernoulliLikelihood()
        self.samples: list[tuple[int, int | None]] = []

    def elbo(self, x: Tensor) -> ELBO:
        log_likelihood, kl = -10 * x[:, 0, 0, 0], x[:, 0, 0, 1]
        return ELBO(log_likelihood - kl, log_likelihood, kl)

    def importance_weighted_bound(self, x: Tensor, num_particles: int, chunk_size: int | None = None) -> Tensor:
        self.samples.append((num_particles, chunk_size))
        return -9 * x[:, 0, 0, 0]


def test_averages_errors_and_bits_agree_with_hand_computation():
    levels = torch.zeros(4, 16, dtype=torch.uint8)
    levels[:, 0] = torch.tensor([0, 255, 255, 0])
    levels[:, 1] = torch.tensor([255, 255, 255, 255])
    table = Table()
    result = evaluate(table, Images(levels, SHAPE), batch_size=3, importance_samples=7, chunk_size=2)
    assert (result.negative_log_likelihood_term, result.kl, result.negative_elbo) == (5.0, 1.0, 6.0)
    assert result.negative_log_likelihood == 4.5
    deviation = math.sqrt(4 / 3)  # of 0, 1, 1, 0 around 1/2, times two
    assert result.negative_elbo_standard_error == pytest.approx(10 * deviation / 2 / 2, rel=ROUNDING)
    assert result.negative_log_likelihood_standard_error == pytest.approx(9 * deviation / 2 / 2, rel=ROUNDING)
    assert result.bits_per_dim_elbo == pytest.approx(6 / 16 / math.log(2), rel=ROUNDING)
    assert result.bits_per_dim == pytest.approx(4.5 / 16 / math.log(2), rel=ROUNDING)
    assert table.samples == [(7, 2), (7, 2)]


def test_a_single_image_has_no_standard_error():
    assert math.isnan(evaluate(make_vae(), make_images(1)).negative_elbo_standard_error)


class Linear(nn.Module):
    """Decodes z to the same logit for every pixel."""

    def forward(self, z: Tensor) -> Tensor:
        return z[:, :1, None, None].expand(-1, *SHAPE)


def test_importance_sampling_finds_the_likelihood():
    """With one latent that matters, p(x) is a one-dimensional integral."""
    vae = make_vae("none").double()
    vae.decoder = Linear()
    images = make_images(20)
    result = evaluate(vae, images, importance_samples=2000, chunk_size=500)
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    ones = images.batch(dtype=torch.float64).sum((1, 2, 3))
    log_joint = ones * z[:, None].sigmoid().log() + (16 - ones) * (-z[:, None]).sigmoid().log()
    log_joint = log_joint + Normal(0.0, 1.0).log_prob(z[:, None])
    exact = -(log_joint.logsumexp(0) + math.log(18 / 4000)).mean().item()
    assert result.negative_log_likelihood is not None
    assert result.negative_log_likelihood == pytest.approx(exact, abs=0.05)  # some 1/√2000 per image, before averaging
    assert result.negative_elbo > exact


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_same_seed_gives_the_same_result(dynamic: bool):
    vae, images = make_vae(), make_images(dynamic=dynamic)
    first = evaluate(vae, images, batch_size=20, importance_samples=3, seed=1)
    torch.rand(5)
    assert numbers(evaluate(vae, images, batch_size=20, importance_samples=3, seed=1)) == numbers(first)
    assert numbers(evaluate(vae, images, batch_size=20, importance_samples=3, seed=2)) != numbers(first)


def test_one_draw_is_the_same_whether_or_not_there_are_others():
    vae, images = make_vae(), make_images()
    alone, beside = (evaluate(vae, images, batch_size=20, importance_samples=samples) for samples in (0, 3))
    assert (alone.negative_elbo, alone.kl) == (beside.negative_elbo, beside.kl)


def test_the_model_and_the_global_random_numbers_stay_as_they_were():
    vae = make_vae().train()
    vae.decoder.eval()
    modes = [part.training for part in vae.modules()]
    images, state = make_images(), torch.random.get_rng_state()
    evaluate(vae, images, importance_samples=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [part.training for part in vae.modules()] == modes
    assert all(parameter.grad is None for parameter in vae.parameters())


def test_continuous_flows_are_evaluated_with_the_exact_trace():
    options = {"hidden_dims": (8,), "amortization": "bias"}
    estimating, exact = make_vae("ffjord", **options), make_vae("ffjord", divergence="exact", **options)
    exact.load_state_dict(estimating.state_dict())
    images = make_images()
    result = evaluate(estimating, images, batch_size=25)
    assert numbers(result) == numbers(evaluate(exact, images, batch_size=25))
    assert result.evaluations_per_solve is not None
    assert result.evaluations_per_solve > 6  # one step of the fifth-order solver takes as many


def test_modes_are_restored_after_a_failure():
    module = nn.Sequential(nn.Dropout(), nn.Dropout())
    module[1].eval()

    def fail() -> None:
        with in_mode(module, training=False):
            assert not module[0].training
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [part.training for part in module] == [True, False]


def test_images_take_the_dtype_of_the_parameters():
    assert placement(make_vae().double()) == (torch.device("cpu"), torch.float64)
    assert math.isfinite(evaluate(make_vae().double(), make_images()).negative_elbo)


def test_wrong_sizes_are_refused():
    with pytest.raises(InvalidInputError, match="evaluate batch_size: expected an integer of at least 1, got 0"):
        evaluate(make_vae(), make_images(), batch_size=0)
    with pytest.raises(InvalidInputError, match="evaluate importance_samples: expected an integer of at least 0"):
        evaluate(make_vae(), make_images(), importance_samples=-1)
    with pytest.raises(InvalidInputError, match="chunk_size"):
        evaluate(make_vae(), make_images(), importance_samples=2, chunk_size=0)
    wide = replace(make_images(), image_shape=(1, 2, 8))
    with pytest.raises(InvalidInputError, match=r"MLPEncoder input: expected .* \(\*batch, 1, 4, 4\)"):
        evaluate(make_vae(), wide)
