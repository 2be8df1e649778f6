"""The flows of the library, small, and several kinds of FFJORD solved closely enough for finite differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vae_flows.cnf import ODESolver
from vae_flows.flows import (
    FFJORD,
    AmortizedFlow,
    HouseholderSylvesterFlow,
    IAFFlow,
    IdentityFlow,
    OrthogonalSylvesterFlow,
    PlanarFlow,
    TriangularSylvesterFlow,
)

Build = Callable[[int, int], AmortizedFlow]
CLOSE = {"rtol": 1e-7, "atol": 1e-7}

DISCRETE: dict[str, Build] = {
    "none": IdentityFlow,
    "planar": lambda d, c: PlanarFlow(d, c, num_layers=2),
    "sylvester-orthogonal": lambda d, c: OrthogonalSylvesterFlow(d, c, num_layers=2, num_orthogonal=2),
    "sylvester-householder": lambda d, c: HouseholderSylvesterFlow(d, c, num_layers=2, num_reflections=3),
    "sylvester-triangular": lambda d, c: TriangularSylvesterFlow(d, c, num_layers=2),
    "iaf": lambda d, c: IAFFlow(d, c, num_layers=2, hidden_dim=8),
}


def ffjord(**options: object) -> Build:
    solver = ODESolver(**{**CLOSE, **options.pop("solver", {})})
    return lambda d, c: FFJORD(d, c, **{"hidden_dims": (6,), "rank": 2, "solver": solver, **options})


CONTINUOUS: dict[str, Build] = {
    "ffjord-low-rank": ffjord(),
    "ffjord-bias-two-blocks": ffjord(amortization="bias", num_blocks=2, noise="rademacher"),
    "ffjord-concat-blend-swish": ffjord(amortization="concat", time_conditioning="blend", activation="swish"),
    "ffjord-hyper-learned-time": ffjord(amortization="hyper", hidden_dims=(6, 5), train_integration_time=True),
    "ffjord-last-layer-squash": ffjord(amortization="last_layer", time_conditioning="squash", activation="tanh"),
    "ffjord-deep-recompute": ffjord(hidden_dims=(5, 5, 5), solver={"gradient": "recompute"}),
    "ffjord-adjoint": ffjord(amortization="bias", solver={"gradient": "adjoint"}),
    "ffjord-fixed-steps": ffjord(solver={"method": "rk4", "options": {"step_size": 0.05}}),
    "ffjord-brute-force": ffjord(eval_divergence="brute_force", activation="sine"),
}


def made(build: Build, latent_dim: int, context_dim: int) -> AmortizedFlow:
    """Build in float64, with parameters moved off a start at zero, where a flow could be right by accident."""
    flow = build(latent_dim, context_dim).double().eval()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return flow


@pytest.fixture
def kinds() -> dict[str, Build]:
    """Every kind that the tests of this folder know, by name."""
    return {**DISCRETE, **CONTINUOUS}


@pytest.fixture(params=[*DISCRETE, *CONTINUOUS])
def make_any_flow(request: pytest.FixtureRequest) -> Callable[[int, int], AmortizedFlow]:
    """Make a flow of a latent and a context size; once for each kind."""
    return lambda d, c: made({**DISCRETE, **CONTINUOUS}[request.param], d, c)


@pytest.fixture(params=[*DISCRETE, "ffjord-low-rank", "ffjord-bias-two-blocks"])
def make_flow(request: pytest.FixtureRequest) -> Callable[[int, int], AmortizedFlow]:
    """Make a flow; once for each of the registry and for one block and two of FFJORD."""
    return lambda d, c: made({**DISCRETE, **CONTINUOUS}[request.param], d, c)


@pytest.fixture(params=DISCRETE)
def make_discrete_flow(request: pytest.FixtureRequest) -> Callable[[int, int], AmortizedFlow]:
    """Make a flow that needs no solve; once for each."""
    return lambda d, c: made(DISCRETE[request.param], d, c)


@pytest.fixture
def make_ffjord() -> Callable[..., FFJORD]:
    """Make a FFJORD flow with options of its own."""

    def make(d: int, c: int, **options: object) -> FFJORD:
        flow = made(ffjord(**options), d, c)
        assert isinstance(flow, FFJORD)
        return flow

    return make
