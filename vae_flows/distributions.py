"""The distribution of a flow posterior, the diagonal Gaussian that it starts from, and scores of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from pyro.distributions import (
    TorchDistribution,
    TransformedDistribution,  # pyright: ignore[reportAttributeAccessIssue]
)
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, constraints, register_kl
from torch.distributions import TransformedDistribution as TorchTransformedDistribution
from torch.distributions.transforms import Transform

from vae_flows.errors import InvalidInputError, complaint
from vae_flows.shapes import sum_rightmost
from vae_flows.transforms.base import FusedTransform, forward_with_score
from vae_flows.transforms.cached import CachedTransform
from vae_flows.transforms.scores import gradient_at

__all__ = ["DiagonalNormal", "FlowDistribution", "ScoredSample", "require_reparameterized", "rsample_with_score"]


class ScoredSample(NamedTuple):
    r"""A sample with its log-density and score.

    Arguments:
        z: The sample, `(*sample, *batch, *event)`.
        log_q: :math:`\log q(z)`, `(*sample, *batch)`, differentiable like any `log_prob`.
        score: :math:`\partial \log q_\phi(z) / \partial z` with the parameters held fixed, of the shape of z, without a
            graph.
    """

    z: Tensor
    log_q: Tensor
    score: Tensor


class _OfAnySize(Distribution):
    """A distribution that does not fail where there is nothing to validate, as torch's check of vectors does."""

    def _validate_sample(self, value: Tensor) -> None:
        if value.numel():
            super()._validate_sample(value)


class DiagonalNormal(_OfAnySize, TorchDistribution):
    r"""The Gaussian of vectors with diagonal covariance, :math:`\log p(z) = \sum_d \log N(z_d; \mu_d, \sigma_d^2)`.

    `Normal(loc, scale).to_event(1)` with less work, and for batches and samples of size zero as well.

    Arguments:
        loc: Means μ `(*batch, D)`.
        scale: Standard deviations σ `(*batch, D)`; the two broadcast.
        validate_args: As for every distribution of torch.

    Raises:
        InvalidInputError: The shapes do not broadcast, or there is no last dimension.

    Example:
        >>> p = DiagonalNormal(torch.zeros(3, 2), torch.ones(2))
        >>> p.batch_shape, p.event_shape, p.log_prob(torch.zeros(0, 3, 2)).shape
        (torch.Size([3]), torch.Size([2]), torch.Size([0, 3]))
    """

    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        try:
            self.loc, self.scale = torch.broadcast_tensors(loc, scale)
            shape = self.loc.shape
        except RuntimeError:
            shape = Size()
        if not shape:
            got = f"loc {tuple(loc.shape)}, scale {tuple(scale.shape)}"
            raise InvalidInputError(complaint("DiagonalNormal", "loc and scale of shape (*batch, D)", got))
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args if self.loc.numel() else False)

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
        new = cast(DiagonalNormal, self._get_checked_instance(DiagonalNormal, _instance))
        shape = Size(batch_shape) + self.event_shape
        new.loc, new.scale = self.loc.expand(shape), self.scale.expand(shape)
        super(DiagonalNormal, new).__init__(shape[:-1], shape[-1:], validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw μ + σ ε, `(*sample, *batch, D)`."""
        noise = torch.randn(self._extended_shape(Size(sample_shape)), dtype=self.loc.dtype, device=self.loc.device)
        return torch.addcmul(self.loc, noise, self.scale)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw z without gradient, `(*sample, *batch, D)`."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(z), `(*sample, *batch)`, for `value (*sample, *batch, D)`."""
        if self._validate_args:
            self._validate_sample(value)
        squares = ((value - self.loc) / self.scale).square()
        # The constant is added to each number: D times it would be one of 32 bits under torch.jit.trace.
        return -(0.5 * squares + self.scale.log() + 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self) -> Tensor:
        """Return the entropy in nats, `(*batch)`."""
        return 0.5 * self.event_shape[0] * (1 + math.log(2 * math.pi)) + self.scale.log().sum(-1)


@register_kl(DiagonalNormal, DiagonalNormal)
def _kl_of_diagonal_normals(p: DiagonalNormal, q: DiagonalNormal) -> Tensor:
    ratio = (p.scale / q.scale).square()
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale).square() - 1 - ratio.log()).sum(-1)


class FlowDistribution(_OfAnySize, TransformedDistribution):
    r"""The law of z = T(z₀): :math:`\log q(z) = \log q_0(z_0) - \log|\det \partial T/\partial z_0|`.

    A Pyro distribution with batch shape `*batch` and event shape `(D,)`. Scoring a value that was just drawn costs
    nothing more: the transform remembers it.

    Arguments:
        base_distribution: Distribution of z₀ with event shape `(D,)`.
        transforms: The transform, or a list of them. Those of torch and Pyro get the library's cache, for otherwise the
            flow before them would meet a value it does not know.
        validate_args: As for every distribution of torch.

    Example:
        >>> import torch
        >>> from vae_flows.transforms import IdentityTransform
        >>> base = DiagonalNormal(torch.zeros(3, 2), torch.ones(2))
        >>> q = FlowDistribution(base, IdentityTransform(2, torch.Size([3])))
        >>> z, log_q = q.rsample_with_log_prob((5,))
        >>> z.shape, log_q.shape
        (torch.Size([5, 3, 2]), torch.Size([5, 3]))
    """

    def __init__(
        self,
        base_distribution: Distribution,
        transforms: Transform | Sequence[Transform],
        validate_args: bool | None = None,
    ) -> None:
        given = [transforms] if isinstance(transforms, Transform) else transforms
        cached = [part if isinstance(part, FusedTransform) else CachedTransform(part) for part in given]
        TransformedDistribution.__init__(self, base_distribution, cached, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> FlowDistribution:
        """Return the distribution with another batch shape; its transforms are the same objects."""
        new = self._get_checked_instance(FlowDistribution, _instance)
        return TransformedDistribution.expand(self, Size(batch_shape), new)

    @property
    def regularization(self) -> Tensor | None:
        """What the flow's latest evaluation adds to the loss, `(*sample, *batch)`; `None` for nothing."""
        values = [getattr(transform, "regularization", None) for transform in self.transforms]
        found = [value for value in values if value is not None]
        return torch.stack(found).sum(0) if found else None

    def rsample_with_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Draw z `(*sample, *batch, D)` and return it with log q(z) `(*sample, *batch)`, for the price of one draw."""
        z = self.rsample(Size(sample_shape))
        return z, self.log_prob(z)

    def rsample_with_score(self, sample_shape: Sequence[int] = ()) -> ScoredSample:
        r"""Draw z and return it with log q(z) and the score :math:`\partial \log q(z) / \partial z`, in one evaluation.

        The score is carried along with the sample; nothing is inverted.
        """
        return rsample_with_score(self, sample_shape)


def rsample_with_score(q: Distribution, sample_shape: Sequence[int] = ()) -> ScoredSample:
    r"""Draw from any reparameterised distribution of PyTorch or Pyro, with log-density and score.

    Through the transforms of a `TransformedDistribution` the score is carried along with the sample. Of any other
    distribution it is the gradient of `log_prob` at the sample.

    Arguments:
        q: The distribution.
        sample_shape: Shape of the draws, put in front.

    Raises:
        InvalidInputError: q has no reparameterised samples.

    Example:
        >>> from torch.distributions import Normal
        >>> z, log_q, score = rsample_with_score(Normal(torch.zeros(3), 2.0), (5,))
        >>> torch.allclose(score, -z / 4)
        True
    """
    require_reparameterized(q)
    if isinstance(q, TorchTransformedDistribution) and type(q).log_prob is TorchTransformedDistribution.log_prob:
        return _through_transforms(q, sample_shape)
    if isinstance(q, Independent):
        z, log_q, score = rsample_with_score(q.base_dist, sample_shape)
        return ScoredSample(z, sum_rightmost(log_q, q.reinterpreted_batch_ndims), score)
    z = q.rsample(Size(sample_shape))
    with torch.enable_grad():
        point = z.detach().requires_grad_()
        score = gradient_at(point, q.log_prob(point))
    return ScoredSample(z, q.log_prob(z), score)


def require_reparameterized(q: Distribution) -> None:
    """Check that samples of q can be differentiated.

    Raises:
        InvalidInputError: They cannot.
    """
    if not q.has_rsample:
        raise InvalidInputError(complaint("q", "a distribution with reparameterised samples (has_rsample)", repr(q)))


def _through_transforms(q: TorchTransformedDistribution, sample_shape: Sequence[int]) -> ScoredSample:
    z, log_q, score = rsample_with_score(q.base_dist, sample_shape)
    # Batch dimensions that a later transform couples belong to the event, and are summed over.
    gained = sum(transform.codomain.event_dim - transform.domain.event_dim for transform in q.transforms)
    event_dim = len(q.event_shape) - gained
    log_q = sum_rightmost(log_q, event_dim - len(q.base_dist.event_shape))
    for transform in q.transforms:
        z, log_det, score = forward_with_score(transform, z, score)
        log_q = log_q - sum_rightmost(log_det, event_dim - transform.domain.event_dim)
        event_dim += transform.codomain.event_dim - transform.domain.event_dim
    return ScoredSample(z, log_q, score)
