"""One valid call of every public callable of `vae_flows.transforms`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Size, Tensor
from torch.distributions.transforms import ExpTransform

import vae_flows as vf
from tests.valid_calls.parts import (
    CONTEXT,
    LATENT,
    applied,
    latents,
    methods,
    planar,
)
from tests.wrong_values import ValidCall
from vae_flows import flows

__all__ = ["CALLS"]


def sylvester() -> dict[str, Tensor]:
    return {
        "Q": torch.eye(LATENT),
        "R1": 0.1 * torch.eye(LATENT),
        "R2": 0.1 * torch.eye(LATENT),
        "b": torch.zeros(LATENT),
    }


def small_iaf() -> flows.IAFFlow:
    return flows.IAFFlow(LATENT, CONTEXT, num_layers=1, hidden_dim=4)


CALLS: dict[str, Callable[[], ValidCall]] = {
    **methods("transforms.FusedTransform", planar),
    **methods("transforms.InverseTransform", lambda: planar().inv),
    **methods("transforms.ChainTransform", lambda: vf.transforms.ChainTransform([planar(), planar()])),
    **methods("transforms.CachedTransform", lambda: vf.transforms.CachedTransform(ExpTransform())),
    **methods("transforms.PlanarTransform", planar),
    **methods("transforms.IdentityTransform", lambda: vf.transforms.IdentityTransform(LATENT, Size())),
    **methods("transforms.PartialTransform", lambda: vf.transforms.PartialTransform(planar(), LATENT)),
    **methods("transforms.PermutationTransform", lambda: vf.transforms.PermutationTransform(torch.arange(LATENT))),
    **methods("transforms.SigmoidTransform", lambda: vf.transforms.SigmoidTransform(LATENT, 0.49)),
    "transforms.PartialTransform": lambda: ValidCall(
        vf.transforms.PartialTransform, {"part": planar(), "latent_dim": LATENT, "cache_size": 1}, applied
    ),
    "transforms.PermutationTransform": lambda: ValidCall(
        vf.transforms.PermutationTransform, {"order": torch.arange(LATENT), "cache_size": 1}, applied
    ),
    "transforms.SigmoidTransform": lambda: ValidCall(
        vf.transforms.SigmoidTransform, {"latent_dim": LATENT, "margin": 0.49, "cache_size": 1}, applied
    ),
    **methods("transforms.ReverseTransform", lambda: vf.transforms.ReverseTransform(LATENT, Size())),
    **methods(
        "transforms.SylvesterTransform", lambda: CALLS["transforms.SylvesterTransform"]().target(*sylvester().values())
    ),
    **methods("transforms.InverseAutoregressiveTransform", lambda: small_iaf()(torch.zeros(CONTEXT))),
    "transforms.IdentityTransform": lambda: ValidCall(
        vf.transforms.IdentityTransform, {"latent_dim": LATENT, "batch_shape": Size(), "cache_size": 1}, applied
    ),
    "transforms.ReverseTransform": lambda: ValidCall(
        vf.transforms.ReverseTransform, {"latent_dim": LATENT, "batch_shape": Size(), "cache_size": 1}, applied
    ),
    "transforms.InverseTransform": lambda: ValidCall(vf.transforms.InverseTransform, {"transform": planar()}, applied),
    "transforms.ChainTransform": lambda: ValidCall(
        vf.transforms.ChainTransform, {"parts": [planar(), planar()], "cache_size": 1}, applied
    ),
    "transforms.CachedTransform": lambda: ValidCall(
        vf.transforms.CachedTransform, {"transform": ExpTransform(), "cache_size": 1}, lambda made: made(latents())
    ),
    "transforms.PlanarTransform": lambda: ValidCall(
        vf.transforms.PlanarTransform,
        {"u": torch.rand(LATENT), "w": torch.rand(LATENT), "b": torch.tensor(0.3), "cache_size": 1},
        applied,
    ),
    "transforms.SylvesterTransform": lambda: ValidCall(
        vf.transforms.SylvesterTransform, {**sylvester(), "cache_size": 1}, applied
    ),
    "transforms.InverseAutoregressiveTransform": lambda: ValidCall(
        vf.transforms.InverseAutoregressiveTransform,
        {
            "network": lambda z: (torch.zeros_like(z), torch.zeros_like(z)),
            "latent_dim": LATENT,
            "batch_shape": (),
            "forget_bias": 1.0,
            "parameters": (torch.zeros(1),),
            "cache_size": 1,
        },
        applied,
    ),
    "transforms.forward_with_score": lambda: ValidCall(
        vf.transforms.forward_with_score, {"transform": planar(), "x": latents(), "score": latents()}
    ),
    "transforms.householder_product": lambda: ValidCall(
        vf.transforms.householder_product, {"vectors": torch.rand(2, LATENT)}
    ),
    "transforms.orthonormalize": lambda: ValidCall(vf.transforms.orthonormalize, {"matrix": torch.rand(3, 2)}),
}
