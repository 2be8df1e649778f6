"""Multilayer perceptrons with gates, for observations of any shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from vae_flows.checks import checked
from vae_flows.errors import require_positive
from vae_flows.networks.base import EventDecoder, EventEncoder, require_event_shape
from vae_flows.networks.gates import GatedLinear
from vae_flows.persistence.configuration import register_class

__all__ = ["MLPDecoder", "MLPEncoder"]


@register_class("MLPEncoder")
class MLPEncoder(EventEncoder):
    """Gated linear layers from flattened observations to features.

    Arguments:
        event_shape: Shape of one observation: `(C, H, W)` of images, `(D,)` of vectors, or any other.
        hidden_dims: Widths of the layers before the one that emits the features.
        context_dim: Size of the features.

    Raises:
        InvalidInputError: A size is not positive.

    Example:
        >>> import torch
        >>> MLPEncoder((1, 28, 28), hidden_dims=(300,), context_dim=300)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 300])
        >>> MLPEncoder((13,), hidden_dims=(32,), context_dim=16)(torch.zeros(2, 13)).shape
        torch.Size([2, 16])
    """

    @checked
    def __init__(
        self, event_shape: Sequence[int], hidden_dims: Sequence[int] = (300, 300), context_dim: int = 256
    ) -> None:
        shape = require_event_shape("MLPEncoder event_shape", event_shape)
        layers = _gated_layers("MLPEncoder", [math.prod(shape), *hidden_dims, context_dim])
        super().__init__(shape, context_dim, nn.Sequential(nn.Flatten(), *layers))
        self.hidden_dims = tuple(hidden_dims)


@register_class("MLPDecoder")
class MLPDecoder(EventDecoder):
    """Gated linear layers from latents, and a linear layer to the likelihood's parameters.

    Arguments:
        latent_dim: Size of the latents.
        event_shape: Shape of one observation: `(C, H, W)` of images, `(D,)` of vectors, or any other.
        hidden_dims: Widths of the gated layers.
        parameters_per_pixel: Parameters for each value of an observation, as the likelihood says: 1 for Bernoulli
            logits, the number of grey levels for a categorical likelihood.

    Raises:
        InvalidInputError: A size is not positive.

    Example:
        >>> import torch
        >>> MLPDecoder(32, (1, 28, 28), hidden_dims=(300,))(torch.zeros(2, 32)).shape
        torch.Size([2, 1, 28, 28])
        >>> MLPDecoder(8, (13,), hidden_dims=(32,), parameters_per_pixel=2)(torch.zeros(2, 8)).shape
        torch.Size([2, 26])
    """

    @checked
    def __init__(
        self,
        latent_dim: int,
        event_shape: Sequence[int],
        hidden_dims: Sequence[int] = (300, 300),
        parameters_per_pixel: int = 1,
    ) -> None:
        require_positive("MLPDecoder", parameters_per_pixel=parameters_per_pixel)
        shape = require_event_shape("MLPDecoder event_shape", event_shape)
        widths = [latent_dim, *hidden_dims]
        layers = _gated_layers("MLPDecoder", widths)
        head = nn.Linear(widths[-1], math.prod(shape) * parameters_per_pixel)
        super().__init__(latent_dim, shape, parameters_per_pixel, nn.Sequential(*layers, head))
        self.hidden_dims = tuple(hidden_dims)


def _gated_layers(owner: str, widths: Sequence[int]) -> list[nn.Module]:
    for width in widths:
        require_positive(owner, width=width)
    return [GatedLinear(before, after) for before, after in pairwise(widths)]
