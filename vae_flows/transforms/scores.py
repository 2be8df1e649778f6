r"""The score of a transformed variable, by automatic differentiation of any transform.

The score of a density at a point is the gradient of its logarithm there. For :math:`y = T(x)` with Jacobian J,

.. math:: \nabla_y \log q(y) = J^{-T} (\nabla_x \log q_0(x) - \nabla_x \log|\det J|),

so it is carried along with the sample, and nothing is inverted but a D × D matrix (Vaitl et al. 2024, "Fast and unified
path gradient estimators for normalizing flows").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node, get_gradient_edge

from vae_flows.checks import described
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.inference_mode import differentiating
from vae_flows.tensors.shapes import is_dense

__all__ = ["check_score", "evaluate_with_score", "gradient_at"]


def gradient_at(point: Tensor, value: Tensor) -> Tensor:
    """Return the gradient of the sum of `value` at `point`, zero where it does not depend on it; the graph is kept."""
    if not value.requires_grad:
        return torch.zeros_like(point)
    (gradient,) = torch.autograd.grad(
        value, point, torch.ones_like(value), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return gradient


def evaluate_with_score(
    evaluate: Callable[[Tensor], tuple[Tensor, Tensor]],
    x: Tensor,
    score: Tensor,
    *,
    domain_dim: int = 1,
    codomain_dim: int = 1,
    tensors: Sequence[Tensor] = (),
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Evaluate a transform once and carry the score of x to that of y.

    The rows of J are vector-Jacobian products through that one evaluation, all at once, or one by one where the graph
    has functions written in Python. Where y has more numbers than x, as on a simplex, the score is the one in the
    tangent space. The gradients of parameters are left alone.

    Arguments:
        evaluate: Maps x to y and the log-determinant, with gradients enabled.
        x: `(*shape, *event)` in the full broadcast shape.
        score: :math:`\partial \log q_0(x) / \partial x`, of the shape of x.
        domain_dim: Number of event dimensions of x.
        codomain_dim: Number of event dimensions of y.
        tensors: Those that `evaluate` uses beside x, which may have been made in inference mode.

    Returns:
        y and the log-determinant, differentiable where gradients are enabled, and the score of y, which is not.
    """
    with differentiating(x, *tensors):
        # A tensor of its own marks where the graph of this evaluation begins.
        point = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
        y, log_det = evaluate(point)
        nodes = _nodes_between(point, (y, log_det))
        jacobian = _jacobian(
            point, y, domain_dim, codomain_dim, at_once=not any(isinstance(node, BackwardCFunction) for node in nodes)
        )
        of_log_det = gradient_at(point, log_det)
    residual = (score.detach() - of_log_det).reshape(*jacobian.shape[:-2], jacobian.shape[-1], 1)
    if jacobian.shape[-2] == jacobian.shape[-1]:
        carried = _solved(jacobian.mT, residual)
    else:
        carried = torch.linalg.pinv(jacobian).mT @ residual
    has_other_leaves = x.requires_grad or any(hasattr(node, "variable") for node in nodes)
    if not (torch.is_grad_enabled() and has_other_leaves):
        y, log_det = y.detach(), log_det.detach()
    return y, log_det, carried.reshape(y.shape)


def _solved(matrix: Tensor, right: Tensor) -> Tensor:
    try:
        return torch.linalg.solve(matrix, right)
    except torch.linalg.LinAlgError as error:
        remedy = "The score of its value is not finite; x may be far out."
        raise InvalidInputError(complaint("score", "an invertible transform at x", "a singular one", remedy)) from error


def _jacobian(point: Tensor, y: Tensor, domain_dim: int, codomain_dim: int, *, at_once: bool) -> Tensor:
    """Return ∂y/∂point as matrices, `(*shape, size of y's event, size of point's event)`."""
    shape, event = y.shape[: y.dim() - codomain_dim], y.shape[y.dim() - codomain_dim :]
    size, size_in = math.prod(event), math.prod(point.shape[point.dim() - domain_dim :])
    units = torch.eye(size, dtype=y.dtype, device=y.device).reshape(size, *(1 for _ in shape), *event)
    directions = units.expand(size, *y.shape)
    if at_once:
        (rows,) = torch.autograd.grad(y, point, directions, retain_graph=True, is_grads_batched=True)
    else:
        rows = torch.stack([torch.autograd.grad(y, point, one, retain_graph=True)[0] for one in directions])
    return rows.reshape(size, *shape, size_in).movedim(0, -2)


def _nodes_between(point: Tensor, outputs: Iterable[Tensor]) -> set[Node]:
    """Return the nodes of the graph of `outputs`, but for `point` and what lies before it."""
    start = get_gradient_edge(point).node
    nodes = {start}
    waiting = [output.grad_fn for output in outputs if output.grad_fn is not None]
    while waiting:
        node = waiting.pop()
        if node not in nodes:
            nodes.add(node)
            waiting.extend(earlier for earlier, _ in node.next_functions if earlier is not None)
    return nodes - {start}


def check_score(x: Tensor, score: Tensor) -> None:
    """Check that a score is what x is: its shape, dtype and device.

    Raises:
        InvalidInputError: It is not, or x is no floating-point tensor.
    """
    if not is_dense(x):
        raise InvalidInputError(complaint("x of a score", "a floating-point tensor", described(x)))
    if not is_dense(score) or (score.shape, score.dtype, score.device) != (x.shape, x.dtype, x.device):
        raise InvalidInputError(complaint("score", f"what x is, {described(x)}", described(score)))
