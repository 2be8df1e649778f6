"""The distribution of a flow posterior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyro.distributions import TransformedDistribution  # pyright: ignore[reportAttributeAccessIssue]
from torch import Size, Tensor
from torch.distributions import Distribution
from torch.distributions.transforms import Transform

from vae_flows.checks import check_argument, require_sample_shape
from vae_flows.distributions.diagonal_normal import DiagonalNormal
from vae_flows.distributions.evaluation import draw_from, evaluate, rsample_with_score
from vae_flows.distributions.records import Draw, ScoredSample
from vae_flows.distributions.structure import determined_by_parts, is_regularized
from vae_flows.distributions.validation import ValidatedDistribution, check_validate_args
from vae_flows.errors import InvalidInputError, NoClosedFormError, complaint
from vae_flows.tensors.shapes import check_expanded
from vae_flows.transforms.base import FusedTransform
from vae_flows.transforms.cached import CachedTransform
from vae_flows.transforms.permutations import IdentityTransform

__all__ = ["FlowDistribution", "untransformed"]


class FlowDistribution(ValidatedDistribution, TransformedDistribution):
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
        # By hand: a posterior makes one for each step, where isinstance is much faster than reading annotations.
        if not isinstance(base_distribution, Distribution):
            check_argument("FlowDistribution base_distribution", base_distribution, Distribution)
        if not isinstance(given, (list, tuple)) or not all(isinstance(part, Transform) for part in given):
            check_argument("FlowDistribution transforms", given, Transform | Sequence[Transform])
        check_validate_args("FlowDistribution", validate_args)
        cached = [part if isinstance(part, FusedTransform) else CachedTransform(part) for part in given]
        try:
            TransformedDistribution.__init__(self, base_distribution, cached, validate_args=validate_args)
        except ValueError as error:
            expected = "a base distribution with the dimensions that the transforms need"
            raise InvalidInputError(complaint("FlowDistribution", expected, str(error).rstrip("."))) from error

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> FlowDistribution:
        """Return the distribution with another batch shape; its transforms are the same objects."""
        check_expanded("FlowDistribution.expand", self.batch_shape, batch_shape)
        new = self._get_checked_instance(FlowDistribution, _instance)
        return TransformedDistribution.expand(self, Size(batch_shape), new)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw z `(*sample, *batch, D)`."""
        require_sample_shape("FlowDistribution sample_shape", sample_shape)
        return super().rsample(Size(sample_shape))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw z without gradient, `(*sample, *batch, D)`."""
        require_sample_shape("FlowDistribution sample_shape", sample_shape)
        return super().sample(Size(sample_shape))

    @property
    def mean(self) -> Tensor:
        """E z, `(*batch, D)`, where no transform changes z."""
        return untransformed(self, "mean", "estimate_moments").mean

    @property
    def mode(self) -> Tensor:
        """The z of greatest density, `(*batch, D)`, where no transform changes z."""
        return untransformed(self, "mode").mode

    @property
    def variance(self) -> Tensor:
        """The variance of each entry of z, `(*batch, D)`, where no transform changes z."""
        return untransformed(self, "variance", "estimate_moments").variance

    @property
    def stddev(self) -> Tensor:
        """The standard deviation of each entry of z, `(*batch, D)`, where no transform changes z."""
        return untransformed(self, "stddev", "estimate_moments").stddev

    def entropy(self) -> Tensor:
        """Return the entropy in nats, `(*batch)`, where no transform changes z."""
        return untransformed(self, "entropy", "estimate_entropy").entropy()

    def __repr__(self) -> str:
        parts = " → ".join(map(_named, (self.base_dist, *self.transforms)))
        return f"FlowDistribution({parts}, batch {tuple(self.batch_shape)}, event {tuple(self.event_shape)})"

    @property
    def is_regularized(self) -> bool:
        """Whether evaluations add to the loss, as their records' `regularization`."""
        return is_regularized(self)

    @determined_by_parts
    def log_prob(self, value: Tensor) -> Tensor:
        """Return log q(z), `(*sample, *batch)`, for `value (*sample, *batch, *event)`."""
        return self.evaluate(value).log_q

    def evaluate(self, value: Tensor) -> Draw:
        """Score a value `(*sample, *batch, *event)`, and return all that its evaluation finds.

        Of a value just drawn the transform remembers the evaluation, which costs nothing more then.
        """
        return evaluate(self, value)

    def draw(self, sample_shape: Sequence[int] = (), *, with_score: bool = False) -> Draw:
        """Draw z with its density, regularisation and work, and its score if asked for, in one evaluation."""
        return draw_from(self, sample_shape, with_score=with_score)

    def rsample_with_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Draw z `(*sample, *batch, D)` and return it with log q(z) `(*sample, *batch)`, for the price of one draw."""
        z, log_q, *_ = self.draw(sample_shape)
        return z, log_q

    def rsample_with_score(self, sample_shape: Sequence[int] = ()) -> ScoredSample:
        r"""Draw z and return it with log q(z) and the score :math:`\partial \log q(z) / \partial z`, in one evaluation.

        The score is carried along with the sample; nothing is inverted.
        """
        return rsample_with_score(self, sample_shape)


def untransformed(q: FlowDistribution, quantity: str, estimator: str = "") -> Distribution:
    """Return the distribution of z₀ where it is that of z.

    Raises:
        NoClosedFormError: A flow changes it.
    """
    if all(isinstance(part, IdentityTransform) for part in q.transforms):
        return q.base_dist
    remedy = "Maximise log_prob over z."
    if estimator:
        remedy = f"vf.evaluation.{estimator} estimates it with a standard error."
    subject = f"{quantity} of {q}"
    raise NoClosedFormError(complaint(subject, "a distribution without flow", "one without closed form", remedy))


def _named(part: Distribution | Transform) -> str:
    kind = DiagonalNormal if isinstance(part, DiagonalNormal) else type(part)
    return type(part.transform).__name__ if isinstance(part, CachedTransform) else kind.__name__
