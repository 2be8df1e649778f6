"""Draws and scores of any distribution, with all that their evaluations find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Independent
from torch.distributions import TransformedDistribution as TorchTransformedDistribution
from torch.distributions.transforms import Transform

from vae_flows.call_stack import warn
from vae_flows.checks import check_argument, described, require_sample_shape
from vae_flows.distributions.records import Draw, ScoredSample
from vae_flows.distributions.structure import is_transformed
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.inference_mode import differentiating
from vae_flows.tensors.shapes import is_real, sum_rightmost
from vae_flows.transforms.base import FusedTransform
from vae_flows.transforms.records import Evaluation
from vae_flows.transforms.scored import evaluate_with_score
from vae_flows.transforms.scores import gradient_at

__all__ = ["carried", "draw_from", "evaluate", "of_larger_events", "require_reparameterized", "rsample_with_score"]


def rsample_with_score(q: Distribution, sample_shape: Sequence[int] = ()) -> ScoredSample:
    r"""Draw from any reparameterised distribution of PyTorch or Pyro, with log-density and score.

    Through the transforms of a `TransformedDistribution` the score is carried along with the sample. Of any other
    distribution it is the gradient of `log_prob` at the sample.

    Arguments:
        q: The distribution.
        sample_shape: Shape of the draws, put in front.

    Raises:
        InvalidInputError: q has no reparameterised samples, or the shape is none.

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
        InvalidInputError: q has no reparameterised samples, or the shape is none.

    Example:
        >>> from vae_flows.distributions import DiagonalNormal
        >>> q = DiagonalNormal(torch.zeros(3, 2), torch.ones(2))
        >>> drawn = draw_from(q, (5,))
        >>> drawn.z.shape, drawn.log_q.shape, drawn.score is drawn.work is drawn.regularization is None
        (torch.Size([5, 3, 2]), torch.Size([5, 3]), True)
    """
    require_reparameterized(q)
    require_sample_shape("sample_shape", sample_shape)
    if not isinstance(with_score, bool):  # by hand: torch.compile of older releases cannot read annotations
        check_argument("with_score", with_score, bool)
    return _draw(q, sample_shape, with_score=with_score)


def _draw(q: Distribution, sample_shape: Sequence[int], *, with_score: bool) -> Draw:
    require_reparameterized(q)
    if is_transformed(q):
        return carried(q, _draw(q.base_dist, sample_shape, with_score=with_score))
    if isinstance(q, Independent):
        return of_larger_events(_draw(q.base_dist, sample_shape, with_score=with_score), q)
    z = q.rsample(Size(sample_shape))
    score = None
    if with_score:
        with differentiating(z):
            point = z.detach().requires_grad_()
            score = gradient_at(point, q.log_prob(point))
    return Draw(z, q.log_prob(z), score)


def carried(q: TorchTransformedDistribution, base: Draw) -> Draw:
    """Carry a draw of the base of q through its transforms, and return what became of it as a draw of q."""
    evaluations, z, score = [], base.z, base.score
    for transform in q.transforms:
        evaluations.append(_forward(transform, z, score))
        z, score = evaluations[-1].y, evaluations[-1].score
    return _joined(q, z, score, base, evaluations)


def evaluate(q: Distribution, value: Tensor) -> Draw:
    """Score a value under any distribution of PyTorch or Pyro, and return all that the evaluation finds.

    Arguments:
        q: The distribution.
        value: `(*sample, *batch, *event)`.

    Raises:
        InvalidInputError: q is no distribution, or the value no tensor of real numbers. Distributions of the library
            raise it for every value that they cannot score.

    Example:
        >>> from vae_flows.distributions import DiagonalNormal
        >>> evaluate(DiagonalNormal(torch.zeros(2), torch.ones(2)), torch.zeros(3, 2)).log_q
        tensor([-1.8379, -1.8379, -1.8379])
    """
    if not isinstance(q, Distribution):
        check_argument("evaluate q", q, Distribution)
    if not is_real(value):
        expected = "a tensor of real numbers"
        raise InvalidInputError(complaint(f"value of {type(q).__name__}", expected, described(value)))
    return _evaluated(q, value)


def _evaluated(q: Distribution, value: Tensor) -> Draw:
    if is_transformed(q):
        if q._validate_args:
            q._validate_sample(value)
        evaluations, point = [], value
        for transform in reversed(q.transforms):
            evaluations.insert(0, _inverse(transform, point))
            point = evaluations[0].x
        return _joined(q, value, None, _evaluated(q.base_dist, point), evaluations)
    if isinstance(q, Independent):
        return of_larger_events(_evaluated(q.base_dist, value), q)
    return Draw(value, q.log_prob(value))


def require_reparameterized(q: Distribution) -> None:
    """Check that samples of q can be differentiated.

    Raises:
        InvalidInputError: They cannot.
    """
    if not isinstance(q, Distribution) or not q.has_rsample:
        raise InvalidInputError(
            complaint("q", "a distribution with reparameterised samples (has_rsample)", described(q))
        )


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
        warn(
            f"log q is computed in {log_q.dtype}, which has two to three digits. Keep the model in float32, and use "
            "automatic mixed precision, which leaves densities in it."
        )
    meters = (*base.meters, *(meter for evaluation in evaluations for meter in evaluation.meters))
    return Draw(z, log_q, score, regularization, meters)


def of_larger_events(draw: Draw, q: Independent) -> Draw:
    """Return a draw of the base of q as one of q, whose events have dimensions that are of the base's batch."""
    dims = q.reinterpreted_batch_ndims
    regularization = None if draw.regularization is None else sum_rightmost(draw.regularization, dims)
    return draw._replace(log_q=sum_rightmost(draw.log_q, dims), regularization=regularization)
