"""One valid call of every public callable of `vae_flows.flows`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import vae_flows as vf
from tests.valid_calls.parts import (
    CONTEXT,
    LATENT,
    SOLVER,
    context,
    latents,
    posterior,
)
from tests.wrong_values import ValidCall
from vae_flows import flows
from vae_flows.cnf import (
    KineticEnergy,
)

__all__ = ["CALLS"]


def small_ffjord() -> vf.FFJORD:
    return vf.FFJORD(LATENT, CONTEXT, hidden_dims=(4,), rank=1, solver=SOLVER)


def conditioned(flow: Any) -> object:
    return flow(context())(latents())


def flow(kind: Any, **options: Any) -> Callable[[], ValidCall]:
    return lambda: ValidCall(kind, {"latent_dim": LATENT, "context_dim": CONTEXT, **options}, conditioned)


CALLS: dict[str, Callable[[], ValidCall]] = {
    "flows.available_flows": lambda: ValidCall(vf.available_flows),
    "flows.find_flow": lambda: ValidCall(flows.find_flow, {"name": "planar"}),
    "flows.make_flow": lambda: ValidCall(
        vf.make_flow, {"name": "planar", "latent_dim": LATENT, "context_dim": CONTEXT, "num_layers": 2}, conditioned
    ),
    "flows.register_flow": lambda: ValidCall(
        vf.register_flow, {"name": "valid-call"}, lambda register: register(type("Flow", (flows.IdentityFlow,), {}))
    ),
    "flows.AmortizedFlow": lambda: ValidCall(
        type("Flow", (flows.IdentityFlow,), {}), {"latent_dim": LATENT, "context_dim": CONTEXT}
    ),
    "flows.AmortizedFlow.condition": lambda: ValidCall(posterior().flow.condition, {"context": context()}),
    "flows.AmortizedFlow.forward": lambda: ValidCall(posterior().flow, {"context": context()}),
    "flows.IdentityFlow": flow(flows.IdentityFlow),
    "flows.PlanarFlow": flow(flows.PlanarFlow, num_layers=2),
    "flows.IAFFlow": flow(flows.IAFFlow, num_layers=2, hidden_dim=4, num_hidden=1, forget_bias=1.0),
    "flows.OrthogonalSylvesterFlow": flow(flows.OrthogonalSylvesterFlow, num_layers=2, num_orthogonal=1),
    "flows.HouseholderSylvesterFlow": flow(flows.HouseholderSylvesterFlow, num_layers=2, num_reflections=1),
    "flows.TriangularSylvesterFlow": flow(flows.TriangularSylvesterFlow, num_layers=2),
    "flows.PyroFlow": flow(flows.PyroFlow, family="planar", num_layers=1, orientation="sampling"),
    "flows.ZukoFlow": flow(flows.ZukoFlow, family="MAF", orientation="sampling", transforms=1),
    "flows.ZukoFlow.train": lambda: ValidCall(
        flows.ZukoFlow(LATENT, CONTEXT, "MAF", transforms=1, hidden_features=(4,)).train, {"mode": True}
    ),
    "flows.FFJORD": flow(
        vf.FFJORD,
        hidden_dims=(4,),
        num_blocks=1,
        amortization="low_rank",
        rank=1,
        activation="tanh",
        time_conditioning="concat",
        integration_time=0.5,
        train_integration_time=False,
        end_time_jitter=0.1,
        divergence="hutchinson",
        noise="gaussian",
        num_probes=1,
        eval_divergence="exact",
        solver=SOLVER,
        eval_solver=SOLVER,
        regularizers=(KineticEnergy(0.1),),
    ),
    "flows.FFJORD.condition": lambda: ValidCall(
        small_ffjord().condition, {"context": context()}, lambda t: t(latents())
    ),
}
