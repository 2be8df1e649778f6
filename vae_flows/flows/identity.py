"""The posterior without a flow."""

from __future__ import annotations

from torch import Tensor

from vae_flows.flows.base import AmortizedFlow
from vae_flows.flows.registry import register_flow
from vae_flows.transforms.base import FusedTransform
from vae_flows.transforms.permutations import IdentityTransform

__all__ = ["IdentityFlow"]


@register_flow("none")
class IdentityFlow(AmortizedFlow):
    """No flow: the posterior stays the Gaussian, and the context is not used.

    Example:
        >>> import torch
        >>> z = torch.randn(3, 4)
        >>> bool((IdentityFlow(4, 8)(torch.zeros(3, 8))(z) == z).all())
        True
    """

    def transform(self, context: Tensor) -> FusedTransform:
        return IdentityTransform(self.latent_dim, context.shape[:-1])
