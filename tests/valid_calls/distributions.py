"""One valid call of every public callable of `vae_flows.distributions`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Size

import vae_flows as vf
from tests.valid_calls.parts import (
    BATCH,
    base,
    density,
    drawn,
    latents,
    planar,
)
from tests.wrong_values import ValidCall
from vae_flows import distributions

__all__ = ["CALLS"]


CALLS: dict[str, Callable[[], ValidCall]] = {
    "distributions.DiagonalNormal": lambda: ValidCall(
        vf.DiagonalNormal, {"loc": torch.zeros(2), "scale": torch.ones(2), "validate_args": True}, drawn
    ),
    "distributions.DiagonalNormal.expand": lambda: ValidCall(base().expand, {"batch_shape": (5, BATCH)}, drawn),
    "distributions.DiagonalNormal.rsample": lambda: ValidCall(base().rsample, {"sample_shape": (5,)}),
    "distributions.DiagonalNormal.sample": lambda: ValidCall(base().sample, {"sample_shape": (5,)}),
    "distributions.DiagonalNormal.log_prob": lambda: ValidCall(base().log_prob, {"value": latents()}),
    "distributions.DiagonalNormal.entropy": lambda: ValidCall(base().entropy),
    "distributions.FlowDistribution": lambda: ValidCall(
        vf.FlowDistribution, {"base_distribution": base(), "transforms": [planar()], "validate_args": False}, drawn
    ),
    "distributions.FlowDistribution.expand": lambda: ValidCall(density().expand, {"batch_shape": (5, BATCH)}, drawn),
    "distributions.FlowDistribution.rsample": lambda: ValidCall(density().rsample, {"sample_shape": (5,)}),
    "distributions.FlowDistribution.sample": lambda: ValidCall(density().sample, {"sample_shape": (5,)}),
    "distributions.FlowDistribution.log_prob": lambda: ValidCall(density().log_prob, {"value": latents()}),
    "distributions.FlowDistribution.rsample_with_log_prob": lambda: ValidCall(
        density().rsample_with_log_prob, {"sample_shape": (5,)}
    ),
    "distributions.FlowDistribution.rsample_with_score": lambda: ValidCall(
        density().rsample_with_score, {"sample_shape": (5,)}
    ),
    "distributions.FlowDistribution.draw": lambda: ValidCall(
        density().draw, {"sample_shape": (5,), "with_score": True}
    ),
    "distributions.FlowDistribution.evaluate": lambda: ValidCall(density().evaluate, {"value": latents()}),
    "distributions.evaluate": lambda: ValidCall(distributions.evaluate, {"q": density(), "value": latents()}),
    "distributions.draw_from": lambda: ValidCall(
        distributions.draw_from, {"q": density(), "sample_shape": (5,), "with_score": True}
    ),
    "distributions.require_reparameterized": lambda: ValidCall(distributions.require_reparameterized, {"q": density()}),
    "distributions.rsample_with_score": lambda: ValidCall(
        distributions.rsample_with_score, {"q": density(), "sample_shape": (5,)}
    ),
    "distributions.FlowDistribution.entropy": lambda: ValidCall(
        distributions.FlowDistribution(
            distributions.DiagonalNormal(torch.zeros(2), torch.ones(2)), vf.transforms.IdentityTransform(2, Size())
        ).entropy
    ),
}
