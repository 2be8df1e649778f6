"""Small models, data and functions from which valid calls are made."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.distributions import Normal
from torch import Tensor

import vae_flows as vf
from tests.wrong_values import ValidCall
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import (
    MLPDecoder,
    MLPEncoder,
)

__all__ = [
    "BATCH",
    "CONTEXT",
    "LATENT",
    "SHAPE",
    "SOLVER",
    "applied",
    "base",
    "called_in_store",
    "conditional",
    "context",
    "data_set",
    "decoder",
    "density",
    "drawn",
    "encoder",
    "folder",
    "images",
    "latents",
    "levels",
    "methods",
    "model",
    "planar",
    "posterior",
    "rows",
    "vae",
]

LATENT, CONTEXT, BATCH = 2, 3, 4
SHAPE = (1, 4, 4)
SOLVER = vf.ODESolver("euler", options={"step_size": 0.5})


def context() -> Tensor:
    return torch.randn(BATCH, CONTEXT)


def latents() -> Tensor:
    return torch.randn(BATCH, LATENT)


def images() -> Tensor:
    return torch.rand(BATCH, *SHAPE)


def levels() -> vf.data.Images:
    return vf.data.Images(torch.randint(256, (6, 16), dtype=torch.uint8), SHAPE)


def rows() -> vf.data.TensorExamples:
    return vf.data.TensorExamples(torch.randn(6, 2), torch.arange(6))


def data_set() -> vf.data.DataSet:
    return vf.data.DataSet("small", levels(), levels(), levels(), "grey", "a small one")


def encoder() -> MLPEncoder:
    return MLPEncoder(SHAPE, (4,), CONTEXT)


def decoder() -> MLPDecoder:
    return MLPDecoder(LATENT, SHAPE, (4,))


def posterior(flow: str = "planar") -> vf.AmortizedPosterior:
    return vf.AmortizedPosterior(LATENT, CONTEXT, flow, num_layers=1)


def vae() -> vf.VAE:
    return vf.VAE(encoder(), decoder(), posterior(), BernoulliLikelihood())


def base() -> vf.DiagonalNormal:
    return vf.DiagonalNormal(torch.zeros(BATCH, LATENT), torch.ones(LATENT))


def planar() -> vf.transforms.PlanarTransform:
    return vf.transforms.PlanarTransform(torch.rand(LATENT), torch.rand(LATENT), torch.tensor(0.3))


def density() -> vf.FlowDistribution:
    return vf.FlowDistribution(base(), [planar()])


def conditional(latent: Tensor) -> Tensor:
    return -latent.square().sum(-1)


def model(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", Normal(x.new_zeros(LATENT), 1.0).to_event(1))
        pyro.sample("x", Normal(z.sum(-1), 1.0), obs=x[:, 0])


def folder() -> Path:
    return Path(tempfile.mkdtemp())


def drawn(q: Any) -> object:
    return q.log_prob(q.rsample())


def applied(transform: Any) -> object:
    x = latents()
    return transform.inv(transform(x)), transform.log_abs_det_jacobian(x, transform(x))


def methods(prefix: str, make: Callable[[], Any]) -> dict[str, Callable[[], ValidCall]]:
    """The calls of a transform that its own class may answer."""
    calls: dict[str, Callable[[], dict[str, Any]]] = {
        "broadcast_shape": lambda: {"z": latents()},
        "forward_shape": lambda: {"shape": (BATCH, LATENT)},
        "inverse_shape": lambda: {"shape": (BATCH, LATENT)},
        "__call__": lambda: {"x": latents()},
        "evaluate": lambda: {"x": latents()},
        "evaluate_inverse": lambda: {"y": latents()},
        "evaluate_with_score": lambda: {"x": latents(), "score": latents()},
        "log_abs_det_jacobian": lambda: {"x": latents(), "y": latents()},
        "with_cache": lambda: {"cache_size": 0},
    }
    return {
        f"{prefix}.{name}": lambda name=name, given=given: ValidCall(getattr(make(), name), given())
        for name, given in calls.items()
    }


def called_in_store(function: Callable[..., Any], arguments: dict[str, Any]) -> ValidCall:
    def called(**given: Any) -> object:
        with pyro.get_param_store().scope():
            return function(**given)

    return ValidCall(called, arguments)
