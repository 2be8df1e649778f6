r"""MLP dynamics as one fused evaluation of value and trace, and its pull-back: functions of tensors, without memory.

Rows of values and of tangents are stacked, so that each inner layer is one matrix product for both. With layers
:math:`p_l = x_{l-1} A_l + s_l + t w_l`, :math:`x_l = \sigma(p_l)`, slopes :math:`d_l = \sigma'(p_l)` and tangents
:math:`\tau_1 = u`, :math:`\tau_{l+1} = (\tau_l \circ d_l) A_{l+1}`, the quadratic form of a probe ε is
:math:`q = \sum (\tau_{L-1} \circ d_{L-1}) \circ w` with :math:`u = \epsilon A_1` and :math:`w = \epsilon A_L^\top`,
both constant along a solve. The closed-form trace has the same shape: with two hidden layers u = w = 1 and the matrix
:math:`A_2 \circ (A_3 A_1)^\top` between the slopes, with one :math:`w = \operatorname{diag}(A_2 A_1)` alone.

A tape keeps the activations of an evaluation. From it `pull_back` finds the cotangent of z for those of value and
trace, and what the gradients of the tensors are made of.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from vae_flows.cnf.activations import Activation
from vae_flows.cnf.layer_terms import Layer, TraceTerms
from vae_flows.ode.fields import Time

__all__ = ["FusedNetwork", "Hidden", "PulledBack", "Rows", "Tape", "TraceGradients"]


class Rows(NamedTuple):
    """What a layer multiplied in one evaluation, or the cotangent of its product."""

    wide: Tensor  # (N, R, in): z, or σ(p), and below another hidden layer τ ∘ σ'(p); of cotangents (N, R, out)
    narrow: Tensor | None  # the same times left, or times rightᵀ


class Hidden(NamedTuple):
    """What one evaluation leaves of a hidden layer: no more than the backward pass needs, as memory costs time."""

    pre: Tensor | None  # p, (N, S, H), where the activation keeps its input
    slope: Tensor  # σ'(p)
    tangents: Tensor | None  # τ, (N, P S, H); ones where there are none


class Tape(NamedTuple):
    """The activations of one evaluation."""

    inputs: list[Rows]  # one per layer
    hidden: list[Hidden]  # one per hidden layer


class TraceGradients(NamedTuple):
    """Cotangents of the tensors of `TraceTerms`, of those that there are."""

    start: Tensor | None = None
    inner: Tensor | None = None
    end: Tensor | None = None


class PulledBack(NamedTuple):
    """What the cotangents of one evaluation come to.

    Arguments:
        z: The cotangent of z, `(N, S, D)`.
        products: Those of the product of each layer. The first S rows are the cotangent of its offset.
        terms: Those of the terms of the trace.
    """

    z: Tensor
    products: list[Rows]
    terms: TraceGradients


class FusedNetwork(NamedTuple):
    """An MLP and its trace, in the layout `(N, S, D)` of N examples with S samples each.

    Arguments:
        layers: The layers, at least two.
        activation: σ.
        terms: How the slopes make the trace.
    """

    layers: tuple[Layer, ...]
    activation: Activation
    terms: TraceTerms

    def tensors(self) -> list[Tensor]:
        """Return all tensors, layer by layer, then those of the trace."""
        return [tensor for layer in self.layers for tensor in layer.tensors()] + self.terms.tensors()

    def evaluate(self, t: Time, z: Tensor, *, in_place: bool = False) -> tuple[tuple[Tensor, Tensor], Tape]:
        """Return f and the trace, `(N, S, D)` and `(N, S, 1)`, and the tape.

        Arguments:
            t: Time.
            z: Latents, `(N, S, D)`.
            in_place: Whether layers write into what is there, which is faster and not differentiable.
        """
        terms, samples = self.terms, z.shape[1]
        inputs: list[Rows] = []
        hidden: list[Hidden] = []
        product, narrow = self.layers[0].product_by_rank(z)
        rows, tangents, pushed = z, terms.start, z
        for index, (layer, following) in enumerate(pairwise(self.layers)):
            inputs.append(Rows(rows, narrow))
            stacked = self._stacks(index)
            if in_place:
                pre = layer.add_offset(product, t)
                rows = pre.new_empty((pre.shape[0], samples * (1 + stacked * terms.probes), pre.shape[2]))
                slope = self.activation.value_into(pre, rows[:, :samples])
                pushed = terms.spread(slope, tangents, rows[:, samples:] if stacked else None)
            else:
                pre = product + layer.offset(t)
                rows, slope = self.activation(pre)
                pushed = terms.spread(slope, tangents)
                rows = torch.cat([rows, pushed], 1) if stacked else rows
            hidden.append(Hidden(pre if self.activation.keeps_input else None, slope, tangents))
            product, narrow = following.product_by_rank(rows)
            if stacked:
                product, tangents = product.split([samples, samples * terms.probes], 1)
            else:
                tangents = self._mixed(index, pushed)
        inputs.append(Rows(rows, narrow))
        last = self.layers[-1]
        value = last.add_offset(product, t) if in_place else product + last.offset(t)
        return (value, self._trace(pushed)), Tape(inputs, hidden)

    def pull_back(self, tape: Tape, value: Tensor, integrals: Tensor, of_tensors: bool) -> PulledBack:
        """Return the cotangents for those of f and the trace.

        Arguments:
            tape: Of the evaluation.
            value: Cotangent of f, `(N, S, D)`.
            integrals: Cotangent of the trace, `(N, S, 1)`.
            of_tensors: Whether those of the terms of the trace are wanted.
        """
        terms, last = self.terms, len(tape.hidden) - 1
        of_value, narrow = self.layers[-1].transposed_product_by_rank(value)
        products = [Rows(value, narrow)]
        of_start = of_inner = of_end = None
        of_pushed = integrals if terms.probes == 1 else integrals.repeat(1, terms.probes, 1)
        if terms.end is not None:
            if of_tensors:
                of_end = self._pushed(tape, last) * of_pushed
            of_pushed = of_pushed * terms.end
        for index in range(last, -1, -1):
            rows, of_tangents = self._pull_back_activation(tape, index, of_value, of_pushed)
            of_value, narrow = self.layers[index].transposed_product_by_rank(rows)
            products.append(Rows(rows, narrow))
            if index and self._stacks(index - 1):
                of_value, of_pushed = of_value.split([value.shape[1], of_value.shape[1] - value.shape[1]], 1)
            elif index and terms.inner is not None:
                if of_tensors:
                    of_inner = _outer_sum(self._pushed(tape, 0), of_tangents, terms.inner.dim())
                of_pushed = of_tangents @ terms.inner.mT
            elif of_tensors and terms.start is not None:
                of_start = of_tangents
        return PulledBack(of_value, products[::-1], TraceGradients(of_start, of_inner, of_end))

    def _pull_back_activation(
        self, tape: Tape, index: int, of_value: Tensor, of_pushed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Go from the cotangents of σ(p) and τ ∘ σ'(p) of a hidden layer to that of its product, and to that of τ."""
        terms, hidden, samples = self.terms, tape.hidden[index], of_value.shape[1]
        stacked = index > 0 and self._stacks(index - 1)
        of_slope = of_pushed if hidden.tangents is None else terms.gather(of_pushed * hidden.tangents)
        kept = tape.inputs[index + 1].wide[:, :samples] if hidden.pre is None else hidden.pre
        if torch.compiler.is_compiling():  # a compiler lays out by itself what is put together
            of_pre = self.activation.pull_back(kept, hidden.slope, of_value, of_slope, None)
            of_tangents = terms.spread(hidden.slope, of_pushed)
            return (torch.cat([of_pre, of_tangents], 1) if stacked else of_pre), of_tangents
        rows = of_value.new_empty((of_value.shape[0], samples * (1 + stacked * terms.probes), of_value.shape[2]))
        self.activation.pull_back(kept, hidden.slope, of_value, of_slope, rows[:, :samples])
        return rows, terms.spread(hidden.slope, of_pushed, rows[:, samples:] if stacked else None)

    def _stacks(self, index: int) -> bool:
        """Whether tangents pass, with the values, from hidden layer `index` through the next layer."""
        return index < len(self.layers) - 2 and self.terms.inner is None

    def _mixed(self, index: int, pushed: Tensor) -> Tensor | None:
        """Return the tangents above hidden layer `index` where a matrix stands between the slopes of two layers."""
        return pushed @ self.terms.inner if index == 0 and self.terms.inner is not None else None

    def _trace(self, pushed: Tensor) -> Tensor:
        end = self.terms.end
        if end is not None and self.terms.start is None:  # the closed form: one product with a vector
            return pushed @ end.mT
        weighted = pushed if end is None else pushed * end
        return self.terms.gather(weighted.sum(-1, keepdim=True))

    def _pushed(self, tape: Tape, index: int) -> Tensor:
        """Return τ ∘ σ'(p) of a hidden layer, computed again: to keep it is dearer."""
        hidden = tape.hidden[index]
        return self.terms.spread(hidden.slope, hidden.tangents)


def _outer_sum(pushed: Tensor, cotangents: Tensor, dim: int) -> Tensor:
    """Return the sum of outer products over samples, and over examples too where they share the matrix."""
    if dim == 2:
        pushed, cotangents = pushed.flatten(0, 1), cotangents.flatten(0, 1)
    return pushed.mT @ cotangents
