"""Layers and trace terms as one solve needs them: prepared once, constant along it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vae_flows.ode.fields import Time

__all__ = ["Layer", "TraceTerms", "add_times"]


class Layer(NamedTuple):
    """One layer, ready for a solve: x, t -> x A + shift + t · time_weight, with A = weightᵀ + left · right + dense."""

    weight: Tensor  # (out, in)
    shift: Tensor  # (N or 1, 1, out)
    time_weight: Tensor | None = None  # (N or 1, 1, out)
    left: Tensor | None = None  # (N, in, r)
    right: Tensor | None = None  # (N, r, out)
    dense: Tensor | None = None  # (N, in, out)

    def product(self, rows: Tensor) -> Tensor:
        """Return `rows (N, R, in)` times A."""
        return self.product_by_rank(rows)[0]

    def product_by_rank(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return `rows (N, R, in)` times A and, on the way, times left."""
        result, narrow = F.linear(rows, self.weight), None
        if self.left is not None and self.right is not None:
            narrow = rows @ self.left
            result = _plus_product(result, narrow, self.right)
        return (result if self.dense is None else _plus_product(result, rows, self.dense)), narrow

    def transposed_product(self, rows: Tensor) -> Tensor:
        """Return `rows (N, R, out)` times Aᵀ."""
        return self.transposed_product_by_rank(rows)[0]

    def transposed_product_by_rank(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return `rows (N, R, out)` times Aᵀ and, on the way, times rightᵀ."""
        result, narrow = rows @ self.weight, None
        if self.left is not None and self.right is not None:
            narrow = rows @ self.right.mT
            result = _plus_product(result, narrow, self.left.mT)
        return (result if self.dense is None else _plus_product(result, rows, self.dense.mT)), narrow

    def matrix(self) -> Tensor:
        """Return A, `(N, in, out)`, or `(in, out)` where all examples share it."""
        result = self.weight.mT
        if self.left is not None and self.right is not None:
            result = torch.baddbmm(result, self.left, self.right)
        return result if self.dense is None else result + self.dense

    def offset(self, t: Time) -> Tensor:
        """Return shift + t · time_weight."""
        return self.shift if self.time_weight is None else self.shift + t * self.time_weight

    def add_offset(self, product: Tensor, t: Time) -> Tensor:
        """Add shift + t · time_weight to `product (N, R, out)` in place."""
        product += self.shift
        return product if self.time_weight is None else add_times(product, t, self.time_weight)

    def tensors(self) -> list[Tensor]:
        """Return those tensors that there are."""
        return [tensor for tensor in self if tensor is not None]


class TraceTerms(NamedTuple):
    """What turns the slopes of the hidden layers into the trace or its estimate; all of it constant along a solve.

    Arguments:
        probes: P, the number of tangents of a latent.
        start: u, the first tangents `(N, P S, H)`; ones where `None`.
        inner: The matrix between the slopes of two hidden layers; where `None`, tangents pass through the layers.
        end: w, what the last tangents are multiplied with; ones where `None`.
    """

    probes: int = 1
    start: Tensor | None = None
    inner: Tensor | None = None
    end: Tensor | None = None

    @classmethod
    def of_probes(cls, layers: Sequence[Layer], probes: Tensor) -> TraceTerms:
        """Return the terms of the mean quadratic form of `probes (P, N, S, D)`."""
        rows = probes.movedim(0, 1).flatten(1, 2)
        # Dividing here, once per solve, makes the sum over probes the mean.
        return cls(len(probes), layers[0].product(rows), None, layers[-1].transposed_product(rows) / len(probes))

    @classmethod
    def of_bottleneck(cls, layers: Sequence[Layer], probes: Tensor, index: int) -> TraceTerms:
        """Return the terms of tr(∂g/∂h ∂h/∂z) = tr(∂h/∂z ∂g/∂h), estimated by `probes (P, N, S, H)` of a layer's width.

        h are the values of hidden layer `index`, f = g ∘ h. Noise at the last hidden layer passes through the output
        layer and the first layer, which is constant, and then as any tangent does. With two hidden layers, noise at the
        first one leaves a matrix between the slopes.
        """
        rows = probes.movedim(0, 1).flatten(1, 2)
        if index == len(layers) - 2:
            return cls(len(probes), layers[0].product(layers[-1].product(rows)), None, rows / len(probes))
        first, middle, last = layers
        return cls(len(probes), rows, (last.matrix() @ first.matrix()).mT, middle.product(rows) / len(probes))

    @classmethod
    def of_trace(cls, layers: Sequence[Layer]) -> TraceTerms:
        """Return the terms of the closed form with one or two hidden layers."""
        first, *middle, last = (layer.matrix() for layer in layers)
        if middle:
            return cls(inner=middle[0] * (last @ first).mT)
        return cls(end=(first.mT * last).sum(-1).unsqueeze(-2))

    def tensors(self) -> list[Tensor]:
        """Return those tensors that there are."""
        return [tensor for tensor in (self.start, self.inner, self.end) if tensor is not None]

    def spread(self, slope: Tensor, tangents: Tensor | None, out: Tensor | None = None) -> Tensor:
        """Return tangents ∘ slope, for `slope (N, S, H)` and `tangents (N, P S, H)`; written into `out` if given."""
        if tangents is None:
            return slope
        if self.probes == 1:
            return torch.mul(tangents, slope, out=out)
        split = (self.probes, slope.shape[1])
        of_probes = None if out is None else out.unflatten(1, split)
        return torch.mul(tangents.unflatten(1, split), slope.unsqueeze(1), out=of_probes).flatten(1, 2)

    def gather(self, rows: Tensor) -> Tensor:
        """Return the sum over probes of `rows (N, P S, …)`, `(N, S, …)`."""
        return rows if self.probes == 1 else rows.unflatten(1, (self.probes, -1)).sum(1)


def add_times(total: Tensor, t: Time, tensor: Tensor) -> Tensor:
    """Add t · tensor to `total` in place; one operation where t is a number, as it is in this library's own solves."""
    return total.add_(t * tensor) if isinstance(t, Tensor) else total.add_(tensor, alpha=t)


def _plus_product(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return total + left @ right, in place where nothing is differentiated or compiled."""
    in_place = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
    return total.baddbmm_(left, right) if in_place else torch.baddbmm(total, left, right)
