"""Likelihoods of real numbers: Gaussian, Laplace and Student-t."""

from __future__ import annotations

import math

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from vae_flows.checks import checked, require_finite
from vae_flows.likelihoods.base import IndependentValues
from vae_flows.likelihoods.elementwise import Elementwise, PositiveNumber, ScaledLikelihood
from vae_flows.likelihoods.registry import register_likelihood
from vae_flows.persistence.configuration import register_class

__all__ = ["GaussianLikelihood", "LaplaceLikelihood", "StudentTLikelihood"]


@register_likelihood("gaussian")
@register_class("GaussianLikelihood")
class GaussianLikelihood(ScaledLikelihood):
    r"""Independent Gaussian values: :math:`\log p(x) = -\sum_i (x_i - \mu_i)^2 / 2\sigma^2 + \log \sigma\sqrt{2\pi}`.

    Arguments:
        scale: σ: a number, `"learned"` (one for all values, from 1; Rybkin et al. 2021, "Simple and Effective VAE
            Training with Calibrated Decoders"), or `"emitted"` as 0.001 + softplus of each value's second parameter.
        event_dim: Number of dimensions of one observation; 3 for images `(C, H, W)`, 1 for vectors.

    Raises:
        InvalidInputError: A σ that is not positive.

    Example:
        >>> likelihood = GaussianLikelihood(scale=1.0, event_dim=1)
        >>> likelihood.log_prob(torch.zeros(2, 3), torch.zeros(2, 3))
        tensor([-2.7568, -2.7568])
    """

    @checked
    def __init__(self, scale: PositiveNumber = "learned", event_dim: int = 3) -> None:
        super().__init__(scale, event_dim)
        self.scale = scale

    def forward(self, parameters: Tensor) -> TorchDistribution:
        values = dist.Normal(*self.raw_and_scale(parameters), validate_args=False)
        return IndependentValues(values, self.event_dim, validate_args=False)


@register_likelihood("laplace")
@register_class("LaplaceLikelihood")
class LaplaceLikelihood(ScaledLikelihood):
    r"""Independent Laplace values: :math:`\log p(x) = -\sum_i |x_i - \mu_i| / b + \log 2b`.

    Arguments:
        scale: b: a number, `"learned"` (one for all values, from 1), or `"emitted"` as 0.001 + softplus of each value's
            second parameter.
        event_dim: Number of dimensions of one observation; 3 for images `(C, H, W)`, 1 for vectors.

    Raises:
        InvalidInputError: A b that is not positive.

    Example:
        >>> LaplaceLikelihood(scale=0.5, event_dim=1).log_prob(torch.zeros(2, 3), torch.ones(2, 3))
        tensor([-6., -6.])
    """

    @checked
    def __init__(self, scale: PositiveNumber = "learned", event_dim: int = 3) -> None:
        super().__init__(scale, event_dim)
        self.scale = scale

    def forward(self, parameters: Tensor) -> TorchDistribution:
        values = dist.Laplace(*self.raw_and_scale(parameters), validate_args=False)
        return IndependentValues(values, self.event_dim, validate_args=False)


@register_likelihood("student-t")
@register_class("StudentTLikelihood")
class StudentTLikelihood(ScaledLikelihood):
    r"""Independent Student-t values, which outliers move less than a Gaussian's mean.

    :math:`p(x) \propto (1 + (x - \mu)^2 / \nu\sigma^2)^{-(\nu + 1)/2}` for each value.

    Arguments:
        degrees_of_freedom: ν, above 1, so that there is a mean.
        scale: σ: a number, `"learned"` (one for all values, from 1), or `"emitted"` as 0.001 + softplus of each value's
            second parameter.
        event_dim: Number of dimensions of one observation; 3 for images `(C, H, W)`, 1 for vectors.

    Raises:
        InvalidInputError: A σ that is not positive, or a ν of one or less.

    Example:
        >>> likelihood = StudentTLikelihood(scale=1.0, event_dim=1)
        >>> likelihood(torch.zeros(2, 3)).mean.shape
        torch.Size([2, 3])
    """

    @checked
    def __init__(self, degrees_of_freedom: float = 5.0, scale: PositiveNumber = "learned", event_dim: int = 3) -> None:
        require_finite("StudentTLikelihood", above=1.0, degrees_of_freedom=degrees_of_freedom)
        super().__init__(scale, event_dim)
        self.degrees_of_freedom = degrees_of_freedom
        self.scale = scale

    def forward(self, parameters: Tensor) -> TorchDistribution:
        loc, scale = self.raw_and_scale(parameters)
        values = _StudentT(loc, scale, degrees_of_freedom=self.degrees_of_freedom)
        return IndependentValues(values, self.event_dim, validate_args=False)


class _StudentT(Elementwise):
    # PyTorch's reads its degrees of freedom back from the device each time it is made.
    values = constraints.real

    def __init__(self, *parameters: Tensor, degrees_of_freedom: float) -> None:
        super().__init__(*parameters)
        self.freedom = degrees_of_freedom

    def rebuilt(self, *parameters: Tensor) -> _StudentT:
        return _StudentT(*parameters, degrees_of_freedom=self.freedom)

    def log_prob(self, value: Tensor) -> Tensor:
        loc, scale = self.parameters
        half = (self.freedom + 1) / 2
        normaliser = math.lgamma(half) - math.lgamma(self.freedom / 2) - math.log(math.pi * self.freedom) / 2
        square = ((value - loc) / scale).square()
        return normaliser - scale.log() - half * torch.log1p(square / self.freedom)

    @property
    def mean(self) -> Tensor:
        return self.parameters[0]

    def draw(self, *parameters: Tensor) -> Tensor:
        loc, scale = parameters
        half = self.freedom / 2
        mixing = torch._standard_gamma(torch.full_like(loc, half)) / half
        return loc + scale * torch.randn_like(loc) * mixing.rsqrt()
