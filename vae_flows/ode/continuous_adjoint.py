r"""The continuous adjoint: gradients from a second solve, backwards in time, in memory that does not grow with steps.

With cotangents a of the latents and c of the integrals, which are constant,

.. math:: \frac{da}{dt} = -a^\top \frac{\partial f}{\partial z} - c^\top \frac{\partial r}{\partial z}, \qquad
          \frac{dL}{d\theta} = \int_0^T a^\top \frac{\partial f}{\partial\theta}
          + c^\top \frac{\partial r}{\partial\theta}\,dt

for the field f and the rates r of the integrals (Chen et al. 2018, appendix B). Latents and a are one state. The
integral over time that gives the gradients of the weights has no part in the choice of steps (the seminorm of Kidger
et al. 2021, "Hey, that's not an ODE"): each accepted step adds the weighted sum of its stages, so that amortised
tensors, however large, are no state of a solver.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vae_flows.ode.fields import TapedField
from vae_flows.ode.progress import SolveProgress
from vae_flows.ode.stepping import Step, SteppingSettings, integrate
from vae_flows.ode.tapes import SECOND_DERIVATIVES, LatestTapes, Solve, derivative
from vae_flows.tensors.derivatives import first_order

__all__ = ["solve_by_continuous_adjoint"]


_LARGEST_MISS = 100.0
"""Times the tolerance. Posteriors miss by less than one; at 142, for dz/dt = −10 sin z, gradients were half wrong."""


def solve_by_continuous_adjoint(
    field: TapedField,
    state: Tensor,
    interval: tuple[float, float],
    settings: SteppingSettings,
    progress: SolveProgress,
) -> Tensor:
    """Integrate `state (…, D + K)` and return it at the end, differentiable once in it and in the field's tensors.

    Arguments:
        field: What is integrated.
        state: Latents and, in the last K columns, the integrals.
        interval: Start and end time.
        settings: Method, tolerances and options, of both solves.
        progress: Counts the work.
    """
    if not field.has_pull_back:  # an evaluation for the check alone: this solve records none
        field.check_tape(field.record(interval[0], state[..., : settings.latent_dim])[1])
    return _ContinuousAdjoint.apply(Solve(field, interval, settings, progress), state, *field.tensors())


class _ContinuousAdjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, solve: Solve, state: Tensor, *tensors: Tensor) -> Tensor:
        evaluate = derivative(solve.field, solve.settings.latent_dim, solve.progress)
        end = integrate(evaluate, state, solve.interval, solve.settings, solve.progress)
        ctx.solve = solve
        # The tensors not for their values, which the field has, but to be told if they were changed in place meanwhile.
        ctx.save_for_backward(state, end, *tensors)
        return end

    @staticmethod
    @first_order(SECOND_DERIVATIVES)
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        solve: Solve = ctx.solve
        (before, end, *_), (of_end,) = ctx.saved_tensors, grad_outputs
        latent_dim = solve.settings.latent_dim
        solve.progress.start_backward()
        # The problem is linear in the cotangent: of size one, it meets an absolute tolerance whatever the loss's scale.
        scale = _root_mean_square(of_end) or 1.0
        if not math.isfinite(scale):
            raise solve.progress.error("the gradient of the loss that came back to the solve is not finite")
        of_latents, of_integrals = of_end[..., :latent_dim] / scale, of_end[..., latent_dim:]
        adjoint = _Adjoint(solve, of_integrals, scale)
        start, stop = solve.interval
        state = integrate(
            adjoint.evaluate,
            torch.cat([end[..., :latent_dim], of_latents], -1),
            (stop, start),
            # Two groups of columns, each held to the tolerance by itself.
            replace(solve.settings, controlled=2 * latent_dim),
            solve.progress,
            adjoint.observe,
        )
        _check_return(solve, state[..., :latent_dim], before[..., :latent_dim])
        of_state = torch.cat([state[..., latent_dim:] * scale, of_integrals], -1)
        return None, of_state, *solve.field.collect()


def _check_return(solve: Solve, reached: Tensor, start: Tensor) -> None:
    """Check that latents came back to where they started: gradients taken along another path are wrong."""
    settings = solve.settings
    if not settings.tableau.is_adaptive:
        return
    misses = (reached - start) / (settings.atol + settings.rtol * start.abs())
    ratio = float(misses.square().mean(-1).sqrt().amax())  # of each example: the others' gradients may be right
    if not ratio <= _LARGEST_MISS:
        raise solve.progress.error(
            f"solved backwards, the latents missed their start by {ratio:.3g} times the tolerance, as those of "
            "dynamics that contract much do; use gradient='recompute'"
        )


def _root_mean_square(values: Tensor) -> float:
    largest = float(values.abs().max())
    # Squares of what is small or large would leave the range of single precision.
    return largest * float((values / largest).square().mean().sqrt()) if largest else 0.0


class _Adjoint:
    """The derivative of latents and their cotangents, and the gradients of the weights, which accumulate."""

    def __init__(self, solve: Solve, of_integrals: Tensor, scale: float) -> None:
        self._solve = solve
        self._of_integrals = of_integrals
        self._scaled = of_integrals / scale
        self._scale = scale
        self._latest: LatestTapes[tuple[object, Tensor]] = LatestTapes(solve.settings.tableau)

    def evaluate(self, t: float, y: Tensor) -> Tensor:
        field = self._solve.field
        self._solve.progress.evaluate()
        latents, cotangents = y.chunk(2, -1)
        (rates, _), tape = field.record(t, latents)
        pulled = field.pull_back(tape, cotangents, self._scaled, of_tensors=False)
        self._latest.add((tape, cotangents))
        return torch.cat([rates, -pulled], -1)

    def observe(self, step: Step, accepted: bool) -> None:
        tapes = self._latest.of_step(step, accepted)
        if not accepted:
            return
        for weight, (tape, cotangents) in zip(self._solve.settings.tableau.weights, tapes, strict=False):
            if factor := -weight * step.size:
                self._solve.field.pull_back(tape, cotangents * (factor * self._scale), self._of_integrals * factor)
