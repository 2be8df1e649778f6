from __future__ import annotations

import pytest
import torch

import vae_flows as vf
from experiments.speed.likelihood_rate import measure_rates, published_log_likelihood
from tests.seeds import reseed
from vae_flows.data import Images
from vae_flows.evaluation import estimate_likelihood
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder

ERRORS = 5  # standard errors allowed: a false alarm in 1.7 million comparisons
SHAPE = (1, 4, 4)


def small():
    reseed()
    posterior = vf.AmortizedPosterior(2, 6, flow="planar")
    vae = vf.VAE(MLPEncoder(SHAPE, (8,), 6), MLPDecoder(2, SHAPE, (8,)), posterior, BernoulliLikelihood())
    return vae, Images(torch.randint(256, (12, 2), dtype=torch.uint8), SHAPE, packed=True)


def test_both_schemes_estimate_the_same():
    vae, images = small()
    vae.eval()
    published = torch.stack([published_log_likelihood(vae, image, 1200) for image in images.batch()])
    ours = estimate_likelihood(vae, images, importance_samples=1200)
    error = 2**0.5 * ours.monte_carlo_error  # of the difference of two such averages
    assert float((published - ours.log_bounds[:, -1]).mean()) == pytest.approx(0, abs=ERRORS * error)


def test_rates_are_measured_of_both():
    vae, images = small()
    rates = measure_rates(vae, images, importance_samples=20, images=4, rounds=3)
    assert min(*rates.library, *rates.published) > 0
    assert abs(rates.difference) < 1
    assert vae.training
