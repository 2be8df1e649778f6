"""Who takes part at which size. A further peer is one file beside this one, and one row."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module

from experiments.speed.competitors.competitor import Competitor, Entrant
from experiments.speed.competitors.published_formulation import PublishedFormulation
from experiments.speed.competitors.this_library import ThisLibrary
from experiments.speed.problems import LOW_RANK, TINY_LOW_RANK, Problem, Size

__all__ = ["BASELINE", "DIFFRAX", "EXACT", "PEER_PACKAGES", "PUBLISHED", "ZUKO", "entrants_at"]

BASELINE, EXACT, PUBLISHED = "backprop", "backprop, exact trace", "published formulation"
ZUKO, DIFFRAX = "zuko", "diffrax"
PEER_PACKAGES = ("zuko", "jax", "jaxlib", "diffrax")
_LEFT_TO_TORCHDIFFEQ = {"min_step": 0.0}
"""An option of torchdiffeq's alone, its default: the same dynamics and divergence, stepped by torchdiffeq."""


def entrants_at(size: Size) -> dict[str, Entrant]:
    """Return those that take part at a size, by name."""
    shared_weights, with_published = size.amortization != "low_rank", size in (LOW_RANK, TINY_LOW_RANK)
    torchdiffeq = {"options": _LEFT_TO_TORCHDIFFEQ}
    rows = [
        (True, Entrant(BASELINE, ThisLibrary)),
        (True, Entrant("backprop, not fused", partial(ThisLibrary, fused=False))),
        (True, Entrant("recompute", partial(ThisLibrary, gradient="recompute"))),
        (True, Entrant("adjoint", partial(ThisLibrary, gradient="adjoint"))),
        (shared_weights, Entrant(EXACT, partial(ThisLibrary, divergence="exact"), divergence="exact")),
        (True, Entrant("backprop, torchdiffeq", partial(ThisLibrary, **torchdiffeq))),
        (
            shared_weights or with_published,
            Entrant("adjoint, torchdiffeq", partial(ThisLibrary, gradient="adjoint", **torchdiffeq), max_rounds=2),
        ),
        (with_published, Entrant(PUBLISHED, PublishedFormulation, max_rounds=2)),  # it takes seconds per step
        (True, Entrant(ZUKO, _peer("zuko_peer"), packages=("zuko",), divergence=None)),
        (size.amortization != "concat", Entrant(DIFFRAX, _peer("diffrax_peer"), packages=("jax", "diffrax"))),
    ]
    return {entrant.name: entrant for takes_part, entrant in rows if takes_part}


def _peer(module: str) -> Callable[[Problem], Competitor]:
    """Return what imports the `Peer` of a module beside this one when it is built: its packages may be missing."""
    return lambda problem: import_module(f"experiments.speed.competitors.{module}").Peer(problem)
