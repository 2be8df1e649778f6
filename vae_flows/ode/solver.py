"""Solver settings and the choice of how a solve is made and differentiated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from vae_flows.call_stack import warn
from vae_flows.checks import checked
from vae_flows.errors import (
    IntegrationError,
    InvalidInputError,
    complaint,
    refuse_unused,
    require_number,
    require_positive,
)
from vae_flows.ode.compilation import warn_uncompiled
from vae_flows.ode.continuous_adjoint import solve_by_continuous_adjoint
from vae_flows.ode.discrete_adjoint import solve_by_discrete_adjoint
from vae_flows.ode.fields import AugmentedField
from vae_flows.ode.options import check_options, has_times, has_tolerances, in_units_of, is_number, require_named
from vae_flows.ode.progress import SolveProgress, WorkMeter
from vae_flows.ode.stepping import SteppingSettings, integrate
from vae_flows.ode.tableaus import TABLEAUS
from vae_flows.ode.tapes import as_taped, derivative
from vae_flows.ode.torchdiffeq_engine import solve_adjoint_by_torchdiffeq, solve_by_torchdiffeq
from vae_flows.persistence.configuration import register_class
from vae_flows.tensors.known_values import functorch_is_active

__all__ = ["Gradient", "IntegrationWarning", "ODESolver", "require_solver"]

Gradient = Literal["backprop", "recompute", "adjoint"]
_GRADIENTS = ("backprop", "recompute", "adjoint")
_TOLERANCE = 1e-5
_NOT_GIVEN: Any = object()


class IntegrationWarning(UserWarning):
    """A solve failed and was made again with the settings given as `fallback`."""


@register_class("ODESolver")
@dataclass(frozen=True)
class ODESolver:
    """Settings of an ODE solve.

    The explicit Runge-Kutta methods up to order 5 are stepped by this library; `dopri8`, the Adams methods,
    `scipy_solver`, and options that only torchdiffeq knows are left to torchdiffeq.

    Arguments:
        method: A method of torchdiffeq, adaptive (`dopri5`, `bosh3`, …) or with fixed steps (`rk4`, …).
        rtol: Relative tolerance, 1e-5 by default; `None` for methods with fixed steps, which have none.
        atol: Absolute tolerance, likewise.
        gradient: `backprop` differentiates the accepted steps, keeping their activations; `recompute` is the same
            gradient in the memory of one step, for the price of evaluating it again; `adjoint` solves the continuous
            adjoint backwards in time, in memory that does not grow with the number of steps, and with gradients as
            exact as its tolerance where the path can be solved backwards; dynamics that contract too much for that
            raise. Latents and their cotangents choose the steps, gradients of weights do not (the seminorm of Kidger
            et al. 2021).
        max_evaluations: Cap on evaluations of the dynamics in one solve, forward or backward.
        options: Passed to the method, such as `{"step_size": 0.05}` for `rk4`.
        fused: Whether `backprop` uses the backward pass written by hand where the dynamics have one. Without it,
            gradients can be differentiated again.
        compile: Whether `torch.compile` compiles the fused evaluation of the dynamics and its pull-back, on CUDA as
            captured graphs. Results are the same to rounding. A compiler takes seconds at the first solve, once in a
            process for each structure of the dynamics and, where batches differ in size, once more. Where there is no
            compiler, or it fails, evaluations go on uncompiled, with a `CompilationWarning`.
        fallback: Settings for another attempt when this solve fails, such as fixed steps, made with an
            `IntegrationWarning`; none by default: the failure is raised.

    Raises:
        UnknownNameError: Unknown method or gradient, or an option that the method does not know.
        InvalidInputError: A setting of another type, out of range or without effect beside the others, or a gradient
            that the method cannot give.

    Example:
        >>> ODESolver(method="rk4", options={"step_size": 0.1}).gradient
        'backprop'
    """

    method: str = "dopri5"
    rtol: float | None = _NOT_GIVEN
    atol: float | None = _NOT_GIVEN
    gradient: Gradient = "backprop"
    max_evaluations: int = 2000
    options: Mapping[str, Any] = field(default_factory=dict)
    fused: bool = True
    compile: bool = False
    fallback: ODESolver | None = None

    def __post_init__(self) -> None:
        require_named("gradient", self.gradient, _GRADIENTS)
        check_options(self.method, self.options)
        # A copy: what was checked is what stays.
        object.__setattr__(self, "options", dict(self.options))
        self._resolve_tolerances()
        require_positive("ODESolver", max_evaluations=self.max_evaluations)
        for name in ("fused", "compile"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInputError(complaint(f"ODESolver {name}", "True or False", repr(getattr(self, name))))
        if not self.fused and self.gradient != "backprop":
            refuse_unused("ODESolver", f"gradient={self.gradient!r}", fused=False)
        if self.fallback is not None:
            require_solver("ODESolver fallback", self.fallback)
        self._check_gradient()
        if self.compile:
            where = "fused=False" if not self.fused else f"method={self.method!r}, which torchdiffeq steps"
            if not (self.fused and self._steps_here()):
                refuse_unused("ODESolver", where, compile=True)

    def _resolve_tolerances(self) -> None:
        adaptive = has_tolerances(self.method)
        for name in ("rtol", "atol"):
            if getattr(self, name) is _NOT_GIVEN:
                object.__setattr__(self, name, _TOLERANCE if adaptive else None)
            value = getattr(self, name)
            if not adaptive:
                refuse_unused("ODESolver", f"method={self.method!r}, whose steps are fixed", **{name: value})
            elif not (is_number(value) and value > 0):
                raise InvalidInputError(complaint(f"ODESolver {name}", "a positive number", repr(value)))

    @classmethod
    def upgrade_config(cls, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the configuration that an earlier release wrote as this one would."""
        without = {} if has_tolerances(config.get("method", "dopri5")) else {"rtol": None, "atol": None}
        return {**config, **without, "fused": config.get("fused", True) or config.get("gradient") != "backprop"}

    def _check_gradient(self) -> None:
        """Check that the method can give gradients in the way that is asked for."""
        offered = list(_GRADIENTS) if self._steps_here() else ["backprop", "adjoint"]
        if self.method == "scipy_solver":
            offered = ["adjoint"]  # SciPy's solves leave no graph
        if self.gradient not in offered:
            raise InvalidInputError(
                complaint(
                    "ODESolver gradient",
                    f"{' or '.join(map(repr, offered))} for method {self.method!r} with options {sorted(self.options)}",
                    repr(self.gradient),
                )
            )

    def solve(
        self, field: AugmentedField, z: Tensor, interval: tuple[float, float], meter: WorkMeter | None = None
    ) -> tuple[Tensor, Tensor]:
        """Integrate f and the rates beside it over `interval`, in either direction.

        Arguments:
            field: What is integrated.
            z: Latents at the start, `(…, D)`.
            interval: Start and end time.
            meter: Counts what the solve costs, also when it fails.

        Returns:
            The latents at the end, and the K integrals, `(…, K)`.

        Raises:
            IntegrationError: The cap was met, a step underflowed, or a value is not finite.
        """
        meter = WorkMeter() if meter is None else meter
        try:
            end = self._solve(field, z, interval, meter)
        except IntegrationError as error:
            if self.fallback is None:
                raise
            warn(f"{error} Falling back to {self.fallback}.", IntegrationWarning)
            return self.fallback.solve(field, z, interval, meter)
        return end[..., : z.shape[-1]], end[..., z.shape[-1] :]

    @checked
    def in_units_of(self, length: float) -> ODESolver:
        """Return these settings for times that are measured in units of `length`; steps stay as long as they are.

        Raises:
            InvalidInputError: The length is not a positive number.

        Example:
            >>> ODESolver("rk4", options={"step_size": 0.1}).in_units_of(2.0).options
            {'step_size': 0.05}
        """
        require_number("ODESolver.in_units_of", "length", length, above=0.0)
        fallback = None if self.fallback is None else self.fallback.in_units_of(length)
        return replace(self, options=in_units_of(length, self.options), fallback=fallback)

    def _solve(self, field: AugmentedField, z: Tensor, interval: tuple[float, float], meter: WorkMeter) -> Tensor:
        """Return the state at the end, `(…, D + K)`."""
        if torch.jit.is_tracing():
            self._check_traceable()
        progress = SolveProgress(meter, self.max_evaluations)
        if self.compile:
            field = self._compiled(field)
        state = torch.cat([z, z.new_zeros((*z.shape[:-1], field.num_integrals))], -1)
        if self._steps_here():
            end = self._step(field, state, z.shape[-1], interval, progress)
        else:
            end = self._delegate(field, (z, state[..., z.shape[-1] :]), interval, progress)
        if not torch.compiler.is_compiling() and not bool(torch.isfinite(end.detach()).all()):
            raise progress.error("the state at the end is not finite")
        progress.start_backward()
        return end

    @staticmethod
    def _compiled(field: AugmentedField) -> AugmentedField:
        if torch.jit.is_tracing() or torch.compiler.is_compiling():  # which take the operations of the plain solve
            return field
        if functorch_is_active():
            warn_uncompiled("transforms of torch.func do not see through compiled programs")
            return field
        return field.compiled()

    @property
    def has_options_of_time(self) -> bool:
        """Whether an option of these settings, or of their fallback, is a time, such as a step's length."""
        return has_times(self.options) or (self.fallback is not None and self.fallback.has_options_of_time)

    @property
    def has_fixed_steps(self) -> bool:
        """Whether steps are the same for all data, so that a solve can be recorded and run elsewhere."""
        return self._steps_here() and not TABLEAUS[self.method].is_adaptive

    def _check_traceable(self) -> None:
        """Refuse what a recorded graph would repeat wrongly: steps chosen by the data it was recorded with."""
        if not self.has_fixed_steps or self.gradient == "adjoint":
            raise InvalidInputError(
                complaint(
                    "ODESolver under torch.jit.trace",
                    "fixed steps, with gradient 'backprop' or 'recompute'",
                    f"method {self.method!r} with gradient {self.gradient!r}",
                    'Set solver=ODESolver(method="rk4", options={"step_size": 0.1}), say.',
                )
            )

    def differentiates_by_hand(self, field: AugmentedField) -> bool:
        """Return whether the backward pass of a solve would be one of its own, which gives first derivatives alone."""
        if not torch.is_grad_enabled() or torch.jit.is_tracing():
            return False  # the trace records the operations of the plain solve
        if self.gradient != "backprop":
            return True
        return self.fused and self._steps_here() and field.has_pull_back and not functorch_is_active()

    def _tolerances(self) -> tuple[float, float]:
        """Return numbers for both tolerances, also where they have no effect."""
        return self.rtol or _TOLERANCE, self.atol or _TOLERANCE

    def _steps_here(self) -> bool:
        """Whether this library steps the solve, and not torchdiffeq."""
        if self.method not in TABLEAUS:
            return False
        adaptive = TABLEAUS[self.method].is_adaptive
        known = SteppingSettings.ADAPTIVE_OPTIONS if adaptive else SteppingSettings.FIXED_OPTIONS
        return set(self.options) <= known

    def _step(
        self,
        field: AugmentedField,
        state: Tensor,
        latent_dim: int,
        interval: tuple[float, float],
        progress: SolveProgress,
    ) -> Tensor:
        # Latents and trace decide on the steps; regularisers do not.
        settings = SteppingSettings(
            TABLEAUS[self.method], *self._tolerances(), latent_dim, latent_dim + 1, self.options
        )
        if not self.differentiates_by_hand(field):
            return integrate(derivative(field, latent_dim, progress), state, interval, settings, progress)
        if self.gradient == "adjoint":
            return solve_by_continuous_adjoint(as_taped(field), state, interval, settings, progress)
        return solve_by_discrete_adjoint(
            as_taped(field), state, interval, settings, progress, keep=self.gradient == "backprop"
        )

    def _delegate(
        self,
        field: AugmentedField,
        states: tuple[Tensor, Tensor],
        interval: tuple[float, float],
        progress: SolveProgress,
    ) -> Tensor:
        """Have torchdiffeq make the solve."""
        rtol, atol = self._tolerances()
        settings = {"method": self.method, "rtol": rtol, "atol": atol, "options": self.options}
        if self.gradient != "adjoint":
            return solve_by_torchdiffeq(field, states, interval, settings, progress)
        return solve_adjoint_by_torchdiffeq(as_taped(field), states, interval, settings, progress)


def require_solver(subject: str, solver: object) -> ODESolver:
    """Return what has to be the settings of a solver.

    Raises:
        InvalidInputError: It is something else; the message begins with `subject`.
    """
    if not isinstance(solver, ODESolver):
        raise InvalidInputError(complaint(subject, "an ODESolver, such as ODESolver(rtol=1e-3)", repr(solver)))
    return solver
