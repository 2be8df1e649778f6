"""The encoder and decoder that data get where nothing else is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.likelihoods import Likelihood
from vae_flows.networks.base import EventDecoder, EventEncoder, require_event_shape
from vae_flows.networks.convolutional import ConvDecoder, ConvEncoder
from vae_flows.networks.mlp import MLPDecoder, MLPEncoder

__all__ = ["Networks", "default_networks"]


class Networks(NamedTuple):
    """An encoder and the decoder that goes with it."""

    encoder: EventEncoder
    decoder: EventDecoder


@checked
def default_networks(
    event_shape: Sequence[int],
    likelihood: Likelihood,
    latent_dim: int = 64,
    context_dim: int = 256,
    hidden_dims: Sequence[int] = (300, 300),
) -> Networks:
    """Build the encoder and decoder that fit data of one shape: p(x | z) is `likelihood(decoder(z))`.

    Pictures `(C, H, W)` of any size get gated convolutions, at 28×28 and 28×20 those of the benchmark (van den Berg et
    al. 2018, "Sylvester Normalizing Flows for Variational Inference"). Everything else gets gated dense layers.

    Arguments:
        event_shape: Shape of one observation: `(C, H, W)` of pictures, `(D,)` of vectors, or any other.
        likelihood: Says how many parameters a value takes.
        latent_dim: Size of the latents.
        context_dim: Size of the features that the encoder emits for the posterior.
        hidden_dims: Widths of the encoder's dense layers, which the decoder has in reverse; convolutions have none.

    Returns:
        The encoder, `(*batch, *event_shape)` to `(*batch, context_dim)`, and the decoder, `(*batch, latent_dim)` to the
        likelihood's parameters.

    Raises:
        InvalidInputError: A size is not positive, or the likelihood is of observations with other dimensions.

    Example:
        >>> import vae_flows as vf
        >>> encoder, decoder = default_networks((3, 32, 32), vf.likelihoods.BernoulliLikelihood(), latent_dim=16)
        >>> vae = vf.VAE(encoder, decoder, vf.AmortizedPosterior(16, 256), vf.likelihoods.BernoulliLikelihood())
        >>> vae.generate(2).shape
        torch.Size([2, 3, 32, 32])
    """
    shape = require_event_shape("default_networks event_shape", event_shape)
    if likelihood.event_dim != len(shape):
        remedy = f"Build it with event_dim={len(shape)}, or give the data channels, height and width."
        expected, got = f"observations of shape {shape}", f"event_dim = {likelihood.event_dim}"
        raise InvalidInputError(complaint(f"{type(likelihood).__name__}", expected, got, remedy))
    per_value = likelihood.parameters_per_pixel
    if len(shape) == 3:
        return Networks(ConvEncoder(shape, context_dim), ConvDecoder(latent_dim, shape, per_value))
    widths = tuple(hidden_dims)
    return Networks(
        MLPEncoder(shape, widths, context_dim),
        MLPDecoder(latent_dim, shape, widths[::-1], per_value),
    )
