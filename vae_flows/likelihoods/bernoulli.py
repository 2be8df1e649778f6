"""The Bernoulli likelihood of binary values."""

from __future__ import annotations

from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from vae_flows.checks import checked
from vae_flows.likelihoods.base import UNIT_INTERVAL, IndependentValues, Likelihood
from vae_flows.likelihoods.registry import register_likelihood
from vae_flows.persistence.configuration import register_class

__all__ = ["BernoulliLikelihood"]


@register_likelihood("bernoulli")
@register_class("BernoulliLikelihood")
class BernoulliLikelihood(Likelihood):
    r"""Independent Bernoulli pixels given logits: :math:`\log p(x) = \sum_i x_i l_i - \log(1 + e^{l_i})`.

    Values between 0 and 1 are scored by the same formula, the negative binary cross entropy.

    Arguments:
        event_dim: Number of dimensions of one observation; 3 for images `(C, H, W)`, 1 for vectors.

    Example:
        >>> import torch
        >>> likelihood = BernoulliLikelihood()
        >>> logits, x = torch.zeros(5, 2, 1, 4, 4), torch.ones(2, 1, 4, 4)
        >>> likelihood.log_prob(logits, x).shape, likelihood(logits).mean.shape
        (torch.Size([5, 2]), torch.Size([5, 2, 1, 4, 4]))
    """

    support = UNIT_INTERVAL
    is_discrete = True

    @checked
    def __init__(self, event_dim: int = 3) -> None:
        super().__init__(parameters_per_pixel=1, event_dim=event_dim)

    def forward(self, parameters: Tensor) -> TorchDistribution:
        self.check_parameters(parameters)
        # Unvalidated: Bernoulli refuses values between 0 and 1, and its log_prob is the fused, stable cross entropy.
        pixels = dist.Bernoulli(logits=parameters, validate_args=False)
        return IndependentValues(pixels, self.event_dim, validate_args=False)
