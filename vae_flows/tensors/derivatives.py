"""Backward passes that are right once: differentiated again, they raise in place of giving wrong second derivatives.

`once_differentiable` of torch raises only where the cotangent itself asks for a gradient, which that of a sum does not:
the second derivatives would then lack the share of this backward pass without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.precision import full_precision

__all__ = ["Refusal", "first_order", "first_order_only"]

Gradients = tuple[Tensor | None, ...]


class Refusal(NamedTuple):
    """How second derivatives are refused.

    Arguments:
        subject: Whose they are.
        remedy: What to use instead.
    """

    subject: str
    remedy: str

    def check(self) -> None:
        """Check, within a backward pass, that it is not to be differentiated again.

        Raises:
            InvalidInputError: It is.
        """
        if torch.is_grad_enabled():
            expected = "a backward pass that is not differentiated again"
            raise InvalidInputError(complaint(self.subject, expected, "create_graph=True", self.remedy))


def first_order(refusal: Refusal) -> Callable[[Callable[..., Gradients]], Callable[..., Gradients]]:
    """Decorate the `backward` of an autograd function written by hand, which is right to first order.

    It runs in full precision, also where the backward pass is called inside of automatic mixed precision.

    Arguments:
        refusal: What is said where it is asked for more.
    """

    def decorate(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
        @wraps(backward)
        def checked(ctx: Any, *grad_outputs: Tensor) -> Gradients:
            refusal.check()
            with full_precision(grad_outputs[0]):
                return backward(ctx, *grad_outputs)

        return checked

    return decorate


def first_order_only(refusal: Refusal, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors as they are, except that gradients through any of them cannot be differentiated again.

    For what others compute, whose second derivatives are wrong.

    Arguments:
        refusal: What is said where it is asked for more.
        *tensors: Results that belong together: a gradient through one refuses for all.

    Example:
        >>> x = torch.tensor(2.0, requires_grad=True)
        >>> (y,) = first_order_only(Refusal("square", "Use x * x."), x.square())
        >>> torch.autograd.grad(y, x)
        (tensor(4.),)
    """
    return _FirstOrderOnly.apply(refusal, *tensors)


class _FirstOrderOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, refusal: Refusal, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.refusal = refusal
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Gradients:
        ctx.refusal.check()
        return None, *grad_outputs
