"""The distribution of a flow posterior, a Gaussian carried by a transform, and scores of any distribution's samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from pyro.distributions import TransformedDistribution  # pyright: ignore[reportAttributeAccessIssue]
from torch import Size, Tensor
from torch.distributions import Distribution, Independent
from torch.distributions import TransformedDistribution as TorchTransformedDistribution

from vae_flows.errors import InvalidInputError, complaint
from vae_flows.shapes import sum_rightmost
from vae_flows.transforms.base import forward_with_score
from vae_flows.transforms.scores import gradient_at

__all__ = ["FlowDistribution", "ScoredSample", "require_reparameterized", "rsample_with_score"]


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


class FlowDistribution(TransformedDistribution):
    r"""The law of z = T(z₀): :math:`\log q(z) = \log q_0(z_0) - \log|\det \partial T/\partial z_0|`.

    A Pyro distribution with batch shape `*batch` and event shape `(D,)`. Scoring a value that was just drawn costs
    nothing more: the transform remembers it.

    Arguments:
        base_distribution: Distribution of z₀ with event shape `(D,)`.
        transforms: The transform, or a list of them.

    Example:
        >>> import torch
        >>> from pyro.distributions import Normal
        >>> from vae_flows.transforms import IdentityTransform
        >>> base = Normal(torch.zeros(3, 2), 1.0).to_event(1)
        >>> q = FlowDistribution(base, IdentityTransform(2, torch.Size([3])))
        >>> z, log_q = q.rsample_with_log_prob((5,))
        >>> z.shape, log_q.shape
        (torch.Size([5, 3, 2]), torch.Size([5, 3]))
    """

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
