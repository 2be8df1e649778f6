"""Cost of the change of log-density against the dimension, and of products with the Jacobian.

| method | one evaluation, an example | in the literature |
|---|---|---|
| `log-determinant` | of a dense Jacobian that is given: the change of variables of any map | O(DH + D³) |
| `brute force` | trace by D vector-Jacobian products | O(DH + D²) |
| `Hutchinson` | one directional derivative | O(DH + D) |
| `closed form` | the exact trace of two hidden layers | none |

(Grathwohl et al. 2019, table 1.) What does not depend on z is prepared once a solve, and is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from torch import Size as Shape
from torch import Tensor

from experiments.speed.measure import interleave
from experiments.speed.problems import Size
from experiments.speed.records import Products, ScalingPoint
from vae_flows.cnf import (
    BruteForceDivergence,
    Divergence,
    ExactDivergence,
    HutchinsonDivergence,
    LayerUpdate,
    MLPDynamics,
    VectorField,
)

__all__ = [
    "ASYMPTOTIC",
    "METHODS",
    "SCALING_THREADS",
    "loglog_slope",
    "make_evaluation",
    "make_field",
    "measure_products",
    "measure_scaling",
]


Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]
ASYMPTOTIC = 128
"""Dimensions from which on slopes are fitted: below, the hidden layers are most of the cost."""

SCALING_THREADS = 1
"""With more, PyTorch (seen with 2.15) fails or hangs in the LU factorisation of a batch of large matrices on the CPU,
on which the log-determinant rests (issue 141358 of pytorch/pytorch)."""

_TIME = 0.25
_LOG_DETERMINANT = "log-determinant"
_DIVERGENCES: Mapping[str, Divergence] = {
    "brute force": BruteForceDivergence(),
    "Hutchinson": HutchinsonDivergence(),
    "closed form": ExactDivergence(),
}
METHODS = (_LOG_DETERMINANT, *_DIVERGENCES)


def measure_scaling(dim: int, hidden_dims: tuple[int, ...], *, batch: int, rounds: int) -> list[ScalingPoint]:
    """Time one evaluation of value and change of log-density at a dimension, by each method.

    Arguments:
        dim: D.
        hidden_dims: Widths of the hidden layers.
        batch: Examples.
        rounds: Interleaved rounds, after one that is not counted.
    """
    field, z = make_field(dim, hidden_dims, batch), torch.randn(batch, 1, dim)
    cotangents = torch.randn(batch, 1, dim), torch.randn(batch, 1)
    evaluations = {name: make_evaluation(name, field, z) for name in METHODS}
    alone = _medians({name: evaluation.forward(z) for name, evaluation in evaluations.items()}, rounds)
    whole = {name: evaluation.differentiated(z, cotangents) for name, evaluation in evaluations.items()}
    together = _medians(whole, rounds)
    return [ScalingPoint(name, dim, alone[name], together[name]) for name in METHODS]


def measure_products(size: Size, *, rounds: int) -> Products:
    """Time Jacobian-vector and vector-Jacobian products of f beside f, at a batch of the given size.

    Arguments:
        size: Widths and batch; of its amortisation the biases alone.
        rounds: Interleaved rounds, after one that is not counted.
    """
    field = make_field(size.latent_dim, size.hidden_dims, size.batch)
    z, vector = torch.randn(2, size.batch, 1, size.latent_dim)
    fused = field.with_probes(vector.unsqueeze(0))
    steps = {
        "f": _without_gradient(lambda: field.value(_TIME, z)),
        "Jacobian-vector product": _without_gradient(
            lambda: torch.func.jvp(lambda x: field.value(_TIME, x), (z,), (vector,))
        ),
        "vector-Jacobian product": lambda: _vector_jacobian(field, z, vector),
        "f and εᵀJε, fused": _without_gradient(lambda: fused.evaluate(_TIME, z)),
    }
    seconds = {name: times[1:] for name, times in interleave(steps, rounds + 1).items()}
    value = seconds.pop("f")
    ratios = {
        name: median(taken / alone for taken, alone in zip(times, value, strict=True))
        for name, times in seconds.items()
    }
    return Products(size.name, median(value), ratios)


def loglog_slope(points: Sequence[ScalingPoint], method: str) -> float | None:
    """Return the exponent of the cost of value and gradient in D, fitted where D is large.

    Example:
        >>> points = [ScalingPoint("a", dim, 0.0, 3.0 * dim**2) for dim in (128, 256, 512)]
        >>> round(loglog_slope(points, "a"), 3)
        2.0
    """
    fitted = [point for point in points if point.method == method and point.dim >= ASYMPTOTIC]
    if len(fitted) < 2:
        return None
    logs = np.log([[point.dim, point.seconds] for point in fitted])
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


class Evaluation(NamedTuple):
    """z -> value and change of log-density, and the tensors that it is differentiated in beside z."""

    evaluate: Evaluate
    tensors: Sequence[Tensor]

    def forward(self, z: Tensor) -> Callable[[], object]:
        """Return the evaluation alone."""
        return _without_gradient(lambda: self.evaluate(z))

    def differentiated(self, z: Tensor, cotangents: tuple[Tensor, Tensor]) -> Callable[[], object]:
        """Return the evaluation with its gradient."""
        leaf = z.clone().requires_grad_()
        inputs = [leaf, *(tensor for tensor in self.tensors if tensor.requires_grad)]
        return lambda: torch.autograd.grad(self.evaluate(leaf), inputs, cotangents)


def make_evaluation(method: str, field: VectorField, z: Tensor) -> Evaluation:
    """Prepare one of `METHODS` for latents of the shape of `z (N, 1, D)`."""
    if method == _LOG_DETERMINANT:
        dim = z.shape[-1]
        jacobian = (torch.eye(dim) + torch.randn(*z.shape, dim) / (2 * dim**0.5)).requires_grad_()
        return Evaluation(
            lambda x: (field.value(_TIME, x), torch.linalg.slogdet(jacobian).logabsdet), [jacobian, *field.tensors()]
        )
    divergence = _DIVERGENCES[method]
    # Isolated: gradients stop at what was prepared once a solve.
    augmented = divergence.bind(field, divergence.draw_probes(field, z)).isolated()
    return Evaluation(lambda x: augmented.value_and_trace(_TIME, x), augmented.tensors())


def make_field(dim: int, hidden_dims: tuple[int, ...], batch: int) -> VectorField:
    """Return dynamics amortised by biases, prepared for a solve."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dynamics = MLPDynamics(dim, hidden_dims)
        updates = [LayerUpdate(bias=torch.randn(batch, width)) for width in (*hidden_dims, dim)]
    return dynamics.condition(updates, (batch,)).prepare(Shape([batch]))


def _vector_jacobian(field: VectorField, z: Tensor, vector: Tensor) -> Tensor:
    leaf = z.clone().requires_grad_()
    (product,) = torch.autograd.grad(field.value(_TIME, leaf), leaf, vector)
    return product


def _without_gradient(function: Callable[[], object]) -> Callable[[], object]:
    return torch.no_grad()(function)


def _medians(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median time of each step over the rounds that follow a first one."""
    return {name: median(times[1:]) for name, times in interleave(steps, rounds + 1).items()}
