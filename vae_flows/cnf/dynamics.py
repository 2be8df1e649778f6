r"""MLP dynamics whose layers are shifted, and updated in low rank, by amortised parameters.

Layer l maps x to

.. math:: W_l x + (x U_l) V_l + w_l\, t + c_l + b_l ,

with shared :math:`W_l, w_l, c_l` and amortised, per-example :math:`U_l, V_l, b_l` (van den Berg et al. 2018 for the
idea; Grathwohl et al. 2019, section 4.2 and appendix, for the continuous flow). f and its directional derivatives are
one forward pass over stacked rows: the products with the weights are shared, and no double backward is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, cast

import torch
from torch import Size, Tensor, nn
from torch.nn import functional as F

from vae_flows.cnf import activations
from vae_flows.cnf.activations import Activation
from vae_flows.cnf.fields import ConditionedDynamics, VectorField
from vae_flows.errors import InvalidInputError, complaint, unknown_name
from vae_flows.shapes import Folded, fold_samples

__all__ = ["ConditionedMLP", "LayerUpdate", "MLPDynamics", "MLPField", "TimeConditioning"]

TimeConditioning = Literal["ignore", "concat"]
_TIME_CONDITIONINGS = ("ignore", "concat")
_CLOSED_TRACE_LAYERS = 3  # up to two hidden layers the trace has a closed form of O(H²) an example
_TRACE_CHUNK = 16  # basis vectors a pass where the trace has no closed form: bounds the memory, still one wide product


class LayerUpdate(NamedTuple):
    """Amortised parameters of one layer: `bias (*batch, out)`, `left (*batch, in, r)`, `right (*batch, r, out)`."""

    bias: Tensor | None = None
    left: Tensor | None = None
    right: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        """Return those parameters that there are."""
        return [tensor for tensor in self if tensor is not None]

    def flatten(self, own: Size, batch: Size) -> LayerUpdate:
        """Merge the batch dimensions, of shape `own` and broadcast to `batch`, into one."""

        def merge(tensor: Tensor | None) -> Tensor | None:
            if tensor is None:
                return None
            event = tensor.shape[len(own) :]
            return tensor.expand(batch + event).reshape((math.prod(batch), *event))

        return LayerUpdate(*(merge(tensor) for tensor in self))


class TimeLinear(nn.Linear):
    """x, t -> W x + w t + c, with `time_weight` w fixed at zero where time is ignored."""

    def __init__(self, in_features: int, out_features: int, time_conditioning: TimeConditioning) -> None:
        super().__init__(in_features, out_features)
        self.time_weight: nn.Parameter | None = None
        if time_conditioning == "concat":
            bound = 1 / math.sqrt(in_features + 1)
            self.time_weight = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))


class MLPDynamics(nn.Module):
    """The shared part of dz/dt = f(t, z; updates): an MLP from D to D.

    Arguments:
        latent_dim: D.
        hidden_dims: Widths of the hidden layers, at least one.
        activation: Name of the activation between layers.
        time_conditioning: `ignore`, or `concat`: t is one more input of each layer.

    Raises:
        InvalidInputError: No hidden layer or a width below one.
        UnknownNameError: Unknown activation or time conditioning.

    Example:
        >>> dynamics = MLPDynamics(2, (16,), activation="tanh")
        >>> field = dynamics.condition().prepare(torch.Size([5]), with_trace=False)
        >>> field.value(torch.tensor(0.0), torch.zeros(1, 5, 2)).shape
        torch.Size([1, 5, 2])
    """

    def __init__(
        self,
        latent_dim: int,
        hidden_dims: Sequence[int] = (64, 64),
        *,
        activation: str = "softplus",
        time_conditioning: TimeConditioning = "concat",
    ) -> None:
        super().__init__()
        if not hidden_dims or any(not isinstance(width, int) or width < 1 for width in hidden_dims):
            raise InvalidInputError(complaint("hidden_dims", "one or more positive integers", tuple(hidden_dims)))
        if time_conditioning not in _TIME_CONDITIONINGS:
            raise unknown_name("time conditioning", time_conditioning, _TIME_CONDITIONINGS)
        self.latent_dim = latent_dim
        self.widths = (latent_dim, *hidden_dims, latent_dim)
        activations.activation(activation)
        self.activation = activation
        self.layers = nn.ModuleList(
            TimeLinear(fan_in, fan_out, time_conditioning) for fan_in, fan_out in pairwise(self.widths)
        )

    def condition(
        self, updates: Sequence[LayerUpdate] | None = None, batch_shape: Sequence[int] = ()
    ) -> ConditionedMLP:
        """Return the dynamics for amortised `updates`, one a layer, whose batch shape is `batch_shape`."""
        if updates is not None and len(updates) != len(self.layers):
            raise InvalidInputError(complaint("updates", f"one a layer, {len(self.layers)}", f"{len(updates)}"))
        return ConditionedMLP(self, updates or [LayerUpdate()] * len(self.layers), Size(batch_shape))


class ConditionedMLP(ConditionedDynamics):
    """`MLPDynamics` with one set of amortised updates."""

    def __init__(self, dynamics: MLPDynamics, updates: Sequence[LayerUpdate], batch_shape: Size) -> None:
        super().__init__(dynamics.latent_dim, batch_shape)
        self._dynamics = dynamics
        self._updates = updates

    def prepare(self, shape: Size, *, with_trace: bool) -> MLPField:
        batch = shape[len(shape) - len(self.batch_shape) :]
        layers = [
            _Layer.prepare(layer, update.flatten(self.batch_shape, batch))
            for layer, update in zip(cast(Iterable[TimeLinear], self._dynamics.layers), self._updates, strict=True)
        ]
        return MLPField(layers, batch, activations.activation(self._dynamics.activation), with_trace=with_trace)

    def dependencies(self) -> Sequence[Tensor]:
        return [*self._dynamics.parameters(), *(tensor for update in self._updates for tensor in update.tensors())]


class _Layer(NamedTuple):
    """One layer, ready for a solve: everything that depends on neither t nor z is done."""

    weight: Tensor  # (out, in)
    shift: Tensor  # (N, 1, out): shared and amortised bias
    time_weight: Tensor | None  # (out,)
    left: Tensor | None  # (N, in, r)
    right: Tensor | None  # (N, r, out)

    @classmethod
    def prepare(cls, layer: TimeLinear, update: LayerUpdate) -> _Layer:
        shift = layer.bias.view(1, 1, -1)
        if update.bias is not None:
            shift = shift + update.bias.unsqueeze(1)
        return cls(layer.weight, shift, layer.time_weight, update.left, update.right)

    def product(self, rows: Tensor) -> Tensor:
        """Multiply `rows (N, R, in)` with the weight and its low-rank update."""
        result = F.linear(rows, self.weight)
        if self.left is None or self.right is None:
            return result
        return torch.baddbmm(result, rows @ self.left, self.right)

    def dense(self) -> Tensor:
        """Return the weight with its update, `(N, in, out)`, or `(in, out)` where all examples share it."""
        if self.left is None or self.right is None:
            return self.weight.mT
        return torch.baddbmm(self.weight.mT, self.left, self.right)

    def offset(self, t: Tensor) -> Tensor:
        return self.shift if self.time_weight is None else self.shift + t * self.time_weight


class MLPField(VectorField):
    """The field of `MLPDynamics` with one set of amortised updates, integrated in the layout `(N, S, D)`.

    N counts the examples, S the samples that share an example's parameters.
    """

    def __init__(self, layers: Sequence[_Layer], batch: Size, activation: Activation, *, with_trace: bool) -> None:
        self._layers = layers
        self._batch = batch
        self._activation = activation
        closed = with_trace and len(layers) <= _CLOSED_TRACE_LAYERS
        self._trace_weight = _closed_trace_weight(layers) if closed else None

    def tensors(self) -> Sequence[Tensor]:
        found = [tensor for layer in self._layers for tensor in layer if tensor is not None]
        return found if self._trace_weight is None else [*found, self._trace_weight]

    def pack(self, z: Tensor, shape: Size) -> Tensor:
        folded = fold_samples(z, self._batch, shape)
        return folded.values.reshape((math.prod(self._batch), *folded.values.shape[len(self._batch) :]))

    def unpack(self, values: Tensor, shape: Size) -> Tensor:
        folded = Folded(values, shape[: len(shape) - len(self._batch)], self._batch)
        return folded.unfold(values.reshape(self._batch + values.shape[1:]))

    def value(self, t: Tensor, z: Tensor) -> Tensor:
        rows = z
        for layer in self._layers[:-1]:
            rows = self._activation(layer.product(rows) + layer.offset(t)).value
        return self._layers[-1].product(rows) + self._layers[-1].offset(t)

    def value_and_quadratic_form(self, t: Tensor, z: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
        dz, tangents = self._value_and_tangents(t, z, probes.movedim(0, 1))
        return dz, (tangents * probes.movedim(0, 1)).sum(-1).movedim(1, 0)

    def value_and_trace(self, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        if self._trace_weight is not None:
            return self._value_and_closed_trace(t, z, self._trace_weight)
        latent_dim = z.shape[-1]
        basis = torch.eye(latent_dim, dtype=z.dtype, device=z.device)
        dz, trace = z, z.new_zeros(z.shape[:-1])
        for chunk in basis.split(_TRACE_CHUNK):
            vectors = chunk[None, :, None].expand(z.shape[0], -1, z.shape[1], -1)
            dz, tangents = self._value_and_tangents(t, z, vectors)
            trace = trace + (tangents * vectors).sum((1, 3))
        return dz, trace

    def _value_and_tangents(self, t: Tensor, z: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Push `z (N, S, D)` and `vectors (N, P, S, D)` through the layers as one stack of rows."""
        count, probes, samples, _ = vectors.shape
        rows = torch.cat([z, vectors.flatten(1, 2)], 1)
        for layer in self._layers[:-1]:
            value, tangents = layer.product(rows).split([samples, probes * samples], 1)
            value, slope = self._activation(value + layer.offset(t))
            tangents = tangents.unflatten(1, (probes, samples)) * slope.unsqueeze(1)
            rows = torch.cat([value, tangents.flatten(1, 2)], 1)
        value, tangents = self._layers[-1].product(rows).split([samples, probes * samples], 1)
        return value + self._layers[-1].offset(t), tangents.view(count, probes, samples, -1)

    def _value_and_closed_trace(self, t: Tensor, z: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return f and its trace from the slopes of the hidden layers and the trace weight."""
        rows, slopes = z, []
        for layer in self._layers[:-1]:
            rows, slope = self._activation(layer.product(rows) + layer.offset(t))
            slopes.append(slope)
        dz = self._layers[-1].product(rows) + self._layers[-1].offset(t)
        if len(slopes) == 1:
            return dz, (slopes[0] * weight).sum(-1)
        return dz, ((slopes[0] @ weight) * slopes[1]).sum(-1)


def _closed_trace_weight(layers: Sequence[_Layer]) -> Tensor:
    r"""Compute what the closed-form trace multiplies the slopes d of the hidden layers with.

    One hidden layer: :math:`\sum_j d_j (A_2 A_1)_{jj}`. Two: :math:`d_1^\top (A_2 \circ (A_3 A_1)^\top) d_2`. Here
    :math:`A_l` is the weight of layer l with its update, in the row-vector convention :math:`x A_l`.
    """
    first, *middle, last = (layer.dense() for layer in layers)
    if middle:
        return middle[0] * (last @ first).mT
    return (first.mT * last).sum(-1).unsqueeze(-2)
