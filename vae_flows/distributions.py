"""The distribution of a flow posterior, the diagonal Gaussian that it starts from, and scores of samples."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeGuard, cast

import torch
from pyro.distributions import (
    TorchDistribution,
    TransformedDistribution,  # pyright: ignore[reportAttributeAccessIssue]
)
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, Normal, constraints, kl_divergence, register_kl
from torch.distributions import TransformedDistribution as TorchTransformedDistribution
from torch.distributions.transforms import Transform

from vae_flows.checks import check_argument, checked, described, require_sample_shape
from vae_flows.errors import InvalidInputError, NoClosedFormError, complaint
from vae_flows.ode.work_counts import WorkCount, WorkMeter, total_work
from vae_flows.tensors.graphs import BackwardMark
from vae_flows.tensors.inference_mode import differentiating
from vae_flows.tensors.shapes import broadcasts, check_expanded, is_dense, sum_rightmost
from vae_flows.transforms.base import FusedTransform, evaluate_with_score
from vae_flows.transforms.cached import CachedTransform
from vae_flows.transforms.permutations import IdentityTransform
from vae_flows.transforms.records import Evaluation
from vae_flows.transforms.scores import gradient_at

__all__ = [
    "DiagonalNormal",
    "Draw",
    "FlowDistribution",
    "ScoredSample",
    "draw_from",
    "evaluate",
    "exact_where_cheap",
    "is_estimated",
    "is_regularized",
    "require_reparameterized",
    "rsample_with_score",
]


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


class Draw(NamedTuple):
    r"""A value of a distribution with all that its evaluation has found; nothing changes it later.

    Arguments:
        z: The value, `(*sample, *batch, *event)`, drawn or given.
        log_q: :math:`\log q(z)`, `(*sample, *batch)`.
        score: As in `ScoredSample`, where it was asked for.
        regularization: What the flow adds to the loss for this value, `(*sample, *batch)`; `None` for nothing.
        meters: The meters of the solves, which go on through their backward passes.
    """

    z: Tensor
    log_q: Tensor
    score: Tensor | None = None
    regularization: Tensor | None = None
    meters: tuple[WorkMeter, ...] = ()

    @property
    def work(self) -> WorkCount | None:
        """What the solves have cost until now, together; `None` without any."""
        return total_work(self.meters)


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
        fit = is_dense(loc) and is_dense(scale) and loc.device == scale.device
        if not (fit and max(loc.dim(), scale.dim()) and broadcasts(loc.shape, scale.shape)):
            expected = "floating-point tensors loc and scale of shape (*batch, D), on one device"
            got = f"loc {described(loc)}, scale {described(scale)}"
            raise InvalidInputError(complaint("DiagonalNormal", expected, got))
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        shape = self.loc.shape
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
        """Return log p(z), `(*sample, *batch)`, for `value (*sample, *batch, D)`."""
        if not isinstance(value, Tensor) or value.is_complex() or not broadcasts(value.shape, self.loc.shape):
            expected = f"real values of shape (*sample, {', '.join(map(str, self.loc.shape))})"
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
        # By hand: a posterior makes one for each step, where isinstance is much faster than reading annotations.
        if not isinstance(base_distribution, Distribution):
            check_argument("FlowDistribution base_distribution", base_distribution, Distribution)
        if not isinstance(given, (list, tuple)) or not all(isinstance(part, Transform) for part in given):
            check_argument("FlowDistribution transforms", given, Transform | Sequence[Transform])
        if validate_args is not None and not isinstance(validate_args, bool):
            check_argument("FlowDistribution validate_args", validate_args, bool | None)
        cached = [part if isinstance(part, FusedTransform) else CachedTransform(part) for part in given]
        TransformedDistribution.__init__(self, base_distribution, cached, validate_args=validate_args)

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
        return self._untransformed("mean", "estimate_moments").mean

    @property
    def mode(self) -> Tensor:
        """The z of greatest density, `(*batch, D)`, where no transform changes z."""
        return self._untransformed("mode").mode

    @property
    def variance(self) -> Tensor:
        """The variance of each entry of z, `(*batch, D)`, where no transform changes z."""
        return self._untransformed("variance", "estimate_moments").variance

    @property
    def stddev(self) -> Tensor:
        """The standard deviation of each entry of z, `(*batch, D)`, where no transform changes z."""
        return self._untransformed("stddev", "estimate_moments").stddev

    def entropy(self) -> Tensor:
        """Return the entropy in nats, `(*batch)`, where no transform changes z."""
        return self._untransformed("entropy", "estimate_entropy").entropy()

    def __repr__(self) -> str:
        parts = " → ".join(map(_named, (self.base_dist, *self.transforms)))
        return f"FlowDistribution({parts}, batch {tuple(self.batch_shape)}, event {tuple(self.event_shape)})"

    def _untransformed(self, quantity: str, estimator: str = "") -> Distribution:
        """Return the distribution of z₀ where it is that of z.

        Raises:
            NoClosedFormError: A flow changes it.
        """
        if all(isinstance(part, IdentityTransform) for part in self.transforms):
            return self.base_dist
        remedy = "Maximise log_prob over z."
        if estimator:
            remedy = f"vf.evaluation.{estimator} estimates it with a standard error."
        subject = f"{quantity} of {self}"
        raise NoClosedFormError(complaint(subject, "a distribution without flow", "one without closed form", remedy))

    @property
    def is_regularized(self) -> bool:
        """Whether evaluations add to the loss, as their records' `regularization`."""
        return is_regularized(self)

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


def _named(part: Distribution | Transform) -> str:
    kind = DiagonalNormal if isinstance(part, DiagonalNormal) else type(part)
    return type(part.transform).__name__ if isinstance(part, CachedTransform) else kind.__name__


@register_kl(FlowDistribution, DiagonalNormal)
@register_kl(FlowDistribution, Independent)
@register_kl(FlowDistribution, TorchTransformedDistribution)
@register_kl(FlowDistribution, FlowDistribution)
@register_kl(DiagonalNormal, FlowDistribution)
@register_kl(Independent, FlowDistribution)
@register_kl(TorchTransformedDistribution, FlowDistribution)
def _kl_without_flows(p: Distribution, q: Distribution) -> Tensor:
    if _is_transformed(p) and _is_transformed(q) and p.transforms == q.transforms:
        return kl_divergence(p.base_dist, q.base_dist)  # one invertible map of both changes no divergence
    plain = [
        part._untransformed("kl_divergence", "estimate_kl_divergence") if isinstance(part, FlowDistribution) else part
        for part in (p, q)
    ]
    return kl_divergence(*plain)


@register_kl(DiagonalNormal, Independent)
@register_kl(Independent, DiagonalNormal)
def _kl_of_independent_normals(p: Distribution, q: Distribution) -> Tensor:
    return kl_divergence(_as_diagonal(p), _as_diagonal(q))


def _as_diagonal(p: Distribution) -> DiagonalNormal:
    if isinstance(p, DiagonalNormal):
        return p
    if isinstance(p, Independent) and p.reinterpreted_batch_ndims == 1 and isinstance(p.base_dist, Normal):
        return DiagonalNormal(p.base_dist.loc, p.base_dist.scale, validate_args=False)
    remedy = "vf.evaluation.estimate_kl_divergence estimates it with a standard error."
    raise NoClosedFormError(complaint("kl_divergence", "independent normals of vectors", repr(p), remedy))


@checked
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
    z, log_q, score, *_ = draw_from(q, sample_shape, with_score=True)
    return ScoredSample(z, log_q, cast(Tensor, score))


def draw_from(q: Distribution, sample_shape: Sequence[int] = (), *, with_score: bool = False) -> Draw:
    r"""Draw from any reparameterised distribution of PyTorch or Pyro, and return all that the evaluation finds.

    Arguments:
        q: The distribution.
        sample_shape: Shape of the draws, put in front.
        with_score: Whether the record has the score, as `rsample_with_score` returns it.

    Raises:
        InvalidInputError: q has no reparameterised samples.

    Example:
        >>> q = DiagonalNormal(torch.zeros(3, 2), torch.ones(2))
        >>> drawn = draw_from(q, (5,))
        >>> drawn.z.shape, drawn.log_q.shape, drawn.score is drawn.work is drawn.regularization is None
        (torch.Size([5, 3, 2]), torch.Size([5, 3]), True)
    """
    require_reparameterized(q)
    if _is_transformed(q):
        base = draw_from(q.base_dist, sample_shape, with_score=with_score)
        evaluations, z, score = [], base.z, base.score
        for transform in q.transforms:
            evaluations.append(_forward(transform, z, score))
            z, score = evaluations[-1].y, evaluations[-1].score
        return _joined(q, z, score, base, evaluations)
    if isinstance(q, Independent):
        return _of_larger_events(draw_from(q.base_dist, sample_shape, with_score=with_score), q)
    z = q.rsample(Size(sample_shape))
    score = None
    if with_score:
        with differentiating(z):
            point = z.detach().requires_grad_()
            score = gradient_at(point, q.log_prob(point))
    return Draw(z, q.log_prob(z), score)


def evaluate(q: Distribution, value: Tensor) -> Draw:
    """Score a value under any distribution of PyTorch or Pyro, and return all that the evaluation finds.

    Arguments:
        q: The distribution.
        value: `(*sample, *batch, *event)`.

    Example:
        >>> evaluate(DiagonalNormal(torch.zeros(2), torch.ones(2)), torch.zeros(3, 2)).log_q
        tensor([-1.8379, -1.8379, -1.8379])
    """
    if _is_transformed(q):
        if q._validate_args:
            q._validate_sample(value)
        evaluations, point = [], value
        for transform in reversed(q.transforms):
            evaluations.insert(0, _inverse(transform, point))
            point = evaluations[0].x
        return _joined(q, value, None, evaluate(q.base_dist, point), evaluations)
    if isinstance(q, Independent):
        return _of_larger_events(evaluate(q.base_dist, value), q)
    return Draw(value, q.log_prob(value))


def is_regularized(q: Distribution) -> bool:
    """Return whether evaluations of q add to the loss, as their records' `regularization`.

    Example:
        >>> is_regularized(DiagonalNormal(torch.zeros(2), torch.ones(2)))
        False
    """
    if isinstance(q, Independent):
        return is_regularized(q.base_dist)
    if not _is_transformed(q):
        return False
    own = any(isinstance(part, FusedTransform) and part.is_regularized for part in q.transforms)
    return own or is_regularized(q.base_dist)


def is_estimated(q: Distribution) -> bool:
    """Return whether log-densities of q are noisy estimates, as of a continuous flow in training mode.

    Example:
        >>> is_estimated(DiagonalNormal(torch.zeros(2), torch.ones(2)))
        False
    """
    if _is_transformed(q):
        fused = [part for part in q.transforms if isinstance(part, FusedTransform)]
        return any(part.is_estimated for part in fused) or is_estimated(q.base_dist)
    return isinstance(q, Independent) and is_estimated(q.base_dist)


def exact_where_cheap(q: Distribution) -> Distribution:
    """Return q with exact log-densities where they cost about what estimates do, or itself.

    Example:
        >>> from vae_flows.cnf import ContinuousTransform, MLPDynamics
        >>> base = DiagonalNormal(torch.zeros(2), torch.ones(2))
        >>> q = FlowDistribution(base, ContinuousTransform(MLPDynamics(2, (8,)).condition()))
        >>> is_estimated(q), is_estimated(exact_where_cheap(q))
        (True, False)
    """
    if not is_estimated(q):
        return q
    if _is_transformed(q):
        transforms = [part.exact() if isinstance(part, FusedTransform) else part for part in q.transforms]
        kind = FlowDistribution if isinstance(q, FlowDistribution) else TorchTransformedDistribution
        return kind(exact_where_cheap(q.base_dist), transforms, validate_args=q._validate_args)
    independent = cast(Independent, q)
    dims = independent.reinterpreted_batch_ndims
    return Independent(exact_where_cheap(independent.base_dist), dims, validate_args=q._validate_args)


def require_reparameterized(q: Distribution) -> None:
    """Check that samples of q can be differentiated.

    Raises:
        InvalidInputError: They cannot.
    """
    if not isinstance(q, Distribution) or not q.has_rsample:
        raise InvalidInputError(
            complaint("q", "a distribution with reparameterised samples (has_rsample)", described(q))
        )


def _is_transformed(q: Distribution) -> TypeGuard[TorchTransformedDistribution]:
    """Return whether q is what its base and its transforms make it, and no more."""
    usual = (TorchTransformedDistribution.log_prob, FlowDistribution.log_prob)
    return isinstance(q, TorchTransformedDistribution) and type(q).log_prob in usual


def _forward(transform: Transform, x: Tensor, score: Tensor | None) -> Evaluation:
    if score is not None:
        return evaluate_with_score(transform, x, score)
    if isinstance(transform, FusedTransform):
        return transform.evaluate(x)
    y = cast(Tensor, transform(x))
    return Evaluation(x, y, transform.log_abs_det_jacobian(x, y))


def _inverse(transform: Transform, y: Tensor) -> Evaluation:
    if isinstance(transform, FusedTransform):
        return transform.evaluate_inverse(y)
    x = cast(Tensor, transform.inv(y))
    return Evaluation(x, y, transform.log_abs_det_jacobian(x, y))


def _joined(
    q: TorchTransformedDistribution, z: Tensor, score: Tensor | None, base: Draw, evaluations: Sequence[Evaluation]
) -> Draw:
    """Put the records of a base and of the transforms after it together."""
    # Batch dimensions that a later transform couples belong to the event, and are summed over.
    gained = sum(transform.codomain.event_dim - transform.domain.event_dim for transform in q.transforms)
    event_dim = len(q.event_shape) - gained
    coupled = event_dim - len(q.base_dist.event_shape)
    log_q = sum_rightmost(base.log_q, coupled)
    regularization = None if base.regularization is None else sum_rightmost(base.regularization, coupled)
    for transform, evaluation in zip(q.transforms, evaluations, strict=True):
        coupled = event_dim - transform.domain.event_dim
        log_q = log_q - sum_rightmost(evaluation.log_det, coupled)
        if evaluation.regularization is not None:
            of_event = sum_rightmost(evaluation.regularization, coupled)
            regularization = of_event if regularization is None else regularization + of_event
        event_dim += transform.codomain.event_dim - transform.domain.event_dim
    if not torch.compiler.is_compiling() and torch.finfo(log_q.dtype).bits <= 16:
        warnings.warn(
            f"log q is computed in {log_q.dtype}, which has two to three digits. Keep the model in float32, and use "
            "automatic mixed precision, which leaves densities in it.",
            stacklevel=2,
        )
    meters = (*base.meters, *(meter for evaluation in evaluations for meter in evaluation.meters))
    return Draw(z, log_q, score, regularization, meters)


def _of_larger_events(draw: Draw, q: Independent) -> Draw:
    dims = q.reinterpreted_batch_ndims
    regularization = None if draw.regularization is None else sum_rightmost(draw.regularization, dims)
    return draw._replace(log_q=sum_rightmost(draw.log_q, dims), regularization=regularization)
