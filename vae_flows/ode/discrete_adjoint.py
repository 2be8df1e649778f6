"""The discrete adjoint of a Runge-Kutta solve: gradients of the steps that were accepted, exact for what was computed.

Only accepted steps are differentiated. Either their activations are kept (`keep`), or just the states between them, and
each step's stages are computed again when the backward pass comes to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vae_flows.ode.fields import TapedField
from vae_flows.ode.progress import SolveProgress
from vae_flows.ode.stepping import Step, SteppingSettings, combine, integrate
from vae_flows.ode.tapes import SECOND_DERIVATIVES, LatestTapes, Solve
from vae_flows.tensors.derivatives import first_order

__all__ = ["solve_by_discrete_adjoint"]


def solve_by_discrete_adjoint(
    field: TapedField,
    state: Tensor,
    interval: tuple[float, float],
    settings: SteppingSettings,
    progress: SolveProgress,
    *,
    keep: bool,
) -> Tensor:
    """Integrate `state (…, D + K)` and return it at the end, differentiable once in it and in the field's tensors.

    Arguments:
        field: What is integrated.
        state: Latents and, in the last K columns, the integrals.
        interval: Start and end time.
        settings: Method, tolerances and options.
        progress: Counts the work.
        keep: Whether activations are kept for the backward pass, or computed again.
    """
    return _DiscreteAdjoint.apply(Solve(field, interval, settings, progress), keep, state, *field.tensors())


class _DiscreteAdjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, solve: Solve, keep: bool, state: Tensor, *tensors: Tensor) -> Tensor:
        needed = any(ctx.needs_input_grad[2:])
        steps: list[tuple[Step, list[object] | None]] = []
        latest: LatestTapes[object] = LatestTapes(solve.settings.tableau)

        def evaluate(t: float, y: Tensor) -> Tensor:
            slope, tape = _record(solve, t, y)
            if latest.count == 0:  # the others are made of the same tensors
                solve.field.check_tape(tape)
            latest.add(tape if needed and keep else None)
            return slope

        def observe(step: Step, accepted: bool) -> None:
            tapes = latest.of_step(step, accepted)
            if needed and accepted:
                steps.append((step, tapes if keep else None))

        end = integrate(evaluate, state, solve.interval, solve.settings, solve.progress, observe)
        ctx.solve = solve
        ctx.steps = steps
        # Not for their values, which the field has, but to be told if they were changed in place meanwhile.
        ctx.save_for_backward(*tensors)
        return end

    @staticmethod
    @first_order(SECOND_DERIVATIVES)
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        solve: Solve = ctx.solve
        (of_state,) = grad_outputs
        _ = ctx.saved_tensors
        solve.progress.start_backward()
        for index in reversed(range(len(ctx.steps))):
            step, kept = ctx.steps[index]
            tapes = _repeat(solve, step) if kept is None else kept
            # Tapes are let go as they are used; a second backward pass, which is rare, computes the stages again.
            ctx.steps[index] = (step, None)
            of_state = _pull_back_step(solve, step, tapes, of_state)
        return None, None, of_state, *solve.field.collect()


def _record(solve: Solve, t: float, y: Tensor) -> tuple[Tensor, object]:
    solve.progress.evaluate()
    rates, tape = solve.field.record(t, y[..., : solve.settings.latent_dim])
    return torch.cat(rates, -1), tape


def _repeat(solve: Solve, step: Step) -> list[object]:
    """Compute the stages of a step again and return their tapes."""
    tableau = solve.settings.tableau
    tapes: list[object] = []
    slopes: list[Tensor] = []
    for stage in range(tableau.solution_stages):
        inner = combine(step.state, step.size, tableau.stages[stage], slopes)
        slope, tape = _record(solve, step.t + tableau.nodes[stage] * step.size, inner)
        slopes.append(slope)
        tapes.append(tape)
    return tapes


def _pull_back_step(solve: Solve, step: Step, tapes: Sequence[object], of_state: Tensor) -> Tensor:
    """Return the cotangent of the state before a step, given that of the state after it."""
    tableau, latent_dim = solve.settings.tableau, solve.settings.latent_dim
    of_latents, of_integrals = of_state[..., :latent_dim], of_state[..., latent_dim:]
    of_inner: dict[int, Tensor] = {}  # cotangent of the state at which stage j was evaluated
    for stage in reversed(range(len(tapes))):
        weight = tableau.weights[stage]
        later = [j for j in of_inner if tableau.stages[j][stage]]
        factors = [tableau.stages[j][stage] for j in later]
        of_slope = combine(of_latents * (weight * step.size), step.size, factors, [of_inner[j] for j in later])
        of_inner[stage] = solve.field.pull_back(tapes[stage], of_slope, of_integrals * (weight * step.size))
    total = of_latents + torch.stack(list(of_inner.values())).sum(0)
    return torch.cat([total, of_integrals], -1)
