"""Planar flows with amortised parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vae_flows.checks import checked
from vae_flows.errors import require_positive
from vae_flows.flows.base import AmortizedFlow
from vae_flows.flows.heads import Initialization, LinearHeads, require_initialization
from vae_flows.flows.registry import register_flow
from vae_flows.transforms.base import FusedTransform
from vae_flows.transforms.chain import ChainTransform
from vae_flows.transforms.planar import PlanarTransform

__all__ = ["PlanarFlow"]

# Standard deviation of the directions û at the start.
START = 0.03
# Where wᵀu has this value, û = u - wᵀu w / ||w||², so that u along w gives none.
NEUTRAL_PRODUCT = math.log(math.e - 1)


@register_flow("planar")
class PlanarFlow(AmortizedFlow):
    """Planar transforms whose parameters are all emitted from the context by linear heads.

    Source: Rezende and Mohamed (2015), "Variational inference with normalizing flows".

    Arguments:
        latent_dim: Size of the latent vectors.
        context_dim: Size of the context vectors.
        num_layers: Number of planar transforms.
        initialization: `identity` starts near the identity, with the same u and w for every context; `published` is
            the literature's start, PyTorch's of linear layers, which moves a draw the further, the larger the context.

    Raises:
        InvalidInputError: A size is not a positive integer, or there is no such initialisation.

    Example:
        >>> import torch
        >>> flow = PlanarFlow(latent_dim=4, context_dim=8)
        >>> transform = flow(torch.randn(3, 8))
        >>> transform(torch.randn(10, 3, 4)).shape
        torch.Size([10, 3, 4])
    """

    @checked
    def __init__(
        self, latent_dim: int, context_dim: int, *, num_layers: int = 4, initialization: Initialization = "identity"
    ) -> None:
        super().__init__(latent_dim, context_dim)
        require_positive("PlanarFlow", num_layers=num_layers)
        require_initialization("PlanarFlow", initialization)
        self.num_layers = num_layers
        self.initialization = initialization
        self.heads = LinearHeads(context_dim, (num_layers, latent_dim), (num_layers, latent_dim), (num_layers,))
        if initialization == "identity":
            # Of length 1, w does not saturate tanh(wᵀz). b varies with the context, as tanh bounds what it does.
            w = F.normalize(torch.randn(num_layers, latent_dim), dim=-1)
            u = NEUTRAL_PRODUCT * w + START * torch.randn(num_layers, latent_dim)
            self.heads.start_at([u, w, torch.zeros(num_layers)], [0.0, 0.0, 1.0])

    def transform(self, context: Tensor) -> FusedTransform:
        u, w, b = self.heads(context)
        return ChainTransform(PlanarTransform(u, w, b).unbind())

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_layers={self.num_layers}, initialization={self.initialization!r}"
