"""One valid call of every public callable of `vae_flows.networks`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

import vae_flows as vf
from tests.valid_calls.parts import (
    LATENT,
    SHAPE,
    decoder,
    encoder,
    images,
    latents,
)
from tests.wrong_values import ValidCall
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import (
    ConvDecoder,
    ConvEncoder,
    GatedConv2d,
    GatedConvTranspose2d,
    GatedLinear,
    MLPDecoder,
    MLPEncoder,
)

__all__ = ["CALLS"]


CALLS: dict[str, Callable[[], ValidCall]] = {
    "networks.ConvEncoder": lambda: ValidCall(
        ConvEncoder, {"event_shape": SHAPE, "context_dim": 2, "num_halvings": 1}, lambda made: made(images())
    ),
    "networks.ConvEncoder.forward": lambda: ValidCall(ConvEncoder(SHAPE, 2), {"x": images()}),
    "networks.ConvDecoder": lambda: ValidCall(
        ConvDecoder,
        {"latent_dim": LATENT, "event_shape": SHAPE, "parameters_per_pixel": 1, "num_halvings": 1},
        lambda made: made(latents()),
    ),
    "networks.ConvDecoder.forward": lambda: ValidCall(ConvDecoder(LATENT, SHAPE), {"z": latents()}),
    "networks.MLPEncoder": lambda: ValidCall(
        MLPEncoder, {"event_shape": SHAPE, "hidden_dims": (4,), "context_dim": 2}, lambda made: made(images())
    ),
    "networks.MLPEncoder.forward": lambda: ValidCall(encoder(), {"x": images()}),
    "networks.MLPDecoder": lambda: ValidCall(
        MLPDecoder,
        {"latent_dim": LATENT, "event_shape": SHAPE, "hidden_dims": (4,), "parameters_per_pixel": 1},
        lambda made: made(latents()),
    ),
    "networks.MLPDecoder.forward": lambda: ValidCall(decoder(), {"z": latents()}),
    "networks.default_networks": lambda: ValidCall(
        vf.networks.default_networks,
        {
            "event_shape": SHAPE,
            "likelihood": BernoulliLikelihood(),
            "latent_dim": LATENT,
            "context_dim": 2,
            "hidden_dims": (4,),
        },
        lambda made: made.decoder(latents()),
    ),
    "networks.count_parameters": lambda: ValidCall(vf.networks.count_parameters, {"module": nn.Linear(2, 3)}),
    "networks.check_parameter_count": lambda: ValidCall(
        vf.networks.check_parameter_count,
        {"module": nn.Linear(2, 3), "max_parameters": 9, "setting": "max_parameters"},
    ),
    "networks.GatedLinear": lambda: ValidCall(
        GatedLinear, {"in_features": 3, "out_features": 2}, lambda made: made(torch.rand(4, 3))
    ),
    "networks.GatedLinear.forward": lambda: ValidCall(GatedLinear(3, 2), {"x": torch.rand(4, 3)}),
    "networks.GatedConv2d": lambda: ValidCall(
        GatedConv2d,
        {"in_channels": 1, "out_channels": 2, "kernel_size": (3, 3), "stride": 1, "padding": 1},
        lambda made: made(images()),
    ),
    "networks.GatedConv2d.forward": lambda: ValidCall(GatedConv2d(1, 2, 3), {"x": images()}),
    "networks.GatedConvTranspose2d": lambda: ValidCall(
        GatedConvTranspose2d,
        {"in_channels": 1, "out_channels": 2, "kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
        lambda made: made(images()),
    ),
    "networks.GatedConvTranspose2d.forward": lambda: ValidCall(GatedConvTranspose2d(1, 2, 3), {"x": images()}),
}
