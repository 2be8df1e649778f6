"""The continuous Bernoulli likelihood of values in [0, 1]."""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from vae_flows.checks import checked
from vae_flows.likelihoods.base import UNIT_INTERVAL, IndependentValues, Likelihood
from vae_flows.likelihoods.elementwise import Elementwise
from vae_flows.likelihoods.registry import register_likelihood
from vae_flows.persistence.configuration import register_class

__all__ = ["ContinuousBernoulliLikelihood"]

# Below this |h| the series below are exact to the last digit of float64, above it the closed forms lose two at most.
_SERIES = 0.25


@register_likelihood("continuous-bernoulli")
@register_class("ContinuousBernoulliLikelihood")
class ContinuousBernoulliLikelihood(Likelihood):
    r"""Independent continuous Bernoulli values given logits: a Bernoulli's formula, normalised on [0, 1].

    :math:`\log p(x) = \sum_i x_i l_i - \log((e^{l_i} - 1) / l_i)` (Loaiza-Ganem & Cunningham 2019, "The continuous
    Bernoulli: fixing a pervasive error in variational autoencoders", equations 5 and 6, where λ = sigmoid(l)).

    Arguments:
        event_dim: Number of dimensions of one observation; 3 for images `(C, H, W)`, 1 for vectors.

    Example:
        >>> likelihood = ContinuousBernoulliLikelihood(event_dim=1)
        >>> likelihood.log_prob(torch.zeros(2, 3), torch.rand(2, 3)), likelihood(torch.zeros(2)).mean
        (tensor([0., 0.]), tensor([0.5000, 0.5000]))
    """

    support = UNIT_INTERVAL

    @checked
    def __init__(self, event_dim: int = 3) -> None:
        super().__init__(parameters_per_pixel=1, event_dim=event_dim)

    def forward(self, parameters: Tensor) -> TorchDistribution:
        return IndependentValues(_ContinuousBernoulli(*self.split(parameters)), self.event_dim, validate_args=False)


class _ContinuousBernoulli(Elementwise):
    values = constraints.unit_interval

    def log_prob(self, value: Tensor) -> Tensor:
        (logit,) = self.parameters
        return (value.to(logit.dtype) - 0.5) * logit - _log_sinhc(logit / 2)

    @property
    def mean(self) -> Tensor:
        (logit,) = self.parameters
        return 0.5 + _langevin(logit / 2) / 2

    def draw(self, *parameters: Tensor) -> Tensor:
        (logit,) = parameters
        # The inverse of the distribution function where it does not overflow, mirrored for positive logits.
        uniform, size = torch.rand_like(logit), logit.abs().clamp_min(1e-20)
        x = -torch.log1p(uniform * torch.expm1(-size)) / size
        return torch.where(logit > 0, 1 - x, x).clamp(0, 1)


def _log_sinhc(h: Tensor) -> Tensor:
    """Return log(sinh(h) / h), so that the log normaliser of a logit l is l/2 plus this at l/2."""
    small = h.abs() < _SERIES
    s = torch.where(small, h, 0.0).square()
    terms = (1 / 6, -1 / 180, 1 / 2835, -1 / 37800, 1 / 467775, -691 / 3831077250)
    a = torch.where(small, 1.0, h.abs())
    exact = a + torch.log1p(-torch.exp(-2 * a)) - torch.log(2 * a)
    return torch.where(small, s * _polynomial(s, terms), exact)


def _langevin(h: Tensor) -> Tensor:
    """Return coth(h) - 1/h, the derivative of log(sinh(h) / h)."""
    small = h.abs() < _SERIES
    near = torch.where(small, h, 0.0)
    terms = (1 / 3, -1 / 45, 2 / 945, -1 / 4725, 2 / 93555, -1382 / 638512875)
    far = torch.where(small, 1.0, h)
    return torch.where(small, near * _polynomial(near.square(), terms), 1 / torch.tanh(far) - 1 / far)


def _polynomial(s: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    value = torch.zeros_like(s)
    for coefficient in reversed(coefficients):
        value = value * s + coefficient
    return value
