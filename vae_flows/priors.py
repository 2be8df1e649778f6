"""Learned priors of a VAE."""

from __future__ import annotations

from torch import nn

from vae_flows.checks import checked
from vae_flows.cnf.density import ContinuousNormalizingFlow
from vae_flows.distributions import FlowDistribution
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.persistence.configuration import register_class

__all__ = ["FlowPrior"]


@register_class("FlowPrior")
class FlowPrior(nn.Module):
    """A continuous normalizing flow as the prior of a `VAE`, in plain PyTorch and in Pyro, trained with the rest of it.

    Scoring a latent takes a solve of the prior's own, beside that of the posterior.

    Arguments:
        flow: An unconditional density of latents `(latent_dim,)`.

    Raises:
        InvalidInputError: The flow needs a context.

    Example:
        >>> import torch
        >>> from vae_flows.cnf import ContinuousNormalizingFlow, MLPDynamics
        >>> prior = FlowPrior(ContinuousNormalizingFlow(MLPDynamics(2, (16,))))
        >>> prior().log_prob(torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    @checked
    def __init__(self, flow: ContinuousNormalizingFlow) -> None:
        super().__init__()
        if flow.context_dim is not None:
            raise InvalidInputError(complaint("FlowPrior", "an unconditional flow", f"context_dim={flow.context_dim}"))
        self.flow = flow

    def forward(self) -> FlowDistribution:
        """Return p(z), a Pyro distribution with event shape `(latent_dim,)`."""
        return self.flow()
