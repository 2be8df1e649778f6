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


_LARGEST_EXPONENT = 80.0  # e⁸⁰ is finite in single precision, though not in half

ValueInto = Callable[[Tensor, Tensor], Tensor]
PullBack = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor | None], Tensor]


def _left_to_automatic_differentiation(*_: Tensor | None) -> Tensor:
    raise NotImplementedError("an activation with parameters has no backward pass of its own")


@dataclass(frozen=True)
class Activation:
    """An elementwise function σ.

    Arguments:
        name: What it is called.
        value_and_slope: x -> (σ(x), σ'(x)), differentiable.
        pull_back: (y, σ'(x), v, s, out) -> out, into which it writes σ'(x) v + σ''(x) s, the cotangent of x for those
            of value and slope; y is σ(x), or x where the activation `keeps_input`.
        keeps_input: Whether `pull_back` needs x, which nobody else does once σ(x) and σ'(x) are known.
        quick: (x, out) -> σ'(x), with σ(x) written into `out`; not differentiable. By default as `value_and_slope`.
        parameters: Learned parameters inside σ, whose gradients automatic differentiation has to find.
    """

    name: str
    value_and_slope: Callable[[Tensor], ValueAndSlope]
    pull_back: PullBack = _left_to_automatic_differentiation
    keeps_input: bool = False
    quick: ValueInto | None = None
    parameters: tuple[Tensor, ...] = ()

    def __call__(self, x: Tensor) -> ValueAndSlope:
        return self.value_and_slope(x)

    def value_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Write σ(x) into `out` and return σ'(x), outside of automatic differentiation."""
        # What is quick on the CPU are more kernels on other devices, where their number counts.
        if self.quick is not None and x.device.type == "cpu" and x.dtype != torch.float16:
            return self.quick(x, out)
        value, slope = self.value_and_slope(x)
        out.copy_(value)
        return slope


def _softplus(x: Tensor) -> ValueAndSlope:
    return ValueAndSlope(F.softplus(x), torch.sigmoid(x))


def _softplus_quick(x: Tensor, out: Tensor) -> Tensor:
    """Both from one exponential: on the CPU half the time of softplus, which has a slow `log1p`, and sigmoid.

    log(1 + eˣ) has the absolute accuracy of its result's type, not the relative one for negative x. Where eˣ would
    overflow it is held, and x is the larger of the two.
    """
    exponential = torch.clamp(x, max=_LARGEST_EXPONENT, out=out).exp()
    slope = exponential.div_(torch.add(exponential, 1, out=out))  # `out` is in the cache: no third tensor is made
    torch.maximum(x, out.log_(), out=out)
    return slope


def _softplus_pull_back(value: Tensor, slope: Tensor, of_value: Tensor, of_slope: Tensor, out: Tensor | None) -> Tensor:
    # σ'' = σ' (1 − σ')
    return torch.mul(torch.addcmul(of_value + of_slope, of_slope, slope, value=-1), slope, out=out)


def _tanh(x: Tensor) -> ValueAndSlope:
    y = torch.tanh(x)
    return ValueAndSlope(y, 1 - y * y)


def _tanh_quick(x: Tensor, out: Tensor) -> Tensor:
    torch.tanh(x, out=out)
    return torch.mul(out, out).neg_().add_(1)


def _tanh_pull_back(value: Tensor, slope: Tensor, of_value: Tensor, of_slope: Tensor, out: Tensor | None) -> Tensor:
    # σ'' = −2 σ σ'
    return torch.mul(torch.addcmul(of_value, of_slope, value, value=-2), slope, out=out)


def _elu(x: Tensor) -> ValueAndSlope:
    y = F.elu(x)
    return ValueAndSlope(y, torch.where(x > 0, torch.ones_like(y), y + 1))


def _elu_pull_back(value: Tensor, slope: Tensor, of_value: Tensor, of_slope: Tensor, out: Tensor | None) -> Tensor:
    # σ'' = σ' left of zero, where σ is negative as well, and nothing right of it
    return torch.mul(of_value + of_slope * (value <= 0), slope, out=out)


def _silu(x: Tensor) -> ValueAndSlope:
    gate = torch.sigmoid(x)
    y = x * gate
    return ValueAndSlope(y, gate + y * (1 - gate))


def _silu_pull_back(x: Tensor, slope: Tensor, of_value: Tensor, of_slope: Tensor, out: Tensor | None) -> Tensor:
    return torch.addcmul(of_value * slope, of_slope, _silu_curvature(x), out=out)


def _silu_curvature(x: Tensor) -> Tensor:
    gate = torch.sigmoid(x)
    return gate * (1 - gate) * (2 + x * (1 - 2 * gate))


def _sine(x: Tensor) -> ValueAndSlope:
    return ValueAndSlope(torch.sin(x), torch.cos(x))


def _sine_pull_back(value: Tensor, slope: Tensor, of_value: Tensor, of_slope: Tensor, out: Tensor | None) -> Tensor:
    # σ'' = −σ
    return torch.addcmul(of_value * slope, of_slope, value, value=-1, out=out)


_ACTIVATIONS = {
    entry.name: entry
    for entry in (
        Activation("elu", _elu, _elu_pull_back),
        Activation("silu", _silu, _silu_pull_back, keeps_input=True),
        Activation("sine", _sine, _sine_pull_back),
        Activation("softplus", _softplus, _softplus_pull_back, quick=_softplus_quick),
        Activation("tanh", _tanh, _tanh_pull_back, quick=_tanh_quick),
    )
}


def swish(beta: Tensor) -> Activation:
    """Return x σ(β x) with learned β (Ramachandran et al. 2017); β = 1 is `silu`."""

    def value_and_slope(x: Tensor) -> ValueAndSlope:
        gate = torch.sigmoid(beta * x)
        y = x * gate
        return ValueAndSlope(y, gate + beta * y * (1 - gate))

    return Activation("swish", value_and_slope, parameters=(beta,))


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
