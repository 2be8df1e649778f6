"""From a run's settings and data to its encoder and decoder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.seeds import reseed
from vae_flows.data import DataSet, Images
from vae_flows.errors import InvalidInputError
from vae_flows.networks import ConvDecoder, ConvEncoder, MLPDecoder, count_parameters
from vae_flows.runs.build import build_vae
from vae_flows.runs.settings import NetworkSettings, RunSettings


def pictures(*shape: int) -> DataSet:
    reseed(0)
    channels, height, width = shape
    images = Images(torch.randint(256, (4, channels * height * width), dtype=torch.uint8), (channels, height, width))
    return DataSet("pictures", images, images, images, "grey", "random pictures")


def settings(network: NetworkSettings) -> RunSettings:
    return RunSettings("pictures", "planar", latent_dim=4, network=network)


@pytest.mark.parametrize("kind", ["auto", "conv"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 17, 23)])
def test_pictures_of_any_size_get_convolutions(shape, kind):
    data = pictures(*shape)
    vae = build_vae(settings(NetworkSettings(kind, context_dim=8)), data)
    assert isinstance(vae.encoder, ConvEncoder)
    assert isinstance(vae.decoder, ConvDecoder)
    assert count_parameters(vae) < 10_000_000
    assert torch.isfinite(vae.elbo(data.train.batch()).elbo).all()


def test_a_model_larger_than_the_limit_is_built_on_demand_alone(monkeypatch):
    too_wide = NetworkSettings("mlp", (300,), 8)
    with monkeypatch.context() as patch:
        # It is refused before its memory is taken.
        patch.setattr("torch.random.fork_rng", None)
        with pytest.raises(
            InvalidInputError, match=r"1,048,576 × 300.*allow it: network.max_parameters=\d+\.$"
        ) as raised:
            build_vae(settings(too_wide), pictures(1, 64, 64))
    count = int(str(raised.value).rpartition("=")[2].rstrip("."))
    assert count > 50_000_000

    narrow = replace(too_wide, hidden_dims=(4,))
    vae = build_vae(settings(narrow), pictures(1, 64, 64))
    assert isinstance(vae.decoder, MLPDecoder)
    with pytest.raises(InvalidInputError, match="parameters of VAE: expected at most"):
        build_vae(settings(replace(narrow, max_parameters=count_parameters(vae) - 1)), pictures(1, 64, 64))
    build_vae(settings(replace(narrow, max_parameters=count_parameters(vae))), pictures(1, 64, 64))
