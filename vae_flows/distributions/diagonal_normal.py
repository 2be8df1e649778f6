"""Gaussians of vectors with diagonal covariance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from vae_flows.checks import described, require_sample_shape
from vae_flows.distributions.validation import ValidatedDistribution
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.graphs import BackwardMark
from vae_flows.tensors.shapes import broadcasts, check_expanded, is_dense, is_real

__all__ = ["DiagonalNormal", "RenewedNormal"]


class DiagonalNormal(ValidatedDistribution, TorchDistribution):
    r"""The Gaussian of vectors with diagonal covariance, :math:`\log p(z) = \sum_d \log N(z_d; \mu_d, \sigma_d^2)`.

    `Normal(loc, scale).to_event(1)` with less work, and for batches and samples of size zero as well.

    Arguments:
        loc: Means μ `(*batch, D)`.
        scale: Standard deviations σ `(*batch, D)`; the two broadcast.
        validate_args: As for every distribution of torch.

    Raises:
        InvalidInputError: The shapes do not broadcast, or there is no last dimension; where arguments are validated,
            a mean that is NaN, or a standard deviation that is not positive.

    Example:
        >>> p = DiagonalNormal(torch.zeros(3, 2), torch.ones(2))
        >>> p.batch_shape, p.event_shape, p.log_prob(torch.zeros(0, 3, 2)).shape
        (torch.Size([3]), torch.Size([2]), torch.Size([0, 3]))
    """

    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        fit = is_dense(loc) and is_dense(scale) and loc.device == scale.device
        if not (fit and max(loc.dim(), scale.dim()) and broadcasts(loc.shape, scale.shape)):
            expected = "floating-point tensors loc and scale of shape (*batch, D), on one device"
            got = f"loc {described(loc)}, scale {described(scale)}"
            raise InvalidInputError(complaint("DiagonalNormal", expected, got))
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        shape = self.loc.shape
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """Vectors, and vectors of positive numbers."""
        return {"loc": constraints.real_vector, "scale": constraints.independent(constraints.positive, 1)}

    @property
    def support(self) -> constraints.Constraint:
        """Vectors."""
        return constraints.real_vector

    @property
    def mean(self) -> Tensor:
        """μ, `(*batch, D)`."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """μ, `(*batch, D)`."""
        return self.loc

    @property
    def stddev(self) -> Tensor:
        """σ, `(*batch, D)`."""
        return self.scale

    @property
    def variance(self) -> Tensor:
        """σ², `(*batch, D)`."""
        return self.scale.square()

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> DiagonalNormal:
        """Return the distribution with its parameters broadcast to another batch shape."""
        check_expanded("DiagonalNormal.expand", self.batch_shape, batch_shape)
        new = cast(DiagonalNormal, self._get_checked_instance(DiagonalNormal, _instance))
        shape = Size(batch_shape) + self.event_shape
        new.loc, new.scale = self.loc.expand(shape), self.scale.expand(shape)
        super(DiagonalNormal, new).__init__(shape[:-1], shape[-1:], validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw μ + σ ε, `(*sample, *batch, D)`."""
        require_sample_shape("DiagonalNormal sample_shape", sample_shape)
        noise = torch.randn(self._extended_shape(Size(sample_shape)), dtype=self.loc.dtype, device=self.loc.device)
        return torch.addcmul(self.loc, noise, self.scale)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw z without gradient, `(*sample, *batch, D)`."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(z), `(*sample, *batch)`, for `value (*sample, *batch, D)`.

        Raises:
            InvalidInputError: The value is no tensor of real numbers of that shape, on the device of the parameters;
                where arguments are validated, it is NaN.
        """
        loc = self.loc
        fits = is_real(value) and value.shape[-1:] == loc.shape[-1:] and broadcasts(value.shape, loc.shape)
        if not fits or value.device != loc.device:
            expected = f"real numbers of shape (*sample, {', '.join(map(str, loc.shape))}) on {loc.device}"
            raise InvalidInputError(complaint("DiagonalNormal.log_prob", expected, described(value)))
        if self._validate_args:
            self._validate_sample(value)
        squares = ((value - self.loc) / self.scale).square()
        # The constant is added to each number: D times it would be one of 32 bits under torch.jit.trace.
        return -(0.5 * squares + self.scale.log() + 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self) -> Tensor:
        """Return the entropy in nats, `(*batch)`."""
        return 0.5 * self.event_shape[0] * (1 + math.log(2 * math.pi)) + self.scale.log().sum(-1)


class RenewedNormal(DiagonalNormal):
    """A diagonal Gaussian whose parameters are built again once a backward pass may have freed their graph.

    Arguments:
        build: Returns means and standard deviations, both `(*batch, D)`.
    """

    def __init__(self, build: Callable[[], tuple[Tensor, Tensor]]) -> None:
        self._build = build
        self._make()
        shape = self._moments[0].shape
        super(DiagonalNormal, self).__init__(shape[:-1], shape[-1:], validate_args=False)

    @property
    def loc(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """μ, `(*batch, D)`."""
        return self._current()[0]

    @property
    def scale(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """σ, `(*batch, D)`."""
        return self._current()[1]

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> DiagonalNormal:
        """Return the distribution with its parameters broadcast to another batch shape."""
        del _instance
        check_expanded("DiagonalNormal.expand", self.batch_shape, batch_shape)
        shape = Size(batch_shape) + self.event_shape
        return RenewedNormal(lambda: (self.loc.expand(shape), self.scale.expand(shape)))

    def __reduce__(self) -> tuple[Any, ...]:
        return DiagonalNormal, (self.loc, self.scale, False)

    def _current(self) -> tuple[Tensor, Tensor]:
        if self._mark.passed and torch.is_grad_enabled():
            self._make()
        return self._moments

    def _make(self) -> None:
        self._mark = BackwardMark()
        self._moments = self._build()
        self._mark.watch(*self._moments)
