"""The same dynamics in JAX, solved by diffrax and compiled as a whole, head and gradient included."""

# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array
from torch import Tensor

from experiments.speed.competitors.competitor import Competitor, Outcome
from experiments.speed.problems import INTEGRATION_TIME, TOLERANCE, Problem, Size, low_rank_scale

__all__ = ["Peer"]

Arrays = Mapping[str, Array]
_MAX_STEPS = 256
_STAGES = 6


class Peer(Competitor):
    """diffrax with Dormand-Prince steps, and gradients of the accepted steps through its checkpoints."""

    def __init__(self, problem: Problem) -> None:
        inputs = problem.weights() | {"context": problem.context, "start": problem.start}
        self._inputs = {name: jnp.asarray(tensor.detach().numpy()) for name, tensor in inputs.items()}
        self._step = jax.jit(jax.value_and_grad(_make_loss(problem), has_aux=True)).lower(self._inputs).compile()
        self._result: Any = None

    def step(self) -> None:
        self._result = jax.block_until_ready(self._step(self._inputs))

    def outcome(self) -> Outcome:
        (_, (values, steps)), gradients = self._result
        # Each block's first slope and that of its guess of a first step.
        forward = _STAGES * int(steps.sum()) + 2 * len(steps)
        return Outcome(_tensors(values), _tensors(gradients), forward, None)


def _make_loss(problem: Problem) -> Any:
    probes, of_end, of_log_det = (
        jnp.asarray(tensor.numpy()) for tensor in (problem.probes, problem.of_end, problem.of_log_det)
    )

    def loss(inputs: Arrays) -> tuple[Array, tuple[Arrays, Array]]:
        z, log_det, steps = inputs["start"], jnp.zeros(problem.size.batch), []
        for block, probe in enumerate(probes):
            solution = _solve(problem.size, block, inputs, z, probe)
            z, change = (leaf[-1] for leaf in cast(tuple[Array, Array], solution.ys))
            log_det = log_det + change
            steps.append(solution.stats["num_steps"])
        value = jnp.vdot(z, of_end) + jnp.vdot(log_det, of_log_det)
        return value, ({"end": z, "log_det": log_det}, jnp.stack(steps))

    return loss


def _solve(size: Size, block: int, inputs: Arrays, z: Array, probe: Array) -> diffrax.Solution:
    weight, bias = (inputs[f"head cnf.amortizations.{block}.head.{name}"] for name in ("weight", "bias"))
    amortized = inputs["context"] @ weight.T + bias
    updates = jnp.split(amortized, np.cumsum(size.split_sizes)[:-1], axis=-1)
    layers = [
        [inputs[f"shared cnf.dynamics.{block}.layers.{place}.{name}"] for name in ("weight", "bias", "time_weight")]
        for place in range(len(size.fans))
    ]

    def derivative(t: Any, state: tuple[Array, Array], arguments: Any) -> tuple[Array, Array]:
        layers, updates = arguments
        # Of forward mode, reverse mode and one product for both rows, compiled reverse mode is the fastest.
        slope, pull_back = jax.vjp(lambda x: _network(size, t, x, layers, updates), state[0])
        (product,) = pull_back(probe)
        return slope, (product * probe).sum(-1)

    return diffrax.diffeqsolve(
        diffrax.ODETerm(derivative),
        diffrax.Dopri5(),
        0.0,
        INTEGRATION_TIME,
        dt0=None,
        y0=(z, jnp.zeros(size.batch)),
        args=(layers, updates),
        stepsize_controller=diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE, norm=_largest_norm),
        adjoint=diffrax.RecursiveCheckpointAdjoint(),
        max_steps=_MAX_STEPS,
    )


def _largest_norm(state: Any) -> Array:
    """Return the larger root mean square of latents and integral, as this library bounds it."""
    return jnp.stack([jnp.sqrt(jnp.mean(leaf**2)) for leaf in jax.tree_util.tree_leaves(state)]).max()


def _network(size: Size, t: Array, x: Array, layers: Any, updates: Any) -> Array:
    parts = iter(updates)
    for place, (weight, bias, time_weight) in enumerate(layers):
        if place:
            x = jax.nn.softplus(x)
        product = x @ weight.T + bias + t * time_weight
        if size.rank:
            fan_in, fan_out = size.fans[place]
            left = next(parts).reshape(-1, fan_in, size.rank)
            right = next(parts).reshape(-1, size.rank, fan_out)
            inner = jnp.einsum("ni,nir->nr", x, left) * low_rank_scale(fan_in, size.rank)
            product = product + jnp.einsum("nr,nro->no", inner, right)
        x = product + next(parts)
    return x


def _tensors(arrays: Arrays) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
