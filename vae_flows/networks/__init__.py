"""Encoders and decoders with gated layers: convolutions for pictures, dense layers for vectors, and what fits the data.

Encoders map observations `(*batch, C, *rest)` to features `(*batch, context_dim)`; decoders map latents
`(*batch, latent_dim)` to parameters `(*batch, C * parameters_per_pixel, *rest)`, of which those of one channel are
neighbours: reshape to `(*batch, C, parameters_per_pixel, *rest)`. `default_networks` chooses by the shape of the data.
"""

from vae_flows.networks.convolutional import ConvDecoder, ConvEncoder
from vae_flows.networks.defaults import Networks, default_networks
from vae_flows.networks.gates import GatedConv2d, GatedConvTranspose2d, GatedLinear
from vae_flows.networks.mlp import MLPDecoder, MLPEncoder
from vae_flows.networks.size import LARGE_MODEL, check_parameter_count, count_parameters

__all__ = [
    "LARGE_MODEL",
    "ConvDecoder",
    "ConvEncoder",
    "GatedConv2d",
    "GatedConvTranspose2d",
    "GatedLinear",
    "MLPDecoder",
    "MLPEncoder",
    "Networks",
    "check_parameter_count",
    "count_parameters",
    "default_networks",
]
