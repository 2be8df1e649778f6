"""The engine of methods beyond the library's own: torchdiffeq, with the same counts, cap and errors as all solves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torchdiffeq import odeint, odeint_adjoint
from torchdiffeq._impl.odeint import SOLVERS

from vae_flows.ode.fields import AugmentedField, TapedField
from vae_flows.ode.progress import SolveProgress
from vae_flows.ode.stepping import fixed_steps
from vae_flows.ode.tapes import SECOND_DERIVATIVES, AutogradTape
from vae_flows.tensors.derivatives import first_order_only
from vae_flows.tensors.precision import full_precision

__all__ = ["solve_adjoint_by_torchdiffeq", "solve_by_torchdiffeq"]


def solve_by_torchdiffeq(
    field: AugmentedField,
    states: tuple[Tensor, Tensor],
    interval: tuple[float, float],
    settings: Mapping[str, Any],
    progress: SolveProgress,
) -> Tensor:
    """Integrate latents and integrals as two states, whose errors are both kept.

    Arguments:
        field: What is integrated.
        states: Latents `(…, D)` and integrals `(…, K)` at the start.
        interval: Start and end time.
        settings: torchdiffeq's `method`, `rtol`, `atol` and `options`.
        progress: Counts the work and keeps the cap.

    Returns:
        The state at the end, `(…, D + K)`.

    Raises:
        IntegrationError: The cap was met, or torchdiffeq gave up.
    """
    function, times, arguments = _prepare(field.isolated(), states, interval, settings, progress)
    try:
        found = cast(tuple[Tensor, Tensor], odeint(function, states, times, **arguments))
    except AssertionError as failure:
        raise progress.error(str(failure)) from failure
    return _end(found)


def solve_adjoint_by_torchdiffeq(
    field: AugmentedField,
    states: tuple[Tensor, Tensor],
    interval: tuple[float, float],
    settings: Mapping[str, Any],
    progress: SolveProgress,
    *,
    check_captured: bool,
) -> Tensor:
    """Integrate as `solve_by_torchdiffeq` does, with gradients by torchdiffeq's continuous adjoint.

    Its error norm is the seminorm, which leaves the weights' gradients out (Kidger et al. 2021).

    Arguments:
        field: What is integrated.
        states: Latents `(…, D)` and integrals `(…, K)` at the start.
        interval: Start and end time.
        settings: torchdiffeq's `method`, `rtol`, `atol` and `options`.
        progress: Counts the work and keeps the cap.
        check_captured: Whether to refuse fields that use tensors with gradients which they do not name.
    """
    field = field.isolated()
    function, times, arguments = _prepare(field, states, interval, settings, progress)
    if check_captured:
        taped = field if isinstance(field, TapedField) else AutogradTape(field)
        taped.check_captured()
        taped.record(times[0], states[0])
    arguments["adjoint_params"] = tuple(field.tensors())
    arguments["adjoint_options"] = {**arguments["options"], "norm": "seminorm"}
    try:
        found = cast(tuple[Tensor, Tensor], odeint_adjoint(function, states, times, **arguments))
    except AssertionError as failure:
        raise progress.error(str(failure)) from failure
    return _end(first_order_only(SECOND_DERIVATIVES, *found))


def _prepare(
    field: AugmentedField,
    states: tuple[Tensor, Tensor],
    interval: tuple[float, float],
    settings: Mapping[str, Any],
    progress: SolveProgress,
) -> tuple[_Function, Tensor, dict[str, Any]]:
    function = _Function(field, settings["method"], progress)
    times = torch.tensor(interval, dtype=states[0].dtype, device=states[0].device)
    return function, times, {**settings, "options": _capped(settings["options"], interval, progress)}


def _end(found: tuple[Tensor, ...]) -> Tensor:
    latents, integrals = found
    return torch.cat([latents[-1], integrals[-1]], -1)


def _capped(options: Mapping[str, Any], interval: tuple[float, float], progress: SolveProgress) -> dict[str, Any]:
    """Return torchdiffeq's options; a list of fixed steps has to keep to the cap before it is made."""
    options = dict(options)
    if "step_size" in options:
        progress.require(fixed_steps(interval[1] - interval[0], options["step_size"]))
    if "grid_constructor" in options:
        construct = options["grid_constructor"]

        def capped(function: object, state: Tensor, times: Tensor) -> Tensor:
            grid = construct(function, state, times)
            progress.require(len(grid) - 1)
            return grid

        options["grid_constructor"] = capped
    return options


class _Function:
    """The right-hand side as torchdiffeq calls it, with the callbacks by which it tells of its steps."""

    def __init__(self, field: AugmentedField, method: str, progress: SolveProgress) -> None:
        self._field = field
        self._progress = progress
        # torchdiffeq finds callbacks by attribute, and warns of those that the method does not call.
        callbacks = {
            "callback_step": self._on_step,
            "callback_accept_step": lambda *_: progress.accept(),
            "callback_reject_step": lambda *_: progress.reject(),
        }
        supported = SOLVERS[method].valid_callbacks()
        self._fixed_steps = "callback_accept_step" not in supported
        for name in supported & set(callbacks):
            setattr(self, name, callbacks[name])

    def __call__(self, t: Tensor, states: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        self._progress.evaluate()
        # The backward pass of the adjoint may be called inside of automatic mixed precision.
        with full_precision(t):
            return self._field.evaluate(t, states[0])

    def _on_step(self, t: Tensor, state: object, step_size: Tensor) -> None:
        del state
        self._progress.attempt(float(t.detach()), float(step_size.detach()))
        if self._fixed_steps:
            self._progress.accept()
