r"""MLP dynamics as one fused evaluation of value and trace, with a backward pass for whole solves written by hand.

Rows of values and of tangents are stacked, so that each inner layer is one matrix product for both. With layers
:math:`p_l = x_{l-1} A_l + s_l + t w_l`, :math:`x_l = \sigma(p_l)`, slopes :math:`d_l = \sigma'(p_l)` and tangents
:math:`\tau_1 = u`, :math:`\tau_{l+1} = (\tau_l \circ d_l) A_{l+1}`, the quadratic form of a probe ε is
:math:`q = \sum (\tau_{L-1} \circ d_{L-1}) \circ w` with :math:`u = \epsilon A_1` and :math:`w = \epsilon A_L^\top`,
both constant along a solve. The closed-form trace has the same shape: with two hidden layers u = w = 1 and the matrix
:math:`A_2 \circ (A_3 A_1)^\top` between the slopes, with one :math:`w = \operatorname{diag}(A_2 A_1)` alone.

Inside a solve nothing of automatic differentiation runs: a tape keeps the activations of each evaluation, `pull_back`
turns cotangents of value and trace into that of z and adds to the gradients of the weights in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor

from vae_flows.cnf.activations import Activation
from vae_flows.cnf.layer_terms import Layer, TraceTerms, add_times
from vae_flows.ode.fields import TapedField, Time

__all__ = ["FusedField"]

_WAITING = 8  # evaluations whose low-rank gradients are taken together


class Hidden(NamedTuple):
    """What one evaluation leaves of a hidden layer: no more than the backward pass needs, as memory costs time."""

    value: Tensor  # σ(p), (N, S, H), or p where the activation keeps its input
    slope: Tensor  # σ'(p)
    tangents: Tensor | None  # τ, (N, P S, H); ones where there are none


class Input(NamedTuple):
    """What a layer multiplied in one evaluation."""

    rows: Tensor  # (N, R, in): z, or σ(p), and below another hidden layer τ ∘ σ'(p)
    narrow: Tensor | None  # the same times left


class Tape(NamedTuple):
    """The activations of one evaluation."""

    t: Time
    samples: int
    inputs: list[Input]  # one per layer
    hidden: list[Hidden]  # one per hidden layer


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

    def add(self, t: Time, inputs: Input, outputs: Tensor, narrow: Tensor | None, of_pre: Tensor) -> None:
        """Add one evaluation.

        Arguments:
            t: Its time.
            inputs: What the layer multiplied.
            outputs: The cotangent of the product, `(N, R, out)`.
            narrow: That times rightᵀ, where there is one.
            of_pre: The cotangent of the offset, `(N, S, out)`.
        """
        self._weight.addmm_(_flat(outputs).mT, _flat(inputs.rows))
        of_offset = _summed_to(of_pre, self._shift)
        self._shift += of_offset
        if self._time_weight is not None:
            add_times(self._time_weight, t, of_offset)
        if self._left is not None or self._dense is not None:
            factors = (inputs.rows, outputs, inputs.narrow, narrow)
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
    """The gradients of all tensors of a fused field, accumulated over the evaluations of a solve."""

    def __init__(self, layers: Sequence[Layer], terms: TraceTerms) -> None:
        self.layers = [_LayerGradient(layer) for layer in layers]
        self.start, self.inner, self.end = (
            None if tensor is None else torch.zeros_like(tensor) for tensor in (terms.start, terms.inner, terms.end)
        )

    def tensors(self) -> list[Tensor]:
        """Return them in the order of the field's tensors."""
        of_terms = [tensor for tensor in (self.start, self.inner, self.end) if tensor is not None]
        return [tensor for layer in self.layers for tensor in layer.tensors()] + of_terms


class FusedField(TapedField):
    """An MLP and its trace, in the layout `(N, S, D)` of N examples with S samples each.

    Arguments:
        layers: The layers, at least two.
        activation: σ.
        terms: How the slopes make the trace.
    """

    def __init__(self, layers: Sequence[Layer], activation: Activation, terms: TraceTerms) -> None:
        self._layers = layers
        self._activation = activation
        self._terms = terms
        self._gradients: _Gradients | None = None

    def tensors(self) -> list[Tensor]:
        return [tensor for layer in self._layers for tensor in layer.tensors()] + self._terms.tensors()

    def evaluate(self, t: Time, z: Tensor) -> tuple[Tensor, Tensor]:
        if not torch.is_grad_enabled():
            return self.record(t, z)[0]
        terms, samples = self._terms, z.shape[1]
        product, tangents, pushed = self._layers[0].product(z), terms.start, z
        for index, (layer, following) in enumerate(pairwise(self._layers)):
            value, slope = self._activation(product + layer.offset(t))
            pushed = terms.spread(slope, tangents)
            if self._stacks(index):
                rows = torch.cat([value, pushed], 1)
                product, tangents = following.product(rows).split([samples, samples * terms.probes], 1)
            else:
                product = following.product(value)
                tangents = self._mixed(index, pushed)
        return product + self._layers[-1].offset(t), self._trace(pushed)

    def record(self, t: Time, z: Tensor) -> tuple[tuple[Tensor, Tensor], Tape]:
        """Evaluate as `evaluate` does, in place where it can be, and return the tape as well."""
        terms, samples, inputs, hidden = self._terms, z.shape[1], [], []
        product, narrow = self._layers[0].product_by_rank(z)
        rows, tangents, pushed = z, terms.start, z
        for index, (layer, following) in enumerate(pairwise(self._layers)):
            inputs.append(Input(rows, narrow))
            stacked = self._stacks(index)
            pre = layer.add_offset(product, t)
            rows = pre.new_empty((pre.shape[0], samples * (1 + stacked * terms.probes), pre.shape[2]))
            value = rows[:, :samples]
            slope = self._activation.value_into(pre, value)
            pushed = terms.spread(slope, tangents, rows[:, samples:] if stacked else None)
            hidden.append(Hidden(pre if self._activation.keeps_input else value, slope, tangents))
            product, narrow = following.product_by_rank(rows)
            if stacked:
                product, tangents = product.split([samples, samples * terms.probes], 1)
            else:
                tangents = self._mixed(index, pushed)
        inputs.append(Input(rows, narrow))
        trace = self._trace(pushed)
        return (self._layers[-1].add_offset(product, t), trace), Tape(t, samples, inputs, hidden)

    def _stacks(self, index: int) -> bool:
        """Whether tangents pass, with the values, from hidden layer `index` through the next layer."""
        return index < len(self._layers) - 2 and self._terms.inner is None

    def _mixed(self, index: int, pushed: Tensor) -> Tensor | None:
        """Return the tangents above hidden layer `index` where a matrix stands between the slopes of two layers."""
        return pushed @ self._terms.inner if index == 0 and self._terms.inner is not None else None

    def _trace(self, pushed: Tensor) -> Tensor:
        end = self._terms.end
        if end is not None and self._terms.start is None:  # the closed form: one product with a vector
            return pushed @ end.mT
        weighted = pushed if end is None else pushed * end
        return self._terms.gather(weighted.sum(-1, keepdim=True))

    def pull_back(self, tape: object, value: Tensor, integrals: Tensor, *, of_tensors: bool = True) -> Tensor:
        tape = cast(Tape, tape)
        terms = self._terms
        gradients = self._gradients_so_far() if of_tensors else None
        of_value, narrow = self._layers[-1].transposed_product_by_rank(value)
        of_pushed = integrals if terms.probes == 1 else integrals.repeat(1, terms.probes, 1)
        if gradients is not None:
            gradients.layers[-1].add(tape.t, tape.inputs[-1], value, narrow, value)
            if gradients.end is not None:
                gradients.end += _summed_to(self._pushed(tape, -1) * of_pushed, gradients.end)
        if terms.end is not None:
            of_pushed = of_pushed * terms.end
        for index in reversed(range(len(tape.hidden))):
            of_value, of_pushed = self._pull_back_layer(tape, index, of_value, of_pushed, gradients)
        return of_value

    def _pull_back_layer(
        self, tape: Tape, index: int, of_value: Tensor, of_pushed: Tensor, gradients: _Gradients | None
    ) -> tuple[Tensor, Tensor]:
        """Go from the cotangents of σ(p) and τ ∘ σ'(p) of hidden layer `index` to those of the layer below.

        At the first layer these are the cotangents of z and, unused, of the first tangents.
        """
        terms, samples, hidden = self._terms, tape.samples, tape.hidden[index]
        stacked = index > 0 and self._stacks(index - 1)
        rows = of_value.new_empty((of_value.shape[0], samples * (1 + stacked * terms.probes), of_value.shape[2]))
        of_pre = rows[:, :samples]
        of_slope = of_pushed if hidden.tangents is None else terms.gather(of_pushed * hidden.tangents)
        self._activation.pull_back(hidden.value, hidden.slope, of_value, of_slope, of_pre)
        of_tangents = terms.spread(hidden.slope, of_pushed, rows[:, samples:] if stacked else None)
        below, narrow = self._layers[index].transposed_product_by_rank(rows)
        if gradients is not None:
            gradients.layers[index].add(tape.t, tape.inputs[index], rows, narrow, of_pre)
        if stacked:
            of_value, of_pushed = below.split([samples, samples * terms.probes], 1)
            return of_value, of_pushed
        if index and terms.inner is not None:
            if gradients is not None and gradients.inner is not None:
                gradients.inner += _outer_sum(self._pushed(tape, 0), of_tangents, terms.inner.dim())
            return below, of_tangents @ terms.inner.mT
        if gradients is not None and gradients.start is not None:
            gradients.start += of_tangents
        return below, of_tangents

    def _pushed(self, tape: Tape, index: int) -> Tensor:
        """Return τ ∘ σ'(p) of a hidden layer, computed again: to keep it is dearer."""
        hidden = tape.hidden[index]
        return self._terms.spread(hidden.slope, hidden.tangents)

    def _gradients_so_far(self) -> _Gradients:
        if self._gradients is None:
            self._gradients = _Gradients(self._layers, self._terms)
        return self._gradients

    def collect(self) -> list[Tensor]:
        gradients, self._gradients = self._gradients_so_far(), None
        return gradients.tensors()


def _flat(rows: Tensor) -> Tensor:
    """Return rows `(N, R, H)` as `(N R, H)`."""
    return rows.reshape(-1, rows.shape[-1])


def _summed_to(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor if tensor.shape == like.shape else tensor.sum_to_size(like.shape)


def _larger(tensor: Tensor, other: Tensor | None) -> Tensor:
    return tensor if other is None or tensor.numel() >= other.numel() else other


def _outer_sum(pushed: Tensor, cotangents: Tensor, dim: int) -> Tensor:
    """Return the sum of outer products over samples, and over examples too where they share the matrix."""
    if dim == 2:
        pushed, cotangents = pushed.flatten(0, 1), cotangents.flatten(0, 1)
    return pushed.mT @ cotangents
