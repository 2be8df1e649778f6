"""Planar flows with amortised parameters."""

from __future__ import annotations

from torch import Tensor

from vae_flows.errors import require_positive
from vae_flows.flows.base import AmortizedFlow
from vae_flows.flows.heads import LinearHeads
from vae_flows.flows.registry import register_flow
from vae_flows.transforms.base import ChainTransform, FusedTransform
from vae_flows.transforms.planar import PlanarTransform

__all__ = ["PlanarFlow"]


@register_flow("planar")
class PlanarFlow(AmortizedFlow):
    """Planar transforms whose parameters are all emitted from the context by linear heads.

    Source: Rezende and Mohamed (2015), "Variational inference with normalizing flows".

    Arguments:
        latent_dim: Size of the latent vectors.
        context_dim: Size of the context vectors.
        num_layers: Number of planar transforms.

    Raises:
        InvalidInputError: A size is not a positive integer.

    Example:
        >>> import torch
        >>> flow = PlanarFlow(latent_dim=4, context_dim=8)
        >>> transform = flow(torch.randn(3, 8))
        >>> transform(torch.randn(10, 3, 4)).shape
        torch.Size([10, 3, 4])
    """

    def __init__(self, latent_dim: int, context_dim: int, *, num_layers: int = 4) -> None:
        super().__init__(latent_dim, context_dim)
        require_positive("PlanarFlow", num_layers=num_layers)
        self.num_layers = num_layers
        self.heads = LinearHeads(context_dim, (num_layers, latent_dim), (num_layers, latent_dim), (num_layers,))

    def transform(self, context: Tensor) -> FusedTransform:
        u, w, b = self.heads(context)
        layers = zip(u.unbind(-2), w.unbind(-2), b.unbind(-1), strict=True)
        return ChainTransform([PlanarTransform(*parameters) for parameters in layers])

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_layers={self.num_layers}"
