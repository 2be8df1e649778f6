"""Inverses by Newton's method, for transforms of other libraries that come without one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vae_flows.tensors.inference_mode import differentiating
from vae_flows.tensors.precision import at_least_single

__all__ = ["newton_inverse"]

MAX_STEPS = 50
MAX_HALVINGS = 30
# The residual at which steps end is this power of eps; the last step, which has the gradient, takes it to rounding.
RESIDUAL_POWER = 0.75

VectorMap = Callable[[Tensor], Tensor]


def newton_inverse(function: VectorMap, y: Tensor, start: Tensor | None = None) -> Tensor:
    r"""Solve :math:`f(x) = y` for each vector of a batch by damped Newton steps.

    Steps are halved until the residual falls. For a smooth f that maps the whole space one to one onto itself this
    ends at the solution from anywhere: the residual has no other stationary point. What is returned is the best x that
    was found, so the caller checks f(x) where f may be something else.

    A step costs D products with the Jacobian. The result has the first and second derivatives of the implicit function,
    in y and in whatever f depends on, at the cost of one more step and one more evaluation. On the meta device there is
    nothing to solve, and the result is empty.

    Arguments:
        function: Maps `(*batch, D)` to the same shape, one vector by one.
        y: `(*batch, D)`.
        start: Where to start, y by default.

    Returns:
        x, as y.

    Example:
        >>> x = newton_inverse(lambda x: x + x**3, torch.tensor([[10.0, -2.0]]))
        >>> torch.allclose(x, torch.tensor([[2.0, -1.0]]))
        True
    """
    if y.is_meta:
        return y - function(y)
    root = _solve(function, y.detach(), (y if start is None else start).detach())
    _, jacobian = _linearize(function, root)
    # Steps with the Jacobian held fixed leave an error of one order more in any change of y or f: the first step has
    # the first derivatives of the root, the second step the second ones.
    for _ in range(2 if torch.is_grad_enabled() else 1):
        step = _apply_inverse(jacobian, function(root) - y)
        root = root - torch.where(step.isfinite(), step, 0)  # a singular Jacobian, far from any root, has no step
    return root


def _solve(function: VectorMap, y: Tensor, x: Tensor) -> Tensor:
    precision = torch.finfo(y.dtype).eps ** RESIDUAL_POWER * (1 + _norm(y))
    with torch.no_grad():
        error = _norm(function(x) - y)
    for _ in range(MAX_STEPS):
        if (error <= precision).all():
            break
        value, jacobian = _linearize(function, x)
        nearer, less = _search(function, x, y, _apply_inverse(jacobian, value - y), error, precision)
        if not (less < error).any():
            break
        x, error = nearer, less
    return x


@torch.no_grad()
def _search(
    function: VectorMap, x: Tensor, y: Tensor, step: Tensor, error: Tensor, precision: Tensor
) -> tuple[Tensor, Tensor]:
    """Take each vector's step, halved until its residual falls or not at all, and return the residuals with it."""
    length = torch.ones_like(error)
    nearest, least = x, error
    for _ in range(MAX_HALVINGS):
        candidate = x - length * step
        residual = _norm(function(candidate) - y)
        better = (residual < least) & (least == error)
        nearest, least = torch.where(better, candidate, nearest), torch.where(better, residual, least)
        if ((least < error) | (error <= precision)).all():
            break
        length = length / 2
    return nearest, least


def _linearize(function: VectorMap, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return f(x) and its Jacobian `(*batch, D, D)`, both without a graph."""
    with differentiating(x):
        x = x.detach().requires_grad_()
        value = function(x)
        rows = [torch.autograd.grad(column.sum(), x, retain_graph=True)[0] for column in value.unbind(-1)]
    return value.detach(), torch.stack(rows, -2)


def _apply_inverse(jacobian: Tensor, residual: Tensor) -> Tensor:
    # Singular Jacobians give infinities, which no search accepts, instead of an error for the whole batch.
    exact = at_least_single(residual).unsqueeze(-1)
    return torch.linalg.solve_ex(at_least_single(jacobian), exact)[0].squeeze(-1).to(residual.dtype)


def _norm(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
