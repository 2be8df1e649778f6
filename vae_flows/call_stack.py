"""Who is calling: the line that a warning points at, and the objective of Pyro that asks for a density."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from itertools import takewhile
from types import FrameType

import torch

from vae_flows.errors import BiasedBoundWarning, complaint

__all__ = ["calling_objective", "warn", "warn_of_bias"]

# Between a program and the library stand those through which it calls.
_PASSED_THROUGH = {"vae_flows", "torch", "pyro", "lightning", "lightning_fabric", "contextlib", "functools"}

# Modules of Pyro that average weights p / q, not their logarithms; those of objectives that do so of several particles;
# and that of the base class of all objectives.
_WEIGH = {"pyro.infer.importance", "pyro.infer.smcfilter", "pyro.infer.tracetmc_elbo"}
_WEIGH_PARTICLES = {"pyro.infer.renyi_elbo", "pyro.infer.rws", "pyro.infer.trace_tail_adaptive_elbo"}
_OBJECTIVE = "pyro.infer.elbo"


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn of the line that calls the library, be it by way of torch, Pyro or Lightning.

    Example:
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn("low in digits")
        >>> caught[0].category, str(caught[0].message)
        (<class 'UserWarning'>, 'low in digits')
    """
    passed = takewhile(lambda frame: _module(frame).partition(".")[0] in _PASSED_THROUGH, _frames(sys._getframe()))
    warnings.warn(message, category, stacklevel=1 + sum(1 for _ in passed))


def warn_of_bias(objective: str, density: str) -> None:
    """Give the `BiasedBoundWarning` that an objective gets noisy estimates of a density, in which it is not linear.

    Arguments:
        objective: What the objective is called.
        density: What the logarithm of the density is called.
    """
    expected = f"an exact {density}, in which it is not linear"
    got = "noisy estimates, with which it is biased: a bound may exceed log p(x), and its gradients are biased"
    remedy = "Call eval() first, or make the flow with divergence='exact'."
    warn(complaint(objective, expected, got, remedy), BiasedBoundWarning)


def calling_objective() -> str | None:
    """Name the objective of Pyro that is running and is not linear in log-densities; `None` where there is none.

    Pyro does not tell a guide for what it runs, so that the functions that are being called are looked at: those of
    `RenyiELBO`, `ReweightedWakeSleep` and `TraceTailAdaptive_ELBO` with several particles, `TraceTMC_ELBO`, `SMCFilter`
    and importance sampling.
    """
    if torch.compiler.is_compiling():  # which follows no frames
        return None
    for frame in _frames(sys._getframe()):
        name = _module(frame)
        if name in _WEIGH:
            return name
        if name.startswith("pyro.infer.") and frame.f_code.co_varnames[:1] == ("self",):
            objective = frame.f_locals["self"]
            kinds = {kind.__module__ for kind in type(objective).__mro__}
            if _OBJECTIVE in kinds:
                weighs = kinds & _WEIGH_PARTICLES and objective.num_particles > 1
                return type(objective).__name__ if weighs else None
    return None


def _frames(innermost: FrameType) -> Iterator[FrameType]:
    """Yield a frame and those that it was called from, from within outwards."""
    frame: FrameType | None = innermost
    while frame is not None:
        yield frame
        frame = frame.f_back


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
