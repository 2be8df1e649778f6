"""One valid call of every public callable of `vae_flows.testing`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tests.wrong_values import ValidCall
from vae_flows import flows, testing

__all__ = ["CALLS"]


CALLS: dict[str, Callable[[], ValidCall]] = {
    "testing.FlowContract": lambda: ValidCall(
        testing.FlowContract,
        {
            "build": flows.IdentityFlow,
            "latent_dim": 2,
            "context_dim": 3,
            "tolerance": 1e-8,
            "latent_scale": 1.0,
            "seed": 0,
        },
        lambda contract: contract.flow(),
    ),
    "testing.FlowContract.flow": lambda: ValidCall(testing.FlowContract(flows.IdentityFlow).flow, {"latent_dim": 2}),
    "testing.FlowContract.fresh": lambda: ValidCall(testing.FlowContract(flows.IdentityFlow).fresh, {"latent_dim": 2}),
    "testing.FlowContract.context": lambda: ValidCall(
        testing.FlowContract(flows.IdentityFlow).context, {"dtype": torch.float64}
    ),
    "testing.FlowContract.latents": lambda: ValidCall(
        testing.FlowContract(flows.IdentityFlow).latents, {"dtype": torch.float64}
    ),
    "testing.check_flow": lambda: ValidCall(
        testing.check_flow, {"build": flows.IdentityFlow, "latent_dim": 2, "tolerance": 1e-8}
    ),
}
