"""The engine of methods beyond the library's own: torchdiffeq, with the same counts, cap and errors as all solves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torchdiffeq import odeint, odeint_adjoint
from torchdiffeq._impl.odeint import SOLVERS

from vae_flows.ode.fields import AugmentedField, TapedField, Time
from vae_flows.ode.progress import SolveProgress
from vae_flows.ode.stepping import fixed_steps
from vae_flows.ode.tapes import SECOND_DERIVATIVES, differentiable
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
    function, times, arguments = _prepare(field.evaluate, states, interval, settings, progress)
    try:
        found = cast(tuple[Tensor, Tensor], odeint(function, states, times, **arguments))
    except AssertionError as failure:
        raise progress.error(str(failure)) from failure
    return _end(found)


def solve_adjoint_by_torchdiffeq(
    field: TapedField,
    states: tuple[Tensor, Tensor],
    interval: tuple[float, float],
    settings: Mapping[str, Any],
    progress: SolveProgress,
) -> Tensor:
    """Integrate as `solve_by_torchdiffeq` does, with gradients by torchdiffeq's continuous adjoint.

    Its error norm is the seminorm, which leaves the weights' gradients out (Kidger et al. 2021).

    Arguments:
        field: What is integrated.
        states: Latents `(…, D)` and integrals `(…, K)` at the start.
        interval: Start and end time.
        settings: torchdiffeq's `method`, `rtol`, `atol` and `options`.
        progress: Counts the work and keeps the cap.

    Raises:
        IntegrationError: The cap was met, or torchdiffeq gave up.
        InvalidInputError: The field uses tensors with gradients that it does not name.
    """
    # Views: torchdiffeq would pass gradients on from a tensor to others that it was computed from.
    tensors = [tensor.view_as(tensor) for tensor in field.tensors()]
    function, times, arguments = _prepare(differentiable(field, tensors), states, interval, settings, progress)
    if torch.is_grad_enabled() and not field.has_pull_back:
        field.check_tape(field.record(times[0], states[0])[1])
    arguments["adjoint_params"] = tuple(tensors)
    arguments["adjoint_options"] = {**arguments["options"], "norm": "seminorm"}
    try:
        found = cast(tuple[Tensor, Tensor], odeint_adjoint(function, states, times, **arguments))
    except AssertionError as failure:
        raise progress.error(str(failure)) from failure
    return _end(first_order_only(SECOND_DERIVATIVES, *found))


def _prepare(
    evaluate: Callable[[Time, Tensor], tuple[Tensor, Tensor]],
    states: tuple[Tensor, Tensor],
    interval: tuple[float, float],
    settings: Mapping[str, Any],
    progress: SolveProgress,
) -> tuple[_Function, Tensor, dict[str, Any]]:
    function = _Function(evaluate, settings["method"], progress)
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

    def __init__(
        self, evaluate: Callable[[Time, Tensor], tuple[Tensor, Tensor]], method: str, progress: SolveProgress
    ) -> None:
        self._evaluate = evaluate
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
            return self._evaluate(t, states[0])

    def _on_step(self, t: Tensor, state: object, step_size: Tensor) -> None:
        del state
        self._progress.attempt(float(t.detach()), float(step_size.detach()))
        if self._fixed_steps:
            self._progress.accept()
