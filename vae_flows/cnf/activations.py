"""Activations that return value and slope together, which is what a fused directional derivative needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vae_flows.errors import unknown_name

__all__ = ["Activation", "ValueAndSlope", "activation", "available_activations"]


class ValueAndSlope(NamedTuple):
    """σ(x) and σ'(x), both of the shape of x."""

    value: Tensor
    slope: Tensor


Activation = Callable[[Tensor], ValueAndSlope]


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


def _sine(x: Tensor) -> ValueAndSlope:
    return ValueAndSlope(torch.sin(x), torch.cos(x))


_ACTIVATIONS: dict[str, Activation] = {
    "elu": _elu,
    "silu": _silu,
    "sine": _sine,
    "softplus": _softplus,
    "tanh": _tanh,
}


def available_activations() -> tuple[str, ...]:
    """Return the names that `activation` knows."""
    return tuple(sorted(_ACTIVATIONS))


def activation(name: str) -> Activation:
    """Return the activation called `name` as a function x -> (σ(x), σ'(x)).

    Raises:
        UnknownNameError: There is no such activation.

    Example:
        >>> activation("tanh")(torch.zeros(2))
        ValueAndSlope(value=tensor([0., 0.]), slope=tensor([1., 1.]))
    """
    if name not in _ACTIVATIONS:
        raise unknown_name("activation", name, _ACTIVATIONS)
    return _ACTIVATIONS[name]
