import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.infer import SVI, Trace_ELBO
from torch import nn

import vae_flows as vf
from vae_flows.errors import InvalidInputError


@pytest.fixture(autouse=True)
def _clean_param_store():
    pyro.clear_param_store()
    torch.manual_seed(0)
    yield
    pyro.clear_param_store()


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", Normal(z, 0.5).to_event(1), obs=x)


@pytest.mark.parametrize("flow", ["none", "ffjord"])
def test_guide_learns_a_conjugate_posterior(flow):
    options = {"hidden_dims": (8,), "amortization": "bias"} if flow == "ffjord" else {}
    guide = vf.FlowGuide(nn.Linear(2, 8), vf.AmortizedPosterior(2, 8, flow, **options))
    svi = SVI(
        model,
        guide,
        pyro.optim.Adam({"lr": 4e-2}),
        Trace_ELBO(num_particles=8, vectorize_particles=True, max_plate_nesting=1),
    )
    x = torch.randn(16, 2)
    for _ in range(120):
        svi.step(x)
    guide.eval()
    with torch.no_grad():
        z = guide.posterior(guide.encoder(x)).rsample((4000,))
    # prior N(0, 1), noise 0.5²: posterior N(0.8 x, 0.2)
    assert float((z.mean(0) - 0.8 * x).abs().max()) < 0.25
    assert 0.3 < float(z.std(0).mean()) < 0.6


def test_wrong_encoders_are_told():
    guide = vf.FlowGuide(nn.Flatten(0), vf.AmortizedPosterior(2, 8, "none"))
    with pytest.raises(InvalidInputError, match="encoder of site 'z'"):
        guide(torch.zeros(8))
    pyro.clear_param_store()
    guide = vf.FlowGuide(nn.Linear(2, 7), vf.AmortizedPosterior(2, 8, "none"))
    with pytest.raises(InvalidInputError, match=r"\(\*batch, 8\)"):
        guide(torch.zeros(4, 2))
