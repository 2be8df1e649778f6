r"""MLP dynamics whose layers are shifted, and updated, by amortised parameters.

Layer l maps x to :math:`W_l(t) x + c_l(t) + (x U_l) V_l + b_l`, with shared :math:`W_l, c_l`, which depend on time as
`vae_flows.cnf.layers` lists, and amortised, per-example :math:`U_l, V_l, b_l` (van den Berg et al. 2018 for the idea;
Grathwohl et al. 2019, section 4.2 and appendix, for the continuous flow). A field of these dynamics is evaluated and
differentiated by `vae_flows.cnf.fused`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
from torch import Size, Tensor, nn

from vae_flows.checks import checked, require_sample_shape
from vae_flows.cnf.activations import Activation, activation, swish
from vae_flows.cnf.fields import ConditionedDynamics, TraceByDirections, VectorField
from vae_flows.cnf.fused import FusedField
from vae_flows.cnf.hooks import make_hooked_weights
from vae_flows.cnf.layer_terms import Layer, TraceTerms
from vae_flows.cnf.layers import LayerUpdate, TimeConditioning, TimeLinear, make_layer
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.modules import bound
from vae_flows.ode.fields import AugmentedField, Time
from vae_flows.persistence.configuration import register_class
from vae_flows.tensors.shapes import Folded, fold_samples

__all__ = ["ConditionedMLP", "MLPDynamics", "MLPField"]

_CLOSED_TRACE_LAYERS = 3  # up to two hidden layers the trace has a closed form of O(H²) per example


@register_class("MLPDynamics")
class MLPDynamics(nn.Module):
    """The shared part of dz/dt = f(t, z; updates): an MLP from D to D.

    Arguments:
        latent_dim: D.
        hidden_dims: Widths of the hidden layers, at least one.
        activation: `softplus`, `tanh`, `silu`, `elu`, `sine`, or `swish`, x σ(β x) with β learned.
        time_conditioning: How the layers depend on time: `ignore`, `concat`, `squash`, `concat_squash`, `blend` or
            `hyper`. With `ignore` and `concat` the weights are constant along a solve, which is the fast case.

    Raises:
        InvalidInputError: No hidden layer or a width below one.
        UnknownNameError: Unknown activation or time conditioning.

    Example:
        >>> dynamics = MLPDynamics(2, (16,), activation="tanh")
        >>> field = dynamics.condition().prepare(torch.Size([5]))
        >>> field.value(0.0, torch.zeros(1, 5, 2)).shape
        torch.Size([1, 5, 2])
    """

    @checked
    def __init__(
        self,
        latent_dim: int,
        hidden_dims: Sequence[int] = (64, 64),
        *,
        activation: str = "softplus",
        time_conditioning: TimeConditioning = "concat",
    ) -> None:
        super().__init__()
        require_positive("MLPDynamics", latent_dim=latent_dim)
        if not hidden_dims or any(not isinstance(width, int) or width < 1 for width in hidden_dims):
            raise InvalidInputError(complaint("hidden_dims", "one or more positive integers", tuple(hidden_dims)))
        self.latent_dim = latent_dim
        self.widths = (latent_dim, *hidden_dims, latent_dim)
        self.activation_name = activation
        self.time_conditioning = time_conditioning
        self.swish_beta = nn.Parameter(torch.ones(())) if activation == "swish" else None
        self.activation()
        self.layers = nn.ModuleList(
            make_layer(time_conditioning, fan_in, fan_out) for fan_in, fan_out in pairwise(self.widths)
        )

    def get_config(self) -> Mapping[str, Any]:
        """Return the constructor's arguments."""
        return {
            "latent_dim": self.latent_dim,
            "hidden_dims": self.widths[1:-1],
            "activation": self.activation_name,
            "time_conditioning": self.time_conditioning,
        }

    def activation(self) -> Activation:
        """Return σ."""
        return activation(self.activation_name) if self.swish_beta is None else swish(self.swish_beta)

    def condition(
        self, updates: Sequence[LayerUpdate] | None = None, batch_shape: Sequence[int] = ()
    ) -> ConditionedMLP:
        """Return the dynamics for amortised `updates`, one per layer, whose batch shape is `batch_shape`.

        Raises:
            InvalidInputError: There are more or fewer updates than layers, or an argument is of another type.
        """
        updates = [LayerUpdate()] * len(self.layers) if updates is None else updates
        return ConditionedMLP(self, updates, batch_shape)


class ConditionedMLP(ConditionedDynamics):
    """`MLPDynamics` with one set of amortised updates."""

    @checked
    def __init__(self, dynamics: MLPDynamics, updates: Sequence[LayerUpdate], batch_shape: Sequence[int]) -> None:
        require_sample_shape("ConditionedMLP batch_shape", batch_shape)
        if len(updates) != len(dynamics.layers):
            raise InvalidInputError(complaint("updates", f"one per layer, {len(dynamics.layers)}", f"{len(updates)}"))
        super().__init__(dynamics.latent_dim, Size(batch_shape))
        self._dynamics = bound(dynamics)
        self._updates = updates
        types = {tensor.dtype for update in updates for tensor in update.tensors()}
        if types - {self.dtype}:
            raise InvalidInputError(
                complaint("updates of MLPDynamics", f"tensors of {self.dtype}", sorted(map(str, types)))
            )

    @property
    def dtype(self) -> torch.dtype:
        return next(self._dynamics.parameters()).dtype

    @property
    def has_cheap_trace(self) -> bool:
        # In closed form, of weights that all examples share and that stay the same along a solve.
        layers = list(cast(Iterable[TimeLinear], self._dynamics.layers))
        return (
            len(layers) <= _CLOSED_TRACE_LAYERS
            and not any(layer.depends_on_time_in_weight for layer in layers)
            and all(update.keeps_weight for update in self._updates)
        )

    def prepare(self, shape: Size) -> MLPField:
        make_hooked_weights(self._dynamics)
        batch = shape[len(shape) - len(self.batch_shape) :]
        parts = [
            _Part(layer, update.plain().flatten(self.batch_shape, batch))
            for layer, update in zip(cast(Iterable[TimeLinear], self._dynamics.layers), self._updates, strict=True)
        ]
        return MLPField(parts, batch, self._dynamics.activation())

    def dependencies(self) -> Sequence[Tensor]:
        return [*self._dynamics.parameters(), *(tensor for update in self._updates for tensor in update.tensors())]


class _Part(NamedTuple):
    """A shared layer and its update, whose batch dimensions are one."""

    layer: TimeLinear
    update: LayerUpdate


class MLPField(VectorField):
    """The field of `MLPDynamics` with one set of amortised updates, integrated in the layout `(N, S, D)`.

    N counts the examples, S the samples that share an example's parameters.
    """

    def __init__(self, parts: Sequence[_Part], batch: Size, activation: Activation) -> None:
        self._parts = parts
        self._batch = batch
        self._activation = activation
        constant = not any(layer.depends_on_time_in_weight for layer, _ in parts)
        self._constant = [layer.constant(update) for layer, update in parts] if constant else None

    @property
    def takes_each_time(self) -> bool:
        return self._constant is not None

    @property
    def narrowest(self) -> int:
        """Index of the narrowest hidden layer, counted from 0; the last one of several."""
        widths = [layer.out_features for layer, _ in self._parts[:-1]]
        return max(index for index, width in enumerate(widths) if width == min(widths))

    def pack(self, z: Tensor, shape: Size) -> Tensor:
        folded = fold_samples(z, self._batch, shape)
        return folded.values.reshape((math.prod(self._batch), *folded.values.shape[len(self._batch) :]))

    def unpack(self, values: Tensor, shape: Size) -> Tensor:
        folded = Folded(values, shape[: len(shape) - len(self._batch)], self._batch)
        return folded.unfold(values.reshape(self._batch + values.shape[1:]))

    def tensors(self) -> Sequence[Tensor]:
        if self._constant is not None:
            of_layers = [tensor for layer in self._constant for tensor in layer.tensors()]
            return [*of_layers, *self._activation.parameters]
        shared = [parameter for layer, _ in self._parts for parameter in layer.parameters()]
        of_updates = [tensor for _, update in self._parts for tensor in update.tensors()]
        return [*shared, *of_updates, *self._activation.parameters]

    def value(self, t: Time, z: Tensor) -> Tensor:
        *hidden, last = self.layers_at(t)
        for layer in hidden:
            z = self._activation(layer.product(z) + layer.offset(t)).value
        return last.product(z) + last.offset(t)

    def with_probes(self, probes: Tensor) -> AugmentedField:
        return self._with_terms(lambda layers: TraceTerms.of_probes(layers, probes))

    def with_trace(self) -> AugmentedField:
        if len(self._parts) <= _CLOSED_TRACE_LAYERS:
            return self._with_terms(TraceTerms.of_trace)
        return TraceByDirections(self)

    def bottleneck_width(self) -> int:
        index, hidden = self.narrowest, len(self._parts) - 1
        if index < hidden - 1 and hidden > 2:
            raise InvalidInputError(
                complaint(
                    "bottleneck estimator",
                    "the narrowest hidden layer last, or two hidden layers",
                    f"widths {[layer.out_features for layer, _ in self._parts[:-1]]}",
                    "Order hidden_dims, or use divergence='hutchinson'.",
                )
            )
        return self._parts[index].layer.out_features

    def with_bottleneck_probes(self, probes: Tensor) -> AugmentedField:
        index = self.narrowest
        return self._with_terms(lambda layers: TraceTerms.of_bottleneck(layers, probes, index))

    def layers_at(self, t: Time) -> Sequence[Layer]:
        """Return the layers as they are at time t."""
        if self._constant is not None:
            return self._constant
        return [layer.frozen(t, update) for layer, update in self._parts]

    def _with_terms(self, make_terms: Callable[[Sequence[Layer]], TraceTerms]) -> AugmentedField:
        if self._constant is None or self._activation.parameters:
            return _RefrozenField(self, self._activation, make_terms)
        return FusedField(self._constant, self._activation, make_terms(self._constant))


class _RefrozenField(AugmentedField):
    """A field whose weights, or whose activation's parameters, leave the backward pass to automatic differentiation.

    Weights that depend on time are computed for each evaluation, and with them what is else constant along a solve.
    """

    def __init__(
        self, field: MLPField, activation: Activation, make_terms: Callable[[Sequence[Layer]], TraceTerms]
    ) -> None:
        self._field = field
        self._activation = activation
        self._make_terms = make_terms

    def tensors(self) -> Sequence[Tensor]:
        return self._field.tensors()

    def evaluate(self, t: Time, z: Tensor) -> tuple[Tensor, Tensor]:
        layers = self._field.layers_at(t)
        return FusedField(layers, self._activation, self._make_terms(layers)).evaluate(t, z)
