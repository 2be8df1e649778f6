"""Averages of densities that are noisy estimates are biased, which whatever takes them says."""

from __future__ import annotations

import warnings

import pytest
import torch

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.data import Images
from vae_flows.errors import BiasedBoundWarning
from vae_flows.evaluation import density_integral, estimate_information, posterior_grid
from vae_flows.networks import MLPDecoder, MLPEncoder

SHAPE = (1, 4, 4)


def made(**options):
    reseed()
    posterior = vf.AmortizedPosterior(2, 6, flow="ffjord", hidden_dims=(4, 4, 4), **options)
    return vf.VAE(
        MLPEncoder(SHAPE, (8,), 6), MLPDecoder(2, SHAPE, (8,)), posterior, vf.likelihoods.BernoulliLikelihood()
    )


def images():
    return Images(torch.randint(256, (6, 2), dtype=torch.uint8), SHAPE, packed=True)


TAKERS = {
    "estimate_information": lambda vae: estimate_information(vae, images()),
    "density_integral": lambda vae: density_integral(vae.eval().encode(images().batch()), 20),
    "posterior_grid": lambda vae: posterior_grid(vae, images().batch(), num_cells=8),
}


@pytest.mark.parametrize("name", TAKERS)
def test_estimates_of_log_q_are_warned_of(name):
    with pytest.warns(BiasedBoundWarning, match=f"{name}: expected an exact log q"):
        TAKERS[name](made(eval_divergence="hutchinson"))


@pytest.mark.parametrize("name", TAKERS)
def test_exact_ones_are_not(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TAKERS[name](made())
