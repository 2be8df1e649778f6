"""Likelihoods of counts: Poisson and negative binomial."""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from vae_flows.checks import checked
from vae_flows.likelihoods.base import COUNTS, IndependentValues, Likelihood
from vae_flows.likelihoods.elementwise import Elementwise, PositiveNumber, ScaledLikelihood, log_softplus
from vae_flows.likelihoods.registry import register_likelihood
from vae_flows.persistence.configuration import register_class

__all__ = ["NegativeBinomialLikelihood", "PoissonLikelihood"]


@register_likelihood("poisson")
@register_class("PoissonLikelihood")
class PoissonLikelihood(Likelihood):
    r"""Independent Poisson counts of rate λ, the softplus of the decoder's output.

    :math:`\log p(x) = \sum_i x_i \log \lambda_i - \lambda_i - \log x_i!`

    Arguments:
        event_dim: Number of dimensions of one observation; 3 for images `(C, H, W)`, 1 for vectors.

    Example:
        >>> likelihood = PoissonLikelihood(event_dim=1)
        >>> likelihood(torch.zeros(2)).mean  # log 2
        tensor([0.6931, 0.6931])
    """

    support = COUNTS
    is_discrete = True

    @checked
    def __init__(self, event_dim: int = 3) -> None:
        super().__init__(parameters_per_pixel=1, event_dim=event_dim)

    def forward(self, parameters: Tensor) -> TorchDistribution:
        (raw,) = self.split(parameters)
        return IndependentValues(_Poisson(log_softplus(raw)), self.event_dim, validate_args=False)


class _Poisson(Elementwise):
    values = constraints.nonnegative_integer

    def log_prob(self, value: Tensor) -> Tensor:
        (log_rate,) = self.parameters
        log_rate, value = _widest(log_rate), _widest(value)
        result = value * log_rate - log_rate.exp() - torch.lgamma(value + 1)
        return result.to(self.parameters[0].dtype)

    @property
    def mean(self) -> Tensor:
        return self.parameters[0].exp()

    def draw(self, *parameters: Tensor) -> Tensor:
        return torch.poisson(parameters[0].exp())


@register_likelihood("negative-binomial")
@register_class("NegativeBinomialLikelihood")
class NegativeBinomialLikelihood(ScaledLikelihood):
    r"""Independent negative binomial counts of mean μ, the softplus of the decoder's output, and variance μ + μ²/θ.

    :math:`p(x) = \frac{\Gamma(x + \theta)}{\Gamma(\theta)\, x!} (\frac{\theta}{\theta + \mu})^\theta
    (\frac{\mu}{\theta + \mu})^x` for each count: a Poisson whose rate is Gamma distributed.

    Arguments:
        concentration: θ: a number, `"learned"` (one for all counts, from 1), or `"emitted"` as 0.001 + softplus of each
            count's second parameter.
        event_dim: Number of dimensions of one observation; 3 for images `(C, H, W)`, 1 for vectors.

    Raises:
        InvalidInputError: A θ that is not positive.

    Example:
        >>> likelihood = NegativeBinomialLikelihood(concentration=2.0, event_dim=1)
        >>> likelihood(torch.zeros(2)).mean  # log 2
        tensor([0.6931, 0.6931])
    """

    support = COUNTS
    is_discrete = True

    @checked
    def __init__(self, concentration: PositiveNumber = "learned", event_dim: int = 3) -> None:
        super().__init__(concentration, event_dim, argument="concentration")
        self.concentration = concentration

    def forward(self, parameters: Tensor) -> TorchDistribution:
        raw, concentration = self.raw_and_scale(parameters)
        values = _NegativeBinomial(log_softplus(raw), concentration)
        return IndependentValues(values, self.event_dim, validate_args=False)


LARGE = 1e6
"""θ from which the second term of Stirling's series is below rounding."""


class _NegativeBinomial(Elementwise):
    values = constraints.nonnegative_integer

    def log_prob(self, value: Tensor) -> Tensor:
        log_mean, theta = self.parameters
        log_mean, theta, value = _widest(log_mean), _widest(theta), _widest(value)
        choices = _log_gamma_ratio(value, theta) - torch.lgamma(value + 1)
        log_ratio = log_mean - torch.logaddexp(theta.log(), log_mean)
        result = choices - theta * torch.log1p(log_mean.exp() / theta) + value * log_ratio
        return result.to(self.parameters[0].dtype)

    @property
    def mean(self) -> Tensor:
        return self.parameters[0].exp()

    def draw(self, *parameters: Tensor) -> Tensor:
        log_mean, theta = parameters
        return torch.poisson(torch._standard_gamma(theta) / theta * log_mean.exp())


def _log_gamma_ratio(value: Tensor, theta: Tensor) -> Tensor:
    """Return log Γ(x + θ) − log Γ(θ), of which large θ would leave no digits: there by Stirling's series of both."""
    series = (theta - 0.5) * torch.log1p(value / theta) + value * torch.log(theta + value) - value
    series = series + (1 / (theta + value) - 1 / theta) / 12
    return torch.where(theta < LARGE, torch.lgamma(value + theta) - torch.lgamma(theta), series)


def _widest(value: Tensor) -> Tensor:
    """Convert to double precision: the terms are large for large counts and concentrations, and their sum is not."""
    return value if value.device.type == "mps" else value.double()  # that device has no double precision
