"""One valid call of every public callable of `vae_flows.guides`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.distributions import constraints

import vae_flows as vf
from tests.valid_calls.parts import (
    BATCH,
    CONTEXT,
    called_in_store,
    model,
    posterior,
)
from tests.wrong_values import ValidCall

__all__ = ["CALLS"]


class Encoder(nn.Linear):
    """A network of the caller's own, whose errors are its own."""

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(x)


def in_store(guide: Callable[..., Any]) -> object:
    with pyro.get_param_store().scope():
        return guide(torch.rand(BATCH, 1))


def flow_guide() -> vf.FlowGuide:
    return vf.FlowGuide(Encoder(1, CONTEXT), posterior())


CALLS: dict[str, Callable[[], ValidCall]] = {
    "guides.FlowGuide": lambda: ValidCall(
        vf.FlowGuide,
        {
            "encoder": Encoder(1, CONTEXT),
            "posterior": posterior(),
            "site": "z",
            "plate": "data",
            "packing": "joint",
            "encoder_inputs": lambda x: x,
        },
        in_store,
    ),
    "guides.FlowGuide.forward": lambda: called_in_store(lambda x: flow_guide()(x), {"x": torch.rand(BATCH, 1)}),
    "guides.FlowGuide.check": lambda: called_in_store(
        lambda model, x: flow_guide().check(model, x), {"model": model, "x": torch.rand(BATCH, 1)}
    ),
    "guides.AmortizedAutoGuide": lambda: ValidCall(
        vf.AmortizedAutoGuide,
        {
            "model": model,
            "encoder": Encoder(1, CONTEXT),
            "flow": "planar",
            "context_dim": CONTEXT,
            "packing": "joint",
            "plate": "data",
            "encoder_inputs": lambda x: x,
            "num_layers": 1,
        },
        in_store,
    ),
    "guides.AmortizedAutoGuide.setup": lambda: called_in_store(
        lambda x: vf.AmortizedAutoGuide(model, Encoder(1, 3), "planar").setup(x), {"x": torch.rand(BATCH, 1)}
    ),
    "guides.AmortizedAutoGuide.forward": lambda: called_in_store(
        lambda x: vf.AmortizedAutoGuide(model, Encoder(1, 3), "planar")(x), {"x": torch.rand(BATCH, 1)}
    ),
    "guides.LocalSite": lambda: ValidCall(
        vf.LocalSite, {"name": "z", "event_shape": (2,), "support": constraints.positive}, lambda site: site.transform()
    ),
    "guides.LocalSite.transform": lambda: ValidCall(vf.LocalSite("z").transform),
}
