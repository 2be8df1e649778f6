"""One evaluation of the dynamics: the change of log-density against the dimension, and products with the Jacobian.

The literature (Grathwohl et al. 2019, table 1) bounds the cost of each of `METHODS` for the change of log-density. The
log-determinant is that of a dense Jacobian which is given: the change of variables of any map. What does not depend on
z is prepared once per solve, and is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median

import torch
from torch import Tensor

from experiments.speed.measuring import interleave, medians
from experiments.speed.problems import Size
from experiments.speed.speed_records import Products, ScalingPoint
from vae_flows.cnf import (
    BruteForceDivergence,
    Divergence,
    ExactDivergence,
    HutchinsonDivergence,
    LayerUpdate,
    MLPDynamics,
    VectorField,
)
from vae_flows.ode.tapes import as_taped, differentiable

__all__ = ["METHODS", "SCALING_THREADS", "make_evaluation", "make_field", "time_dimension", "time_products"]

SCALING_THREADS = 1
"""With more, PyTorch (seen with 2.15) fails or hangs in the LU factorisation of a batch of large matrices on the CPU,
on which the log-determinant rests (issue 141358 of pytorch/pytorch)."""

Evaluation = Callable[[Tensor], tuple[Tensor, Tensor]]
"""z -> value and change of log-density."""

_TIME = 0.25
_LOG_DETERMINANT = "log-determinant"
_DIVERGENCES: Mapping[str, Divergence] = {
    "brute force": BruteForceDivergence(),
    "Hutchinson": HutchinsonDivergence(),
    "closed form": ExactDivergence(),
}
METHODS = (_LOG_DETERMINANT, *_DIVERGENCES)


def time_dimension(dim: int, hidden_dims: tuple[int, ...], batch: int, rounds: int) -> list[ScalingPoint]:
    """Time one evaluation of value and change of log-density in `dim` dimensions by each method."""
    field, z = make_field(dim, hidden_dims, batch), torch.randn(batch, 1, dim)
    cotangents = torch.randn(batch, 1, dim), torch.randn(batch, 1)
    made = {name: make_evaluation(name, field, z) for name in METHODS}
    leaf = z.clone().requires_grad_()

    def with_gradient(evaluate: Evaluation, tensors: list[Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(evaluate(leaf), [leaf, *tensors], cotangents)

    with torch.no_grad():
        alone = medians({name: lambda evaluate=evaluate: evaluate(z) for name, (evaluate, _) in made.items()}, rounds)
    whole = medians({name: with_gradient(*evaluation) for name, evaluation in made.items()}, rounds)
    return [ScalingPoint(name, dim, alone[name], whole[name]) for name in METHODS]


def time_products(size: Size, rounds: int) -> Products:
    """Time products with the Jacobian of f beside f, amortised by biases alone, in rounds that follow a first one."""
    field = make_field(size.latent_dim, size.hidden_dims, size.batch)
    z, vector = torch.randn(2, size.batch, 1, size.latent_dim)
    fused = field.with_probes(vector.unsqueeze(0))

    @torch.enable_grad()
    def vector_jacobian_product() -> object:
        leaf = z.clone().requires_grad_()
        return torch.autograd.grad(field.value(_TIME, leaf), leaf, vector)

    steps = {
        "f": lambda: field.value(_TIME, z),
        "Jacobian-vector product": lambda: torch.func.jvp(lambda x: field.value(_TIME, x), (z,), (vector,)),
        "vector-Jacobian product": vector_jacobian_product,
        "f and εᵀJε, fused": lambda: fused.evaluate(_TIME, z),
    }
    with torch.no_grad():
        seconds = {name: times[1:] for name, times in interleave(steps, rounds + 1).items()}
    value = seconds.pop("f")
    ratios = {
        name: median(taken / alone for taken, alone in zip(times, value, strict=True))
        for name, times in seconds.items()
    }
    return Products(size.name, median(value), ratios)


def make_evaluation(method: str, field: VectorField, z: Tensor) -> tuple[Evaluation, list[Tensor]]:
    """Prepare a method for latents of the shape of `z (N, 1, D)`; also return what it is differentiated in beside z."""
    if method == _LOG_DETERMINANT:
        dim = z.shape[-1]
        jacobian = (torch.eye(dim) + torch.randn(*z.shape, dim) / (2 * dim**0.5)).requires_grad_()
        tensors = [jacobian, *(tensor for tensor in field.tensors() if tensor.requires_grad)]
        return lambda x: (field.value(_TIME, x), torch.linalg.slogdet(jacobian).logabsdet), tensors
    divergence = _DIVERGENCES[method]
    augmented = as_taped(divergence.bind(field, divergence.draw_probes(field, z)))
    # Gradients stop at what was prepared once per solve.
    tensors = [tensor.view_as(tensor) for tensor in augmented.tensors()]
    evaluate = differentiable(augmented, tensors)

    def value_and_trace(x: Tensor) -> tuple[Tensor, Tensor]:
        value, integrals = evaluate(_TIME, x)
        return value, integrals[..., 0]

    return value_and_trace, [tensor for tensor in tensors if tensor.requires_grad]


def make_field(dim: int, hidden_dims: tuple[int, ...], batch: int) -> VectorField:
    """Return dynamics amortised by biases, prepared for a solve."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dynamics = MLPDynamics(dim, hidden_dims)
        updates = [LayerUpdate(bias=torch.randn(batch, width)) for width in (*hidden_dims, dim)]
    return dynamics.condition(updates, (batch,)).prepare(torch.Size([batch]))
