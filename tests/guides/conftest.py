"""A model with a real and a positive local site whose posterior a guide can hold exactly.

Where the guide is the posterior, every draw of every objective is the log-evidence: no Monte-Carlo error hides a wrong
Jacobian, scale or shape.
"""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro.distributions import LogNormal, Normal
from torch import nn

import vae_flows as vf
from tests.small_flows import FLOWS
from vae_flows.guides.packing import posteriors_of

PRIOR_VARIANCE, NOISE_VARIANCE = 1.0, 0.25
POSTERIOR_MEAN, POSTERIOR_VARIANCE = 0.8, 0.2  # conjugate: N(0.8 x, 0.2)


def _model(x: torch.Tensor, subsample_size: int | None = None) -> None:
    with pyro.plate("data", len(x), subsample_size=subsample_size) as indices:
        location = pyro.sample("location", Normal(x.new_zeros(2), 1.0).to_event(1))
        rate = pyro.sample("rate", LogNormal(x.new_tensor(0.0), 1.0))
        mean = torch.cat([location, rate.log().unsqueeze(-1)], -1)
        pyro.sample("x", Normal(mean, NOISE_VARIANCE**0.5).to_event(1), obs=x[indices])


@pytest.fixture
def model():
    return _model


@pytest.fixture
def log_evidence():
    """Map data to log p(x) of each row."""

    def of(x: torch.Tensor) -> torch.Tensor:
        return Normal(x.new_tensor(0.0), math.sqrt(PRIOR_VARIANCE + NOISE_VARIANCE)).log_prob(x).sum(-1)

    return of


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(5, 3, dtype=torch.float64)


@pytest.fixture
def exact():
    """Make the guide of x, whose encoder is the identity, the posterior itself."""

    def make(guide: nn.Module) -> nn.Module:
        start = 0
        for posterior in posteriors_of(guide.posterior):
            for parameter in posterior.parameters():
                parameter.data.zero_()
            stop = start + posterior.latent_dim
            eye = POSTERIOR_MEAN * torch.eye(posterior.latent_dim, dtype=torch.float64)
            posterior.gaussian.weight.data[: posterior.latent_dim, start:stop] = eye
            posterior.gaussian.bias.data[posterior.latent_dim :] = math.log(math.expm1(POSTERIOR_VARIANCE))
            start = stop
        return guide

    return make


@pytest.fixture
def make_guide(model, x, exact):
    """Make an `AmortizedAutoGuide` of the model that is its posterior, in evaluation mode's exact density or not."""

    def make(flow: str = "none", **options) -> vf.AmortizedAutoGuide:
        guide = vf.AmortizedAutoGuide(model, nn.Identity(), flow, **FLOWS[flow].options, **options)
        guide.setup(x)
        return exact(guide)

    return make


@pytest.fixture
def solves(monkeypatch):
    """The solves made so far, one entry each: the rows and columns of what was solved."""
    made = []
    solve = vf.ODESolver.solve

    def counted(self, field, z, *args):
        made.append(tuple(z.shape))
        return solve(self, field, z, *args)

    monkeypatch.setattr(vf.ODESolver, "solve", counted)
    return made


@pytest.fixture(autouse=True)
def _clean_param_store(clean_param_store):
    """In every test of this folder."""
