"""Solver settings, the solve itself, its gradient methods, and what became of it: counts or an error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torchdiffeq import odeint, odeint_adjoint
from torchdiffeq._impl.odeint import SOLVERS

from vae_flows.errors import IntegrationError, InvalidInputError, complaint, unknown_name

__all__ = ["Gradient", "ODESolver", "RightHandSide", "WorkCount"]

Gradient = Literal["backprop", "adjoint"]
RightHandSide = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]
_GRADIENTS = ("backprop", "adjoint")


@dataclass(frozen=True)
class ODESolver:
    """Settings of an ODE solve.

    Arguments:
        method: A method of torchdiffeq, adaptive (`dopri5`, `bosh3`, …) or with fixed steps (`rk4`, …).
        rtol: Relative tolerance of adaptive methods.
        atol: Absolute tolerance of adaptive methods.
        gradient: `backprop` differentiates the accepted steps; `adjoint` solves the continuous adjoint backwards in
            time, in memory that does not grow with the number of steps, and with gradients as exact as its tolerance.
        max_evaluations: Cap on evaluations of the dynamics in one solve, forward or backward.
        options: Passed to the method, such as `{"step_size": 0.05}` for `rk4`.

    Raises:
        UnknownNameError: Unknown method or gradient.
        InvalidInputError: A tolerance that is not positive, or a cap below one.

    Example:
        >>> ODESolver(method="rk4", options={"step_size": 0.1}).gradient
        'backprop'
    """

    method: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5
    gradient: Gradient = "backprop"
    max_evaluations: int = 2000
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.method not in SOLVERS:
            raise unknown_name("ODE method", self.method, SOLVERS)
        if self.gradient not in _GRADIENTS:
            raise unknown_name("gradient", self.gradient, _GRADIENTS)
        for name in ("rtol", "atol"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidInputError(complaint(f"ODESolver {name}", "a positive number", getattr(self, name)))
        if self.max_evaluations < 1:
            raise InvalidInputError(complaint("ODESolver max_evaluations", "at least 1", self.max_evaluations))

    def solve(
        self,
        right_hand_side: RightHandSide,
        state: tuple[Tensor, ...],
        interval: tuple[float, float],
        parameters: Sequence[Tensor] = (),
        work: WorkCount | None = None,
    ) -> tuple[Tensor, ...]:
        """Integrate `state` over `interval`, in either direction.

        Arguments:
            right_hand_side: Maps t and the state to the state's derivative.
            state: Tensors of any shapes at the start.
            interval: Start and end time.
            parameters: The tensors that the right-hand side uses and gradients should reach under `adjoint`.
            work: Filled with the counts of the solve, also when it fails.

        Returns:
            The state at the end.

        Raises:
            IntegrationError: The cap was met, a step underflowed, or a value is not finite.
        """
        work = WorkCount() if work is None else work
        counted = _CountedRightHandSide(right_hand_side, self, work, reverse=interval[1] < interval[0])
        times = torch.tensor(interval, dtype=state[0].dtype, device=state[0].device)
        arguments: dict[str, Any] = {
            "rtol": self.rtol,
            "atol": self.atol,
            "method": self.method,
            "options": dict(self.options),
        }
        try:
            if self.gradient == "adjoint":
                path = odeint_adjoint(counted, state, times, adjoint_params=tuple(parameters), **arguments)
            else:
                path = odeint(counted, state, times, **arguments)
        except AssertionError as failure:
            raise counted.error(str(failure)) from failure
        end = tuple(values[-1] for values in path)
        if not all(bool(torch.isfinite(values).all()) for values in end):
            raise counted.error("the state at the end is not finite")
        counted.backward = True
        return end


@dataclass
class WorkCount:
    """What one solve has cost; the backward evaluations arrive with the backward pass of the continuous adjoint.

    Arguments:
        forward_evaluations: Evaluations of the dynamics in the forward solve.
        backward_evaluations: Evaluations in the adjoint solve; 0 under backpropagation, which makes none.
        accepted_steps: Steps taken.
        rejected_steps: Steps tried and thrown away.
    """

    forward_evaluations: int = 0
    backward_evaluations: int = 0
    accepted_steps: int = 0
    rejected_steps: int = 0

    @classmethod
    def total(cls, counts: Iterable[WorkCount]) -> WorkCount:
        """Add up the counts of several solves."""
        return cls(*(sum(column) for column in zip(*(astuple(count) for count in counts), strict=True)))


class _CountedRightHandSide:
    """The right-hand side as the solver calls it: counts, keeps the cap, and knows where the solve stands.

    Evaluations after the forward solve has returned are those of the continuous adjoint.
    """

    def __init__(self, function: RightHandSide, solver: ODESolver, work: WorkCount, *, reverse: bool) -> None:
        self._function = function
        self._max_evaluations = solver.max_evaluations
        self._work = work
        self._sign = -1.0 if reverse else 1.0
        self._t: float | None = None
        self._step_size: float | None = None
        self.backward = False
        # torchdiffeq finds callbacks by attribute, and warns of those that the method does not call.
        callbacks = {
            "callback_step": self._on_step,
            "callback_accept_step": self._on_accept,
            "callback_reject_step": self._on_reject,
        }
        self._adaptive = "callback_accept_step" in SOLVERS[solver.method].valid_callbacks()
        for name in SOLVERS[solver.method].valid_callbacks() & set(callbacks):
            setattr(self, name, callbacks[name])

    def __call__(self, t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self.backward:
            self._work.backward_evaluations += 1
        else:
            self._work.forward_evaluations += 1
        if max(self._work.forward_evaluations, self._work.backward_evaluations) > self._max_evaluations:
            self._t = float(t.detach())
            raise self.error(f"the cap of {self._max_evaluations} evaluations was met")
        return self._function(t, state)

    def error(self, what: str) -> IntegrationError:
        work = self._work
        return IntegrationError(
            f"ODE solve failed: {what} (t = {self._t}, step {self._step_size}, "
            f"{work.forward_evaluations} evaluations forward, {work.backward_evaluations} backward, "
            f"{work.accepted_steps} steps accepted, {work.rejected_steps} rejected). "
            "Loosen rtol and atol, shorten integration_time, lower the learning rate or clip gradients, "
            "check the input for extreme values, or raise max_evaluations.",
            t=self._t,
            step_size=self._step_size,
            evaluations=work.forward_evaluations + work.backward_evaluations,
        )

    def _on_step(self, t: Tensor, state: object, step_size: Tensor) -> None:
        del state
        self._t, self._step_size = self._sign * float(t.detach()), float(step_size.detach())
        if not self._adaptive:
            self._work.accepted_steps += 1

    def _on_accept(self, *_: object) -> None:
        self._work.accepted_steps += 1

    def _on_reject(self, *_: object) -> None:
        self._work.rejected_steps += 1
