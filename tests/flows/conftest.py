"""Small flows of the library, in float64 and off their start."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.small_flows import DISCRETE, FFJORDS, ffjord, moved
from vae_flows.flows import FFJORD, AmortizedFlow

Build = Callable[[int, int], AmortizedFlow]
KINDS = {**DISCRETE, **FFJORDS}


def maker(kind: str) -> Build:
    return lambda d, c: moved(KINDS[kind].build(d, c))


@pytest.fixture
def kinds() -> dict[str, Build]:
    """Every kind that the tests of this folder know, by name."""
    return {name: kind.build for name, kind in KINDS.items()}


@pytest.fixture(params=KINDS)
def make_any_flow(request: pytest.FixtureRequest) -> Callable[[int, int], AmortizedFlow]:
    """Make a flow of a latent and a context size; once for each kind."""
    return maker(request.param)


@pytest.fixture(params=[*DISCRETE, "ffjord-low-rank", "ffjord-bias-two-blocks"])
def make_flow(request: pytest.FixtureRequest) -> Callable[[int, int], AmortizedFlow]:
    """Make a flow; once for each of the registry and for one block and two of FFJORD."""
    return maker(request.param)


@pytest.fixture(params=DISCRETE)
def make_discrete_flow(request: pytest.FixtureRequest) -> Callable[[int, int], AmortizedFlow]:
    """Make a flow that needs no solve; once for each."""
    return maker(request.param)


@pytest.fixture
def make_ffjord() -> Callable[..., FFJORD]:
    """Make a FFJORD flow with options of its own."""

    def make(d: int, c: int, **options: object) -> FFJORD:
        flow = moved(ffjord(**options).build(d, c))
        assert isinstance(flow, FFJORD)
        return flow

    return make
