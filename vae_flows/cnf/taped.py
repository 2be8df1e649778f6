"""The discrete adjoint of a Runge-Kutta solve: gradients of the steps that were accepted, exact for what was computed.

Only accepted steps are differentiated. Either their activations are kept (`keep`), or just the states between them, and
each step's stages are computed again when the backward pass comes to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vae_flows.cnf.fields import AugmentedField, TapedField, Time
from vae_flows.cnf.runge_kutta import Step, SteppingSettings, combine, integrate
from vae_flows.cnf.tableaus import Tableau
from vae_flows.cnf.work import SolveProgress

__all__ = ["AutogradTape", "LatestTapes", "solve_taped"]


Tape = TypeVar("Tape")


class LatestTapes(Generic[Tape]):
    """The tapes of the evaluations that the step being tried may need; earlier ones are let go."""

    def __init__(self, tableau: Tableau) -> None:
        self._stages = tableau.solution_stages
        self._tapes: dict[int, Tape] = {}
        self._count = 0

    def add(self, tape: Tape) -> None:
        """Keep the tape of the next evaluation."""
        self._tapes[self._count] = tape
        self._count += 1

    def of_step(self, step: Step, accepted: bool) -> list[Tape]:
        """Return the tapes of a step that was tried, and let go all but the one that the next attempt starts with."""
        tapes = [self._tapes[number] for number in step.evaluations[: self._stages]]
        first = step.evaluations[-1 if accepted else 0]
        self._tapes = {first: self._tapes[first]}
        return tapes


class Solve(NamedTuple):
    """What a taped solve is made of."""

    field: TapedField
    interval: tuple[float, float]
    settings: SteppingSettings
    progress: SolveProgress
    keep: bool


def solve_taped(
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
    return _TapedSolve.apply(Solve(field, interval, settings, progress, keep), state, *field.tensors())


class _TapedSolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, solve: Solve, state: Tensor, *tensors: Tensor) -> Tensor:
        needed = any(ctx.needs_input_grad[1:])
        steps: list[tuple[Step, list[object] | None]] = []
        latest: LatestTapes[object] = LatestTapes(solve.settings.tableau)

        def evaluate(t: float, y: Tensor) -> Tensor:
            slope, tape = _record(solve, t, y)
            latest.add(tape if needed and solve.keep else None)
            return slope

        def observe(step: Step, accepted: bool) -> None:
            tapes = latest.of_step(step, accepted)
            if needed and accepted:
                steps.append((step, tapes if solve.keep else None))

        end = integrate(evaluate, state, solve.interval, solve.settings, solve.progress, observe)
        ctx.solve = solve
        ctx.steps = steps
        # Not for their values, which the field has, but to be told if they were changed in place meanwhile.
        ctx.save_for_backward(*tensors)
        return end

    @staticmethod
    @once_differentiable
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
        return None, of_state, *solve.field.collect()


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


class AutogradTape(TapedField):
    """Any augmented field as a taped one: the tape is the graph of one evaluation."""

    def __init__(self, field: AugmentedField) -> None:
        self._field = field
        self._tensors = list(field.tensors())
        self._sums: list[Tensor] | None = None
        self.num_integrals = field.num_integrals

    def tensors(self) -> Sequence[Tensor]:
        return self._tensors

    def evaluate(self, t: Time, z: Tensor) -> tuple[Tensor, Tensor]:
        return self._field.evaluate(t, z)

    def isolated(self) -> AutogradTape:
        return AutogradTape(self._field.isolated())

    def record(self, t: Time, z: Tensor) -> tuple[tuple[Tensor, Tensor], object]:
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            value, integrals = self._field.evaluate(t, leaf)
        return (value.detach(), integrals.detach()), (leaf, value, integrals)

    def pull_back(self, tape: Any, value: Tensor, integrals: Tensor, *, of_tensors: bool = True) -> Tensor:
        leaf, *outputs = tape
        pairs = zip(outputs, (value, integrals), strict=True)
        differentiable = [(output, given) for output, given in pairs if output.requires_grad]
        if not differentiable:  # a field that depends on nothing
            return torch.zeros_like(leaf)
        outputs, cotangents = zip(*differentiable, strict=True)
        tensors = [tensor for tensor in self._tensors if tensor.requires_grad] if of_tensors else []
        with _ending_at(tensors):
            of_z, *gradients = torch.autograd.grad(
                outputs, [leaf, *tensors], cotangents, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        if of_tensors:
            self._sums = [a + b for a, b in zip(self._sums, gradients, strict=True)] if self._sums else gradients
        return of_z

    def collect(self) -> list[Tensor]:
        found, self._sums = self._sums, None
        if found is None:
            return [torch.zeros_like(tensor) for tensor in self._tensors]
        sums = iter(found)
        return [next(sums) if tensor.requires_grad else torch.zeros_like(tensor) for tensor in self._tensors]


@contextmanager
def _ending_at(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Have gradients end at the tensors: where one was computed from another, the other would get its part twice."""
    nodes = {tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None}
    # These hooks run after the gradient of an input has been noted, and before it is passed on.
    handles = [node.register_prehook(lambda gradients: tuple(None for _ in gradients)) for node in nodes]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
