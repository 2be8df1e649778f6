"""A fused network as the field of a solve: gradients accumulate over evaluations, which may be compiled.

Inside a solve nothing of automatic differentiation runs: a tape keeps the activations of each evaluation, `pull_back`
turns cotangents of value and trace into that of z and adds to the gradients of the weights in place.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from vae_flows.cnf.activations import Activation
from vae_flows.cnf.fused_network import FusedNetwork, PulledBack, Rows, Tape
from vae_flows.cnf.layer_terms import Layer, TraceTerms, add_times
from vae_flows.ode.compilation import Compilation
from vae_flows.ode.fields import TapedField, Time

__all__ = ["FusedField"]

_WAITING = 8  # evaluations whose low-rank gradients are taken together


class _LayerGradient:
    """The gradients of one layer's tensors, accumulated over the evaluations of a solve."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._weight = torch.zeros_like(layer.weight)
        # Cotangents of the offset, and the same times t, in the larger of the two shapes: sums wait for the end.
        self._shift = torch.zeros_like(_larger(layer.shift, layer.time_weight))
        self._time_weight = None if layer.time_weight is None else torch.zeros_like(self._shift)
        self._left = None if layer.left is None else torch.zeros_like(layer.left)
        self._right = None if layer.right is None else torch.zeros_like(layer.right)
        self._dense = None if layer.dense is None else torch.zeros_like(layer.dense)
        self._waiting: list[tuple[Tensor, ...]] = []

    def add(self, t: Time, inputs: Rows, outputs: Rows, samples: int) -> None:
        """Add one evaluation.

        Arguments:
            t: Its time.
            inputs: What the layer multiplied.
            outputs: The cotangent of the product.
            samples: S, the number of leading rows that are the cotangent of the offset.
        """
        self._weight.addmm_(_flat(outputs.wide).mT, _flat(inputs.wide))
        of_offset = _summed_to(outputs.wide[:, :samples], self._shift)
        self._shift += of_offset
        if self._time_weight is not None:
            add_times(self._time_weight, t, of_offset)
        if self._left is not None or self._dense is not None:
            factors = (inputs.wide, outputs.wide, inputs.narrow, outputs.narrow)
            self._waiting.append(tuple(factor for factor in factors if factor is not None))
            if len(self._waiting) == _WAITING:
                self._flush()

    def tensors(self) -> list[Tensor]:
        """Return the gradients in the order of the layer's tensors."""
        self._flush()
        found = (self._weight, self._shift, self._time_weight, self._left, self._right, self._dense)
        pairs = zip(found, self._layer, strict=True)
        return [
            _summed_to(gradient, tensor) for gradient, tensor in pairs if gradient is not None and tensor is not None
        ]

    def _flush(self) -> None:
        """Add the per-example gradients of several evaluations at once: each product reads and writes all of them."""
        if not self._waiting:
            return
        inputs, outputs, *narrow = (torch.cat(entries, 1) for entries in zip(*self._waiting, strict=True))
        if self._left is not None and self._right is not None:
            narrow_inputs, narrow_outputs = narrow
            self._left.baddbmm_(inputs.mT, narrow_outputs)
            self._right.baddbmm_(narrow_inputs.mT, outputs)
        if self._dense is not None:
            self._dense.baddbmm_(inputs.mT, outputs)
        self._waiting = []


class _Gradients:
    """The gradients of all tensors of a fused network, accumulated over the evaluations of a solve."""

    def __init__(self, network: FusedNetwork) -> None:
        self._layers = [_LayerGradient(layer) for layer in network.layers]
        self._terms = [torch.zeros_like(tensor) for tensor in network.terms.tensors()]

    def add(self, t: Time, tape: Tape, found: PulledBack, samples: int) -> None:
        """Add one evaluation at time t."""
        for layer, inputs, outputs in zip(self._layers, tape.inputs, found.products, strict=True):
            layer.add(t, inputs, outputs, samples)
        of_terms = (tensor for tensor in found.terms if tensor is not None)
        for total, gradient in zip(self._terms, of_terms, strict=True):
            total += _summed_to(gradient, total)

    def tensors(self) -> list[Tensor]:
        """Return them in the order of the network's tensors."""
        return [tensor for layer in self._layers for tensor in layer.tensors()] + self._terms


class _TimedTape(NamedTuple):
    """The tape of one evaluation and its time."""

    t: Time
    tape: Tape


class FusedField(TapedField):
    """An MLP and its trace, in the layout `(N, S, D)` of N examples with S samples each.

    Arguments:
        layers: The layers, at least two.
        activation: σ.
        terms: How the slopes make the trace.
    """

    def __init__(self, layers: Sequence[Layer], activation: Activation, terms: TraceTerms) -> None:
        self._network = FusedNetwork(tuple(layers), activation, terms)
        self._programs: _Programs | None = None
        self._gradients: _Gradients | None = None

    def compiled(self) -> FusedField:
        field = FusedField(*self._network)
        field._programs = _Programs(self._network)
        return field

    def tensors(self) -> list[Tensor]:
        return self._network.tensors()

    def evaluate(self, t: Time, z: Tensor) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled():  # for automatic differentiation, which no compiled program is made for
            return self._network.evaluate(t, z)[0]
        found = None if self._programs is None else self._programs.rates(t, z)
        return self._network.evaluate(t, z, in_place=True)[0] if found is None else found

    def record(self, t: Time, z: Tensor) -> tuple[tuple[Tensor, Tensor], object]:
        found = None if self._programs is None else self._programs.record(t, z)
        rates, tape = self._network.evaluate(t, z, in_place=True) if found is None else found
        return rates, _TimedTape(t, tape)

    def pull_back(self, tape: object, value: Tensor, integrals: Tensor, *, of_tensors: bool = True) -> Tensor:
        t, activations = cast(_TimedTape, tape)
        arguments = (activations, value, integrals, of_tensors)
        found = None if self._programs is None else self._programs.pull_back(*arguments)
        found = self._network.pull_back(*arguments) if found is None else found
        if of_tensors:
            self._gradients_so_far().add(t, activations, found, value.shape[1])
        return found.z

    def _gradients_so_far(self) -> _Gradients:
        if self._gradients is None:
            self._gradients = _Gradients(self._network)
        return self._gradients

    def collect(self) -> list[Tensor]:
        gradients, self._gradients = self._gradients_so_far(), None
        return gradients.tensors()


def _rates(network: FusedNetwork, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    return network.evaluate(t, z)[0]


def _record(network: FusedNetwork, t: Tensor, z: Tensor) -> tuple[tuple[Tensor, Tensor], Tape]:
    return network.evaluate(t, z)


def _pull_back(network: FusedNetwork, tape: Tape, value: Tensor, integrals: Tensor) -> PulledBack:
    return network.pull_back(tape, value, integrals, True)


def _pull_back_latents(network: FusedNetwork, tape: Tape, value: Tensor, integrals: Tensor) -> PulledBack:
    return network.pull_back(tape, value, integrals, False)


_RATES, _RECORD = Compilation(_rates), Compilation(_record)
_PULL_BACK, _PULL_BACK_LATENTS = Compilation(_pull_back), Compilation(_pull_back_latents)


class _Programs:
    """The compiled forms of a network's evaluations, for one solve; each returns `None` where it cannot be had.

    They see tensors without gradients and of one layout, and times that are tensors: all else would be compiled anew.
    """

    def __init__(self, network: FusedNetwork) -> None:
        layers = tuple(Layer(*map(_detached, layer)) for layer in network.layers)  # pyright: ignore[reportArgumentType]
        terms = TraceTerms(network.terms.probes, *map(_detached, network.terms[1:]))
        self._network = FusedNetwork(layers, network.activation, terms)
        self._key = _structure(self._network), layers[0].weight.device

    def rates(self, t: Time, z: Tensor) -> tuple[Tensor, Tensor] | None:
        return _RATES(*self._key, self._network, _as_tensor(t, z), _plain(z))

    def record(self, t: Time, z: Tensor) -> tuple[tuple[Tensor, Tensor], Tape] | None:
        return _RECORD(*self._key, self._network, _as_tensor(t, z), _plain(z))

    def pull_back(self, tape: Tape, value: Tensor, integrals: Tensor, of_tensors: bool) -> PulledBack | None:
        compilation = _PULL_BACK if of_tensors else _PULL_BACK_LATENTS
        return compilation(*self._key, self._network, tape, _plain(value), _plain(integrals))


def _structure(network: FusedNetwork) -> tuple[Hashable, ...]:
    """Return all that an evaluation depends on but values and the numbers of examples and samples."""
    tensors = [tensor for entry in (*network.layers, network.terms[1:]) for tensor in entry]
    shapes = [tensor if tensor is None else (tensor.dim(), len(tensor) == 1, tensor.shape[-1]) for tensor in tensors]
    weight = network.layers[0].weight
    return (network.activation.name, network.terms.probes, weight.dtype, weight.device, *shapes)


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous()


def _as_tensor(t: Time, z: Tensor) -> Tensor:
    """Return a time as a tensor, filled in where it is needed: to copy a number to a GPU would wait for it."""
    return t.detach().to(z.dtype) if isinstance(t, Tensor) else torch.full((), t, dtype=z.dtype, device=z.device)


def _flat(rows: Tensor) -> Tensor:
    """Return rows `(N, R, H)` as `(N R, H)`."""
    return rows.reshape(-1, rows.shape[-1])


def _summed_to(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor if tensor.shape == like.shape else tensor.sum_to_size(like.shape)


def _larger(tensor: Tensor, other: Tensor | None) -> Tensor:
    return tensor if other is None or tensor.numel() >= other.numel() else other
