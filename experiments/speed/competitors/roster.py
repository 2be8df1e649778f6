"""Who takes part where. A further peer is one file beside this one, and one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from experiments.speed.competitors.competitor import Competitor, Entrant
from experiments.speed.competitors.published_formulation import PublishedFormulation
from experiments.speed.competitors.this_library import ThisLibrary
from experiments.speed.problems import BIAS, INTEGRATION_TIME, LOW_RANK, TINY_LOW_RANK, Problem, Size

__all__ = [
    "BASELINE",
    "COMPILED",
    "DIFFRAX",
    "EXACT",
    "METHOD",
    "MODES",
    "PEERS",
    "PEER_PACKAGES",
    "PUBLISHED",
    "PYRO",
    "TORCHODE",
    "ZUKO",
    "entrants_at",
    "modes_over",
]

BASELINE, EXACT, PUBLISHED = "backprop", "backprop, exact trace", "published formulation"
ZUKO, DIFFRAX, TORCHODE, PYRO = "zuko", "diffrax", "torchode", "Pyro"
COMPILED = "backprop, compiled"
PEERS = (PUBLISHED, ZUKO, DIFFRAX, TORCHODE, PYRO)
PEER_PACKAGES = ("zuko", "jax", "jaxlib", "diffrax", "torchode")
METHOD = "rk4"
MODES: Mapping[str, Mapping[str, Any]] = {
    BASELINE: {},
    "backprop, not fused": {"fused": False},
    "recompute": {"gradient": "recompute"},
    "adjoint": {"gradient": "adjoint"},
}
"""This library's gradient modes."""

_LEFT_TO_TORCHDIFFEQ = {"min_step": 0.0}
"""An option of torchdiffeq's alone, its default: the same dynamics and divergence, stepped by torchdiffeq."""


def entrants_at(size: Size) -> dict[str, Entrant]:
    """Return those that take part at a size, by name."""
    shared_weights, with_published = size.amortization != "low_rank", size in (LOW_RANK, TINY_LOW_RANK)
    torchdiffeq = {"options": _LEFT_TO_TORCHDIFFEQ}
    rows = [
        *((True, Entrant(mode, partial(ThisLibrary, **settings))) for mode, settings in MODES.items()),
        (size in (LOW_RANK, BIAS), Entrant(COMPILED, partial(ThisLibrary, compile=True))),
        (shared_weights, Entrant(EXACT, partial(ThisLibrary, divergence="exact"), divergence="exact")),
        (True, Entrant("backprop, torchdiffeq", partial(ThisLibrary, **torchdiffeq))),
        (
            shared_weights or with_published,
            Entrant("adjoint, torchdiffeq", partial(ThisLibrary, gradient="adjoint", **torchdiffeq), max_rounds=2),
        ),
        (with_published, Entrant(PUBLISHED, PublishedFormulation, max_rounds=2)),  # it takes seconds per step
        (True, Entrant(ZUKO, _peer("zuko_peer"), packages=("zuko",), divergence=None)),
        (size.amortization != "concat", Entrant(DIFFRAX, _peer("diffrax_peer"), packages=("jax", "diffrax"))),
        (True, Entrant(TORCHODE, _peer("torchode_peer"), packages=("torchode",))),
    ]
    return {entrant.name: entrant for takes_part, entrant in rows if takes_part}


def modes_over(steps: int) -> dict[str, Entrant]:
    """Return the gradient modes over a number of fixed steps, by name.

    In the literature backpropagation takes memory in proportion to the steps, a discrete adjoint that keeps states
    alone takes that of one step and of the states, and the continuous adjoint takes none that grows.
    """
    fixed: dict[str, Any] = {"options": {"step_size": INTEGRATION_TIME / steps}, "max_evaluations": 100 * steps}
    build = partial(ThisLibrary, method=METHOD, **fixed)
    return {mode: Entrant(mode, partial(build, **settings), divergence=None) for mode, settings in MODES.items()}


def _peer(module: str) -> Callable[[Problem], Competitor]:
    """Return what imports the `Peer` of a module beside this one when it is built: its packages may be missing."""
    return lambda problem: import_module(f"experiments.speed.competitors.{module}").Peer(problem)
