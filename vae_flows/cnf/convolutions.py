r"""Convolutional dynamics of images, with time as another channel.

Each layer maps x to :math:`W * x + t\,(w * 1) + c`, a convolution in which t is a channel of its own (Grathwohl et al.
2019, section 4.1 and appendix B). :math:`w * 1`, which differs at the borders, is computed once for each solve. The
directional derivatives that estimate the trace go through the convolutions together with the values, as more rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Size, Tensor, nn
from torch.nn import functional as F

from vae_flows.checks import checked
from vae_flows.cnf.activations import Activation, activation, swish
from vae_flows.cnf.fields import ConditionedDynamics, TraceByDirections, VectorField
from vae_flows.cnf.hooks import make_hooked_weights
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.modules import bound
from vae_flows.ode.fields import AugmentedField, Time
from vae_flows.persistence.configuration import register_class
from vae_flows.tensors.kernels import only_reached_taps
from vae_flows.tensors.shapes import ImageShape, require_image_shape

__all__ = ["ConditionedConvolutions", "ConvolutionalDynamics"]

_KERNELS = {1: (3, 1), 2: (4, 1), -2: (4, 1)}  # side of the kernel and padding, by stride


@register_class("ConvolutionalDynamics")
class ConvolutionalDynamics(nn.Module):
    """dz/dt = f(t, z) of images: convolutions of 3 × 3 pixels from C to C channels, with σ between them.

    Latents are images laid out as vectors, D = C H W. The last convolution starts at zero, so that a fresh flow is the
    identity.

    Arguments:
        image_shape: (C, H, W).
        hidden_channels: Channels of the hidden layers, at least one.
        strides: Stride of each layer, one more than there are hidden layers: 1; 2, which halves the sides by kernels of
            4 × 4 pixels; or −2, which doubles them. All 1 by default.
        activation: `softplus`, `tanh`, `silu`, `elu`, `sine`, or `swish`, x σ(β x) with β learned.

    Raises:
        InvalidInputError: No hidden layer, a number below one, or strides that do not lead back to the image's sides.
        UnknownNameError: Unknown activation.

    Source:
        Grathwohl et al. (2019), "FFJORD", section 4.1.

    Example:
        >>> from vae_flows.cnf import ContinuousNormalizingFlow
        >>> flow = ContinuousNormalizingFlow(ConvolutionalDynamics((1, 4, 4), (8,)), eval_divergence="hutchinson")
        >>> flow().log_prob(torch.randn(5, 16)).shape
        torch.Size([5])
    """

    @checked
    def __init__(
        self,
        image_shape: Sequence[int],
        hidden_channels: Sequence[int] = (32, 32),
        *,
        strides: Sequence[int] | None = None,
        activation: str = "softplus",
    ) -> None:
        super().__init__()
        self.image_shape = require_image_shape("ConvolutionalDynamics", image_shape)
        if not hidden_channels or any(width < 1 for width in hidden_channels):
            raise InvalidInputError(complaint("hidden_channels", "one or more positive integers", hidden_channels))
        self.hidden_channels = tuple(hidden_channels)
        self.strides = (1,) * (len(hidden_channels) + 1) if strides is None else tuple(strides)
        self.sides = _sides(self.image_shape, self.strides, len(hidden_channels) + 1)
        self.latent_dim = math.prod(self.image_shape)
        self.activation_name = activation
        self.swish_beta = nn.Parameter(torch.ones(())) if activation == "swish" else None
        self.activation()
        widths = (self.image_shape[0], *hidden_channels, self.image_shape[0])
        self.layers = nn.ModuleList(map(_make_layer, widths, widths[1:], self.strides))
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def get_config(self) -> Mapping[str, Any]:
        """Return the constructor's arguments."""
        return {
            "image_shape": self.image_shape,
            "hidden_channels": self.hidden_channels,
            "strides": self.strides,
            "activation": self.activation_name,
        }

    def activation(self) -> Activation:
        """Return σ."""
        return activation(self.activation_name) if self.swish_beta is None else swish(self.swish_beta)

    def condition(self) -> ConditionedConvolutions:
        """Return the dynamics as a transform takes them: the same for all images."""
        return ConditionedConvolutions(self)

    def extra_repr(self) -> str:
        return f"image_shape={self.image_shape}, strides={self.strides}"


class ConditionedConvolutions(ConditionedDynamics):
    """`ConvolutionalDynamics`, which have no amortised parameters."""

    @checked
    def __init__(self, dynamics: ConvolutionalDynamics) -> None:
        super().__init__(dynamics.latent_dim, Size())
        self._dynamics = bound(dynamics)

    @property
    def dtype(self) -> torch.dtype:
        return next(self._dynamics.parameters()).dtype

    def prepare(self, shape: Size) -> VectorField:
        del shape
        dynamics = self._dynamics
        make_hooked_weights(dynamics)
        layers = [
            _Convolution.of(cast("nn.Conv2d | nn.ConvTranspose2d", layer), sides)
            for layer, sides in zip(dynamics.layers, dynamics.sides, strict=True)
        ]
        return ConvolutionalField(layers, dynamics.image_shape, dynamics.activation())

    def dependencies(self) -> Sequence[Tensor]:
        return list(self._dynamics.parameters())


class _Convolution(NamedTuple):
    """One layer, ready for a solve."""

    weight: Tensor
    bias: Tensor  # (out, 1, 1)
    rate: Tensor  # (out, H, W): what the channel of times adds, for t = 1
    stride: int

    @classmethod
    def of(cls, layer: nn.Conv2d | nn.ConvTranspose2d, sides: tuple[int, int]) -> _Convolution:
        """Prepare a layer whose first input channel is time, for images with these sides."""
        transposed = isinstance(layer, nn.ConvTranspose2d)
        stride = -layer.stride[0] if transposed else layer.stride[0]
        halved = (sides[0] // stride, sides[1] // stride) if not transposed else sides
        doubled = (sides[0] * -stride, sides[1] * -stride) if transposed else sides
        weight = only_reached_taps(layer.weight, halved, doubled, layer.stride, cast("tuple[int, int]", layer.padding))
        of_time, of_image = weight.split([1, layer.in_channels - 1], dim=0 if transposed else 1)
        (rate,) = _convolve(layer.weight.new_ones(1, 1, *sides), of_time, stride)
        return cls(of_image, cast(Tensor, layer.bias).view(-1, 1, 1), rate, stride)

    def product(self, x: Tensor) -> Tensor:
        """Return W * x of `x (N, in, H, W)`."""
        return _convolve(x, self.weight, self.stride)

    def offset(self, t: Time) -> Tensor:
        """Return what is added at time t: a number, or one for each image, `(…, 1)`."""
        if isinstance(t, Tensor) and t.dim():
            t = t.reshape(-1, 1, 1, 1)
        return self.bias + t * self.rate


class ConvolutionalField(VectorField):
    """The field of `ConvolutionalDynamics`, integrated in the layout `(…, D)`."""

    def __init__(self, layers: Sequence[_Convolution], image_shape: ImageShape, activation: Activation) -> None:
        self._layers = layers
        self._image_shape = image_shape
        self._activation = activation

    def tensors(self) -> Sequence[Tensor]:
        prepared = [tensor for layer in self._layers for tensor in (layer.weight, layer.bias, layer.rate)]
        return [*prepared, *self._activation.parameters]

    def value(self, t: Time, z: Tensor) -> Tensor:
        return self.value_and_derivatives(t, z, z.new_empty((0, *z.shape)))[0]

    def value_and_derivatives(self, t: Time, z: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(t, z), of the shape of z, and J v for each v of `directions (P, *z.shape)`, of their shape."""
        *hidden, last = self._layers
        count = z[..., 0].numel()
        rows = torch.cat([z.unsqueeze(0), directions]).reshape(-1, *self._image_shape)
        for layer in hidden:
            product = layer.product(rows)
            value, slope = self._activation(product[:count] + layer.offset(t))
            derivatives = product[count:].unflatten(0, (-1, count)) * slope
            rows = torch.cat([value, derivatives.flatten(0, 1)])
        product = last.product(rows)
        value = product[:count] + last.offset(t)
        return value.reshape(z.shape), product[count:].reshape(directions.shape)

    def with_probes(self, probes: Tensor) -> AugmentedField:
        return _Estimate(self, probes)

    def with_trace(self) -> AugmentedField:
        return TraceByDirections(self)


class _Estimate(AugmentedField):
    """f beside the mean of εᵀJε, with both from one pass through the convolutions."""

    def __init__(self, field: ConvolutionalField, probes: Tensor) -> None:
        self._field = field
        self._probes = probes

    def tensors(self) -> Sequence[Tensor]:
        return self._field.tensors()

    def evaluate(self, t: Time, z: Tensor) -> tuple[Tensor, Tensor]:
        value, derivatives = self._field.value_and_derivatives(t, z, self._probes)
        return value, (self._probes * derivatives).sum(-1).mean(0).unsqueeze(-1)


def _sides(image_shape: ImageShape, strides: Sequence[int], count: int) -> list[tuple[int, int]]:
    """Return the sides of each layer's input, having checked that the last layer's output has those of the image."""
    if len(strides) != count or any(stride not in _KERNELS for stride in strides):
        expected = f"{count} numbers, one more than hidden layers, of 1, 2 and -2"
        raise InvalidInputError(complaint("strides", expected, tuple(strides)))
    _, height, width = image_shape
    sides = [(height, width)]
    for stride in strides:
        height, width = ((2 * side if stride == -2 else side // stride) for side in (height, width))
        sides.append((height, width))
    if sides[-1] != sides[0] or (0, 0) in [(min(pair), min(pair)) for pair in sides]:
        expected = f"strides that lead from {sides[0][0]} × {sides[0][1]} pixels back to them"
        got = f"{tuple(strides)}, by way of " + ", ".join(f"{height} × {width}" for height, width in sides[1:])
        raise InvalidInputError(complaint("strides", expected, got))
    return sides[:-1]


def _make_layer(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d | nn.ConvTranspose2d:
    kind = nn.ConvTranspose2d if stride < 0 else nn.Conv2d
    kernel, padding = _KERNELS[stride]
    return kind(1 + in_channels, out_channels, kernel, stride=abs(stride), padding=padding)


def _convolve(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    padding = _KERNELS[stride][1]
    if stride < 0:
        return F.conv_transpose2d(x, weight, stride=-stride, padding=padding)
    return F.conv2d(x, weight, stride=stride, padding=padding)
