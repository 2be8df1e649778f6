"""Inverses in double precision, and the check that a log-density survives the rounding of its values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.known_values import functorch_is_active, known

if TYPE_CHECKING:
    from vae_flows.transforms.base import FusedTransform

__all__ = ["invert_in_double"]

# Nats by which the log-density of a draw may change when the rounded draw is scored again, beside the rounding of the
# result itself, which is counted in units of eps times the number of terms.
MAX_ERROR = 0.05
RESULT_ROUNDING = 8.0

Primitive = Callable[[Tensor], tuple[Tensor, Tensor]]


def invert_in_double(transform: FusedTransform, invert: Primitive, y: Tensor) -> tuple[Tensor, Tensor]:
    """Invert values of lower precision in float64, and check that their log-density can be trusted.

    An inverse multiplies the rounding of y by the inverse Jacobian, layer by layer, so that of a steep flow nothing may
    be left of float32's seven digits. In float64 only the rounding of y itself remains. How much that is, is measured:
    the x that was found is mapped forward in the precision of y, as when drawn, and scored again.

    Arguments:
        transform: Whose two primitives take float64, whatever the dtype of its parameters.
        invert: Its inverse primitive in the dtype of what it is given.
        y: Values `(*sample, *batch, D)`. Those of float64 are inverted as they are.

    Returns:
        x and the log-determinant of the forward map, in the dtype of y.

    Raises:
        InvalidInputError: A draw at x, scored again, would be off by more than 0.05 nats of a standard Gaussian.
    """
    if y.dtype == torch.float64 or y.device.type == "mps":  # which has no float64
        return invert(y)
    double = y.double()
    with torch.no_grad():
        # Parameters of lower precision may be no exact solution of what a closed form assumes, such as QᵀQ = I. What
        # that leaves is taken off y, as in the iterative refinement of linear systems.
        left = double - transform.forward_with_log_det(invert(double)[0])[0]
    x, log_det = invert(double + left)
    if not (torch.compiler.is_compiling() or functorch_is_active()):
        _check_draw(transform, invert, x.detach().to(y.dtype))
    return x.to(y.dtype), log_det.to(y.dtype)


@torch.no_grad()
def _check_draw(transform: FusedTransform, invert: Primitive, x: Tensor) -> None:
    y, drawn = transform.forward_with_log_det(x)
    again, scored = invert(y.double())
    # The log-density of a standard Gaussian changes by about the length of a step, in whatever direction it goes.
    errors = (scored - drawn).abs() + torch.linalg.vector_norm(again - x, dim=-1)
    rounding = RESULT_ROUNDING * torch.finfo(x.dtype).eps * (x.shape[-1] + drawn.abs())
    if known(errors <= MAX_ERROR + rounding) is False:
        raise InvalidInputError(
            complaint(
                f"log-density of {type(transform).__name__} in {x.dtype}",
                f"draws that score the same again to within {MAX_ERROR} nats",
                f"a difference of {float(errors.max()):.2g} nats, as the transform is too steep for that precision",
                "Convert the model and its inputs to float64, or start flows with initialization='identity'.",
            )
        )
