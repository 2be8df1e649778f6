"""Any transform, of this library or another, with the score of its argument carried along."""

from __future__ import annotations

from typing import cast

from torch import Tensor
from torch.distributions.transforms import Transform

from vae_flows.checks import checked
from vae_flows.tensors.precision import full_precision
from vae_flows.transforms.base import FusedTransform
from vae_flows.transforms.records import Evaluation
from vae_flows.transforms.scores import check_score
from vae_flows.transforms.scores import evaluate_with_score as carry_score

__all__ = ["evaluate_with_score", "forward_with_score"]


@checked
def forward_with_score(transform: Transform, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Apply any transform, of this library, PyTorch, Pyro or another, and carry the score of x to that of y.

    Fused transforms remember the evaluation as they do when called. Of other transforms, x is taken in the shape that
    they broadcast it to, and the Jacobian is that of one event.

    Arguments:
        transform: The transform.
        x: `(*shape, *event)`.
        score: :math:`\partial \log q_0(x) / \partial x`, of the shape of x.

    Returns:
        y, the log-determinant, and the score of y, of the shape of y and without a graph. Where y has more numbers than
        x, as on a simplex, it is the score in the tangent space.

    Raises:
        InvalidInputError: x or the score has a wrong shape.

    Example:
        >>> import torch
        >>> from torch.distributions.transforms import ExpTransform
        >>> y, log_det, score = forward_with_score(ExpTransform(), torch.zeros(2), torch.zeros(2))
        >>> y, score  # the density of y is 1 / y, up to a constant
        (tensor([1., 1.]), tensor([-1., -1.]))
    """
    evaluation = evaluate_with_score(transform, x, score)
    return evaluation.y, evaluation.log_det, cast(Tensor, evaluation.score)


def evaluate_with_score(transform: Transform, x: Tensor, score: Tensor) -> Evaluation:
    """Do what `forward_with_score` does, and return the record."""
    check_score(x, score)
    if isinstance(transform, FusedTransform):
        return transform.evaluate_with_score(x, score)
    with full_precision(x):

        def evaluate(point: Tensor) -> tuple[Tensor, Tensor]:
            y = cast(Tensor, transform(point))
            return y, transform.log_abs_det_jacobian(point, y)

        shape = transform.inverse_shape(transform.forward_shape(x.shape))
        domain_dim, codomain_dim = transform.domain.event_dim, transform.codomain.event_dim
        return Evaluation(
            x,
            *carry_score(
                evaluate, x.expand(shape), score.expand(shape), domain_dim=domain_dim, codomain_dim=codomain_dim
            ),
        )
