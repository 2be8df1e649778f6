"""Small models to be saved, and whether one that was loaded is the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import vae_flows as vf
from tests.seeds import reseed
from tests.small_flows import FLOWS
from vae_flows.cnf import BottleneckDivergence, ContinuousNormalizingFlow, KineticEnergy, MLPDynamics
from vae_flows.flows import AmortizedFlow
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder

D, C, SHAPE = 2, 6, (1, 2, 2)
SOLVER = vf.ODESolver("rk4", options={"step_size": 0.25})
OPTIONS: dict[str, dict[str, Any]] = {  # every kind of value that a description holds
    "ffjord": {
        "hidden_dims": (4, 5),
        "num_blocks": 2,
        "rank": 2,
        "activation": "tanh",
        "time_conditioning": "squash",
        "integration_time": 0.75,
        "train_integration_time": True,
        "num_probes": 2,
        "solver": SOLVER,
        "eval_solver": vf.ODESolver(rtol=1e-3, atol=1e-3),
        "regularizers": [KineticEnergy(0.1)],
    },
    "iaf": {"num_layers": 2, "hidden_dim": 5, "num_hidden": 2, "forget_bias": 0.5},
}


def make_vae(flow: str | AmortizedFlow = "planar", **parts: Any) -> vf.VAE:
    options = FLOWS[flow].options_for(D, **OPTIONS.get(flow, {})) if isinstance(flow, str) else {}
    default = {
        "encoder": MLPEncoder(SHAPE, (4,), C),
        "decoder": MLPDecoder(D, SHAPE, (4,)),
        "posterior": vf.AmortizedPosterior(D, C, flow, variance_bounds=(0.01, 7.0), **options),
        "likelihood": BernoulliLikelihood(),
    }
    vae = vf.VAE(**{**default, **parts})
    with torch.no_grad():  # off any start at zero, which a fresh model would share
        for parameter in vae.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return vae


def flow_prior() -> vf.FlowPrior:
    dynamics = [MLPDynamics(D, (3,), activation="swish"), MLPDynamics(D, (4,), time_conditioning="ignore")]
    divergence = BottleneckDivergence("rademacher")
    return vf.FlowPrior(ContinuousNormalizingFlow(dynamics, divergence=divergence, solver=SOLVER))


def elbo(vae: vf.VAE, *, training: bool, dtype: torch.dtype = torch.float32) -> Tensor:
    images = torch.linspace(0, 1, 12, dtype=dtype).reshape(3, *SHAPE)
    reseed(7)
    return vae.train(training).elbo(images).elbo


def assert_same(vae: vf.VAE, other: vf.VAE, dtype: torch.dtype = torch.float32) -> None:
    for training in (True, False):
        expected = elbo(vae, training=training, dtype=dtype)
        assert expected.dtype == dtype
        assert torch.equal(elbo(other, training=training, dtype=dtype), expected)
