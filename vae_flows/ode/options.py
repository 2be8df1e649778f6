"""The options of ODE methods: which there are, of what type and range, checked when a solver is made.

torchdiffeq takes options as they come: a misspelt one is a warning at most, and a wrong value a crash in the midst of a
solve or a solve of a single step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_flows.errors import InvalidInputError, complaint, unknown_name

__all__ = ["check_options", "has_times", "has_tolerances", "in_units_of", "is_number", "require_named"]


class _Kind(NamedTuple):
    """What values an option may have."""

    expected: str
    holds: Callable[[Any], bool]


def is_number(value: object) -> bool:
    """Return whether `value` is a finite real number, which a truth value is not.

    Example:
        >>> is_number(1e-3), is_number("1e-3"), is_number(float("nan")), is_number(True)
        (True, False, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def require_named(kind: str, name: object, available: Mapping[str, Any] | tuple[str, ...]) -> None:
    """Check that `name` is a string among `available`.

    Raises:
        UnknownNameError: It is another string; the nearest names are given.
        InvalidInputError: It is no string.
    """
    if not isinstance(name, str):
        raise InvalidInputError(complaint(kind, "a name", repr(name)))
    if name not in available:
        raise unknown_name(kind, name, available)


def _times_hold(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.dim() == 1 and value.is_floating_point() and bool(value.isfinite().all())
    return False


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_POSITIVE = _Kind("a positive number", lambda value: is_number(value) and value > 0)
_NOT_NEGATIVE = _Kind("a number that is not negative", lambda value: is_number(value) and value >= 0)
_FRACTION = _Kind("a number above 0 and below 1", lambda value: is_number(value) and 0 < value < 1)
_UP_TO_ONE = _Kind("a number above 0 and at most 1", lambda value: is_number(value) and 0 < value <= 1)
_GROWTH = _Kind("a number above 1", lambda value: is_number(value) and value > 1)
_COUNT = _Kind("a positive integer", lambda value: _is_count(value) and value > 0)
_ORDER = _Kind("an integer from 1 to 12", lambda value: _is_count(value) and 1 <= value <= 12)
_SWITCH = _Kind("True or False", lambda value: isinstance(value, bool))
_FUNCTION = _Kind("a function", callable)
_TIMES = _Kind("a floating-point tensor of times, of one dimension", _times_hold)
_DTYPE = _Kind("torch.float32 or torch.float64", lambda value: value in (torch.float32, torch.float64))

_ADAPTIVE = {
    "first_step": _POSITIVE,
    "max_step": _Kind("a positive number", lambda value: _POSITIVE.holds(value) or value == math.inf),
    "safety": _UP_TO_ONE,
    "ifactor": _GROWTH,
    "dfactor": _FRACTION,
    # Those that follow are torchdiffeq's alone.
    "min_step": _NOT_NEGATIVE,
    "max_num_steps": _COUNT,
    "step_t": _TIMES,
    "jump_t": _TIMES,
    "dtype": _DTYPE,
    "norm": _FUNCTION,
}
_FIXED = {
    "step_size": _POSITIVE,
    "grid_constructor": _FUNCTION,
    "interp": _Kind("'linear' or 'cubic'", lambda value: value in ("linear", "cubic")),
    "perturb": _SWITCH,
}
_ADAMS = {**_FIXED, "max_iters": _COUNT, "max_order": _ORDER}
_WITHOUT_TOLERANCES = ("euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams")
_SCIPY_METHODS = ("BDF", "DOP853", "LSODA", "RK23", "RK45", "Radau")
_SCIPY = {
    "solver": _Kind(f"one of {', '.join(_SCIPY_METHODS)}", lambda value: value in _SCIPY_METHODS),
    "min_step": _NOT_NEGATIVE,
    "max_step": _ADAPTIVE["max_step"],
}

_TIME_OPTIONS = frozenset({"step_size", "first_step", "min_step", "max_step", "step_t", "jump_t"})
_OPTIONS: Mapping[str, Mapping[str, _Kind]] = {
    **dict.fromkeys(("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun"), _ADAPTIVE),
    **{method: _ADAMS if method == "explicit_adams" else _FIXED for method in _WITHOUT_TOLERANCES},
    "implicit_adams": {**_ADAMS, "implicit": _SWITCH},
    "fixed_adams": {**_ADAMS, "implicit": _SWITCH},
    "scipy_solver": _SCIPY,
}


def in_units_of(length: float, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options for times that are measured in units of `length`: steps and times are divided by it.

    Example:
        >>> in_units_of(2.0, {"step_size": 0.1, "perturb": True})
        {'step_size': 0.05, 'perturb': True}
    """
    scaled = dict(options)
    for name in _TIME_OPTIONS & options.keys():
        scaled[name] = options[name] / length
    if "grid_constructor" in options:
        construct = options["grid_constructor"]
        scaled["grid_constructor"] = lambda function, state, times: construct(function, state, times * length) / length
    return scaled


def has_times(options: Mapping[str, Any]) -> bool:
    """Return whether an option is a time, or gives times.

    Example:
        >>> has_times({"max_step": 0.1}), has_times({"safety": 0.8})
        (True, False)
    """
    return not options.keys().isdisjoint({*_TIME_OPTIONS, "grid_constructor"})


def has_tolerances(method: str) -> bool:
    """Return whether a method looks at its tolerances: to choose its steps, or to end the iteration of an implicit one.

    Example:
        >>> has_tolerances("dopri5"), has_tolerances("implicit_adams"), has_tolerances("rk4")
        (True, True, False)
    """
    return method not in _WITHOUT_TOLERANCES


def check_options(method: str, options: object) -> None:
    """Check that a method knows all of its options, and that their values are of the right type and range.

    Raises:
        UnknownNameError: There is no such method, or it has no such option; the nearest names are given.
        InvalidInputError: The options are no mapping, a value is wrong, or two options exclude each other.

    Example:
        >>> check_options("rk4", {"stepsize": 0.1})
        Traceback (most recent call last):
        vae_flows.errors.UnknownNameError: option of method 'rk4': expected one of grid_constructor, interp, perturb, \
step_size, got 'stepsize'. Did you mean 'step_size'?
    """
    require_named("ODE method", method, _OPTIONS)
    if not isinstance(options, Mapping):
        expected = "a mapping from names to values, such as {'step_size': 0.05}"
        raise InvalidInputError(complaint("ODESolver options", expected, repr(options)))
    known = _OPTIONS[method]
    for name, value in options.items():
        require_named(f"option of method {method!r}", name, known)
        if not _holds(known[name], value):
            raise InvalidInputError(
                complaint(f"option {name!r} of method {method!r}", known[name].expected, repr(value))
            )
    if {"step_size", "grid_constructor"} <= set(options):
        subject = f"options of method {method!r}"
        raise InvalidInputError(complaint(subject, "'step_size' or 'grid_constructor'", "both"))


def _holds(kind: _Kind, value: Any) -> bool:
    """Return whether a value is of the kind; one that cannot be compared at all is not."""
    try:
        return bool(kind.holds(value))
    except (TypeError, ValueError, RuntimeError):
        return False
