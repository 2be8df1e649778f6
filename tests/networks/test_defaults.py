"""The networks that fit data of one shape."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.likelihoods import BernoulliLikelihood, CategoricalLikelihood, Likelihood
from vae_flows.networks import (
    LARGE_MODEL,
    ConvDecoder,
    ConvEncoder,
    GatedConv2d,
    GatedConvTranspose2d,
    MLPDecoder,
    MLPEncoder,
    count_parameters,
    default_networks,
)

PICTURES = [
    (1, 28, 28),
    (1, 28, 20),
    (3, 32, 32),
    (1, 17, 23),
    (3, 64, 48),
    (2, 5, 5),
    (1, 1, 1),
    (4, 1, 30),
    (3, 96, 97),
]
OTHERS = [(1,), (13,), (6, 4), (2, 3, 4, 5)]
FIT_FOR_ONE_PROCESSOR = 10_000_000


def likelihood_of(kind: type[Likelihood], shape: tuple[int, ...]) -> Likelihood:
    return kind(event_dim=len(shape))  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("kind", [BernoulliLikelihood, CategoricalLikelihood])
@pytest.mark.parametrize("shape", [*PICTURES, *OTHERS], ids=str)
def test_data_of_every_shape_are_encoded_decoded_and_scored(shape: tuple[int, ...], kind: type[Likelihood]):
    likelihood = likelihood_of(kind, shape)
    encoder, decoder = default_networks(shape, likelihood, latent_dim=3)
    x = torch.rand(2, *shape).round()
    x[0] = 1  # where every value is zero, no gradient reaches the first weights
    features = encoder(x)
    parameters = decoder(features[:, :3])
    log_likelihood = likelihood.log_prob(parameters, x)
    assert features.shape == (2, 256)
    assert log_likelihood.shape == (2,)
    assert likelihood(parameters).event_shape == shape
    (-log_likelihood.sum()).backward()
    for part in (encoder, decoder):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", [BernoulliLikelihood, CategoricalLikelihood])
@pytest.mark.parametrize("shape", PICTURES, ids=str)
def test_pictures_get_convolutions_of_moderate_size(shape: tuple[int, ...], kind: type[Likelihood]):
    networks = default_networks(shape, likelihood_of(kind, shape))
    assert isinstance(networks.encoder, ConvEncoder)
    assert isinstance(networks.decoder, ConvDecoder)
    assert sum(map(count_parameters, networks)) < FIT_FOR_ONE_PROCESSOR < LARGE_MODEL


@pytest.mark.parametrize("shape", OTHERS, ids=str)
def test_other_data_get_dense_layers(shape: tuple[int, ...]):
    networks = default_networks(shape, likelihood_of(BernoulliLikelihood, shape), hidden_dims=(7, 5))
    assert isinstance(networks.encoder, MLPEncoder)
    assert isinstance(networks.decoder, MLPDecoder)
    assert (networks.encoder.hidden_dims, networks.decoder.hidden_dims) == ((7, 5), (5, 7))


@pytest.mark.parametrize(("shape", "per_pixel"), [((1, 28, 28), 1), ((1, 28, 20), 256)])
def test_pictures_of_the_benchmark_get_the_published_networks(shape: tuple[int, int, int], per_pixel: int):
    likelihood = BernoulliLikelihood() if per_pixel == 1 else CategoricalLikelihood(per_pixel)
    coarse = shape[1] // 4, shape[2] // 4
    reseed(3)
    default = default_networks(shape, likelihood)
    reseed(3)
    layers = [(1, 32, 5, 1, 2), (32, 32, 5, 2, 2), (32, 64, 5, 1, 2), (64, 64, 5, 2, 2), (64, 64, 5, 1, 2)]
    encoder = [GatedConv2d(*layer) for layer in [*layers, (64, 256, coarse, 1, 0)]]
    # With the same seed the same weights, so the head comes first, as it always did.
    head = [nn.Conv2d(32, 1, 1)] if per_pixel == 1 else [nn.Conv2d(32, 256, 5, padding=2), nn.Conv2d(256, per_pixel, 1)]
    layers = [(64, 64, coarse, 1, 0), (64, 64, 5, 1, 2), (64, 32, 5, 2, 2, 1), (32, 32, 5, 1, 2), (32, 32, 5, 2, 2, 1)]
    decoder = [GatedConvTranspose2d(*layer) for layer in [*layers, (32, 32, 5, 1, 2)]]
    x, z = torch.rand(2, *shape), torch.randn(2, 64)
    assert torch.equal(default.encoder(x), nn.Sequential(*encoder)(x).flatten(1))
    assert torch.equal(default.decoder(z), nn.Sequential(*decoder, *head)(z[..., None, None]))


def test_a_vae_of_default_networks_is_saved_and_loaded(tmp_path):
    encoder, decoder = default_networks((3, 17, 12), BernoulliLikelihood(), latent_dim=2, context_dim=5)
    vae = vf.VAE(encoder, decoder, vf.AmortizedPosterior(2, 5, "planar"), BernoulliLikelihood())
    vae.save_pretrained(tmp_path)
    loaded = vf.VAE.from_pretrained(tmp_path)
    z = torch.randn(4, 2)
    assert torch.equal(loaded.decode(z).mean, vae.eval().decode(z).mean)


def test_the_likelihood_must_be_of_such_data():
    with pytest.raises(vf.InvalidInputError, match=r"BernoulliLikelihood: .*\(13,\), got event_dim = 3.*event_dim=1"):
        default_networks((13,), BernoulliLikelihood())
