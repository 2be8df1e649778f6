r"""MLP dynamics whose layers are shifted, and updated in low rank, by amortised parameters.

Layer l maps x to

.. math:: W_l x + (x U_l) V_l + w_l\, t + c_l + b_l ,

with shared :math:`W_l, w_l, c_l` and amortised, per-example :math:`U_l, V_l, b_l` (van den Berg et al. 2018 for the
idea; Grathwohl et al. 2019, section 4.2 and appendix, for the continuous flow). A field of these
dynamics is evaluated and differentiated by `vae_flows.cnf.fused`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, cast

import torch
from torch import Size, Tensor, nn

from vae_flows.cnf import activations
from vae_flows.cnf.activations import Activation
from vae_flows.cnf.fields import AugmentedField, ConditionedDynamics, Time, VectorField
from vae_flows.cnf.fused import FusedField, Layer, TraceTerms
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

    def prepare(self, update: LayerUpdate) -> Layer:
        """Return the layer for one solve with an update whose batch dimensions are one."""
        shift = self.bias.view(1, 1, -1)
        if update.bias is not None:
            shift = shift + update.bias.unsqueeze(1)
        return Layer(self.weight, shift, self.time_weight, update.left, update.right)


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
        >>> field = dynamics.condition().prepare(torch.Size([5]))
        >>> field.value(0.0, torch.zeros(1, 5, 2)).shape
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

    def prepare(self, shape: Size) -> MLPField:
        batch = shape[len(shape) - len(self.batch_shape) :]
        layers = [
            layer.prepare(update.flatten(self.batch_shape, batch))
            for layer, update in zip(cast(Iterable[TimeLinear], self._dynamics.layers), self._updates, strict=True)
        ]
        return MLPField(layers, batch, activations.activation(self._dynamics.activation))

    def dependencies(self) -> Sequence[Tensor]:
        return [*self._dynamics.parameters(), *(tensor for update in self._updates for tensor in update.tensors())]


class MLPField(VectorField):
    """The field of `MLPDynamics` with one set of amortised updates, integrated in the layout `(N, S, D)`.

    N counts the examples, S the samples that share an example's parameters.
    """

    def __init__(self, layers: Sequence[Layer], batch: Size, activation: Activation) -> None:
        self._layers = layers
        self._batch = batch
        self._activation = activation

    def pack(self, z: Tensor, shape: Size) -> Tensor:
        folded = fold_samples(z, self._batch, shape)
        return folded.values.reshape((math.prod(self._batch), *folded.values.shape[len(self._batch) :]))

    def unpack(self, values: Tensor, shape: Size) -> Tensor:
        folded = Folded(values, shape[: len(shape) - len(self._batch)], self._batch)
        return folded.unfold(values.reshape(self._batch + values.shape[1:]))

    def value(self, t: Time, z: Tensor) -> Tensor:
        rows = z
        for layer in self._layers[:-1]:
            rows = self._activation(layer.product(rows) + layer.offset(t)).value
        return self._layers[-1].product(rows) + self._layers[-1].offset(t)

    def with_probes(self, probes: Tensor) -> AugmentedField:
        return FusedField(self._layers, self._activation, TraceTerms.of_probes(self._layers, probes))

    def with_trace(self) -> AugmentedField:
        if len(self._layers) <= _CLOSED_TRACE_LAYERS:
            return FusedField(self._layers, self._activation, TraceTerms.of_trace(self._layers))
        return _TraceByDirections(self, self._layers)


class _TraceByDirections(AugmentedField):
    """The trace of deep dynamics as the sum of e_dᵀJe_d over the basis, in chunks that bound the memory."""

    def __init__(self, field: MLPField, layers: Sequence[Layer]) -> None:
        self._field = field
        self._tensors = [tensor for layer in layers for tensor in layer.tensors()]

    def tensors(self) -> Sequence[Tensor]:
        return self._tensors

    def evaluate(self, t: Time, z: Tensor) -> tuple[Tensor, Tensor]:
        basis = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
        value, trace = z, z.new_zeros(z.shape[:-1])
        for chunk in basis.split(_TRACE_CHUNK):
            probes = chunk[:, None, None].expand(-1, *z.shape)
            value, mean = self._field.with_probes(probes).evaluate(t, z)
            trace = trace + mean * len(chunk)
        return value, trace
