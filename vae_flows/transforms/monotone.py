"""The scalar equation behind the inverses of planar and Sylvester transforms: a + r tanh(s a + c) = v."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.precision import or_double

__all__ = ["solve_monotone"]

# Every step either halves the bracket or is at most half of the step before, so this is far more than is ever used.
MAX_STEPS = 200
# Rounding of a + r tanh(s a + c) - v, in units of eps (|v| + |r|).
RESIDUAL_ROUNDING = 4.0


def solve_monotone(v: Tensor, r: Tensor, s: Tensor, c: Tensor) -> Tensor:
    r"""Solve :math:`a + r\tanh(s a + c) = v` for `a`, elementwise, to the precision of the dtype.

    With r s > -1 the left side rises strictly in `a`, and |tanh| <= 1 puts the root between v - |r| and v + |r|.
    Newton steps that leave this bracket, or do not halve the step before, are replaced by bisection.

    The result is differentiable in all arguments, up to third derivatives, at the cost of two more evaluations.

    Arguments:
        v: Right sides; all four tensors broadcast.
        r: Factors of the hyperbolic tangent.
        s: Factors of the unknown.
        c: Offsets.

    Returns:
        The roots, of the broadcast shape.

    Raises:
        InvalidInputError: A value is not finite, or r s < -1, where the root is not unique. The limit r s = -1, which
            values just above it reach by rounding, is accepted.

    Example:
        >>> a = solve_monotone(torch.tensor(1.0), torch.tensor(2.0), torch.tensor(3.0), torch.tensor(-0.5))
        >>> bool(torch.isclose(a + 2 * torch.tanh(3 * a - 0.5), torch.tensor(1.0)))
        True
    """
    v, r, s, c = torch.broadcast_tensors(v, r, s, c)
    with torch.no_grad():
        root = _Root.apply(v, r, s, c)
    # A Newton step from the root leaves its value and has the derivative of the implicit function; the second step
    # also corrects the derivatives of order two and three, as the error of the first is quadratic.
    for _ in range(2):
        residual, slope = _residual_and_slope(root, v, r, s, c)
        root = root - (residual - residual.detach()) / slope.clamp_min(torch.finfo(v.dtype).eps)
    return root


def _residual_and_slope(a: Tensor, v: Tensor, r: Tensor, s: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    tanh = torch.tanh(s * a + c)
    return a + r * tanh - v, 1 + r * s * (1 - tanh * tanh)


class _Root(torch.autograd.Function):
    """The root without derivatives, as one operation: `torch.func.vmap` may not look into a search of that kind."""

    @staticmethod
    def forward(v: Tensor, r: Tensor, s: Tensor, c: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _bracketed_newton(v, r, s, c)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        del inputs
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        del ctx, grad_outputs
        return None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor) -> tuple[Tensor, int]:
        del info
        moved = [x if dim is None else x.movedim(dim, 0) for x, dim in zip(tensors, in_dims, strict=True)]
        return _Root.apply(*torch.broadcast_tensors(*moved)), 0


def _bracketed_newton(v: Tensor, r: Tensor, s: Tensor, c: Tensor) -> Tensor:
    if v.is_meta:
        return torch.empty_like(v)
    _check(v, r, s, c)
    precision = RESIDUAL_ROUNDING * torch.finfo(v.dtype).eps * (v.abs() + r.abs())
    low, high = v - r.abs(), v + r.abs()
    step = high - low
    root = v - r * torch.tanh(s * v + c)
    for _ in range(MAX_STEPS):
        residual, slope = _residual_and_slope(root, v, r, s, c)
        # Where the slope is large, neighbouring floating-point numbers lie further apart than the residual's rounding.
        done = residual.abs() <= precision * slope.clamp_min(1)
        if done.all():
            return root
        low = torch.where(residual < 0, root, low)
        high = torch.where(residual > 0, root, high)
        newton = -residual / slope
        inside = (low <= root + newton) & (root + newton <= high)
        accepted = inside & (newton.abs() <= 0.5 * step.abs())
        step = torch.where(accepted, newton, 0.5 * (low + high) - root)
        root = torch.where(done, root, root + step)
    raise InvalidInputError(
        complaint(
            "inverse of a planar or Sylvester transform",
            f"scalar equations that are solved in {MAX_STEPS} steps",
            f"{v.numel()} of which some are not",
            f"Bound the parameters{or_double(v.dtype)}.",
        )
    )


def _check(v: Tensor, r: Tensor, s: Tensor, c: Tensor) -> None:
    subject = "inverse of a planar or Sylvester transform"
    if not torch.stack((v, r, s, c)).isfinite().all():
        raise InvalidInputError(complaint(subject, "finite latents and parameters", "values that are NaN or infinite"))
    slopes = r * s
    if (slopes < -1).any():
        raise InvalidInputError(
            complaint(
                subject,
                "parameters with diag(R1) diag(R2) > -1, for which an inverse exists",
                f"a product of {float(slopes.min()):.6g}",
                "Pass the diagonals through tanh.",
            )
        )
