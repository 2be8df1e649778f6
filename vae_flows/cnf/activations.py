"""Activations with their first two derivatives, which fused directional derivatives and their gradients need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vae_flows.errors import unknown_name

__all__ = ["Activation", "ValueAndSlope", "activation", "available_activations", "swish"]


class ValueAndSlope(NamedTuple):
    """σ(x) and σ'(x), both of the shape of x."""

    value: Tensor
    slope: Tensor


@dataclass(frozen=True)
class Activation:
    """An elementwise function σ.

    Arguments:
        name: What it is called.
        value_and_slope: x -> (σ(x), σ'(x)), differentiable.
        curvature: (x, σ(x), σ'(x)) -> σ''(x).
        parameters: Learned parameters inside σ, whose gradients automatic differentiation has to find.
    """

    name: str
    value_and_slope: Callable[[Tensor], ValueAndSlope]
    curvature: Callable[[Tensor, Tensor, Tensor], Tensor]
    parameters: tuple[Tensor, ...] = ()

    def __call__(self, x: Tensor) -> ValueAndSlope:
        return self.value_and_slope(x)


def _softplus(x: Tensor) -> ValueAndSlope:
    return ValueAndSlope(F.softplus(x), torch.sigmoid(x))


def _tanh(x: Tensor) -> ValueAndSlope:
    y = torch.tanh(x)
    return ValueAndSlope(y, 1 - y * y)


def _elu(x: Tensor) -> ValueAndSlope:
    y = F.elu(x)
    return ValueAndSlope(y, torch.where(x > 0, torch.ones_like(y), y + 1))


def _silu(x: Tensor) -> ValueAndSlope:
    gate = torch.sigmoid(x)
    y = x * gate
    return ValueAndSlope(y, gate + y * (1 - gate))


def _silu_curvature(x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    gate = torch.sigmoid(x)
    return gate * (1 - gate) * (2 + x * (1 - 2 * gate))


def _sine(x: Tensor) -> ValueAndSlope:
    return ValueAndSlope(torch.sin(x), torch.cos(x))


_ACTIVATIONS = {
    entry.name: entry
    for entry in (
        Activation("elu", _elu, lambda x, value, slope: torch.where(x > 0, torch.zeros_like(x), slope)),
        Activation("silu", _silu, _silu_curvature),
        Activation("sine", _sine, lambda x, value, slope: -value),
        Activation("softplus", _softplus, lambda x, value, slope: slope * (1 - slope)),
        Activation("tanh", _tanh, lambda x, value, slope: -2 * value * slope),
    )
}


def swish(beta: Tensor) -> Activation:
    """Return x σ(β x) with learned β (Ramachandran et al. 2017); β = 1 is `silu`."""

    def value_and_slope(x: Tensor) -> ValueAndSlope:
        gate = torch.sigmoid(beta * x)
        y = x * gate
        return ValueAndSlope(y, gate + beta * y * (1 - gate))

    def curvature(x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        gate = torch.sigmoid(beta * x)
        return beta * gate * (1 - gate) * (2 + beta * x * (1 - 2 * gate))

    return Activation("swish", value_and_slope, curvature, (beta,))


def available_activations() -> tuple[str, ...]:
    """Return the names that `activation` knows; `MLPDynamics` knows `swish` beside them."""
    return tuple(sorted(_ACTIVATIONS))


def activation(name: str) -> Activation:
    """Return the activation called `name`.

    Raises:
        UnknownNameError: There is no such activation.

    Example:
        >>> activation("tanh")(torch.zeros(2))
        ValueAndSlope(value=tensor([0., 0.]), slope=tensor([1., 1.]))
    """
    if name not in _ACTIVATIONS:
        raise unknown_name("activation", name, [*_ACTIVATIONS, "swish"])
    return _ACTIVATIONS[name]
