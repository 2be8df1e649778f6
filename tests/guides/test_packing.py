import pytest
import torch
from pyro import poutine
from pyro.distributions import LogNormal, Normal, constraints

import vae_flows as vf
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.flows import IdentityFlow
from vae_flows.guides.packing import SitePacking, posteriors_of

SOLVER = 1e-3  # forward and reverse solves at tolerance 1e-5
ROUNDING = 1e-12
SITES = (vf.LocalSite("location", (2,)), vf.LocalSite("rate", (), constraints.positive))
FFJORD = {"hidden_dims": (8,), "amortization": "bias"}


def sample(packing, posteriors, context):
    traced = poutine.trace(lambda: packing.sample(posteriors_of(posteriors), context)).get_trace()
    traced.compute_log_prob()
    return traced


@pytest.mark.parametrize(
    ("name", "sizes"), [("joint", [(3, 6)]), ("separate", [(2, 6), (1, 6)]), ("autoregressive", [(2, 6), (1, 8)])]
)
def test_one_flow_over_all_sites_or_one_each(name, sizes, solves):
    packing = SitePacking(SITES, name)
    assert packing.sizes(6) == sizes
    posteriors = packing.make_posteriors(6, "ffjord", FFJORD)
    assert [(p.latent_dim, p.context_dim) for p in posteriors_of(posteriors)] == sizes
    traced = sample(packing, posteriors, torch.randn(5, 6))
    assert {name: traced.nodes[name]["value"].shape for name in ("location", "rate")} == {
        "location": (5, 2),
        "rate": (5,),
    }
    assert traced.log_prob_sum().isfinite()
    assert len(solves) == len(sizes)  # drawing and scoring together


@pytest.mark.parametrize("name", ["separate", "autoregressive"])
def test_densities_are_those_of_the_flows(name):
    packing = SitePacking(SITES, name)
    posteriors = packing.make_posteriors(6, "ffjord", FFJORD).double().eval()
    for parameter in posteriors.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    context = torch.randn(5, 6, dtype=torch.float64)
    traced = sample(packing, posteriors, context)
    location, rate = traced.nodes["location"]["value"], traced.nodes["rate"]["value"]
    first, second = posteriors
    of_second = torch.cat([context, location], -1) if name == "autoregressive" else context
    expected = second(of_second).log_prob(rate.log().unsqueeze(-1)) - rate.log()
    torch.testing.assert_close(
        traced.nodes["location"]["log_prob"], first(context).log_prob(location), rtol=0, atol=SOLVER
    )
    torch.testing.assert_close(traced.nodes["rate"]["log_prob"], expected, rtol=0, atol=SOLVER)


def test_the_joint_density_stands_at_the_auxiliary_site():
    packing = SitePacking(SITES)
    posterior = packing.make_posteriors(6, "none", {}).double()
    context = torch.randn(5, 6, dtype=torch.float64)
    traced = sample(packing, posterior, context)
    base = posterior.base(context)
    location, rate = traced.nodes["location"]["value"], traced.nodes["rate"]["value"]
    expected = Normal(base.loc[:, :2], base.scale[:, :2]).log_prob(location).sum(-1)
    expected = expected + LogNormal(base.loc[:, 2], base.scale[:, 2]).log_prob(rate)
    auxiliary = traced.nodes["_location_rate_joint"]
    assert auxiliary["infer"]["is_auxiliary"]
    torch.testing.assert_close(auxiliary["log_prob"], expected, rtol=0, atol=ROUNDING)
    assert not traced.nodes["location"]["log_prob"].any()
    assert not traced.nodes["rate"]["log_prob"].any()


def test_regularisers_count_against_the_bound():
    packing = SitePacking(SITES)
    options = {**FFJORD, "regularizers": [vf.cnf.KineticEnergy(0.5)]}
    posterior = packing.make_posteriors(6, "ffjord", options)
    assert sample(packing, posterior, torch.randn(5, 6)).nodes["_location_rate_regularization"]["log_prob_sum"] > 0
    assert "_location_rate_regularization" not in sample(packing, posterior.eval(), torch.randn(5, 6)).nodes


def test_wrong_use_is_told():
    with pytest.raises(UnknownNameError, match="Did you mean 'separate'"):
        SitePacking(SITES, "seperate")
    with pytest.raises(InvalidInputError, match="at least one"):
        SitePacking(())
    with pytest.raises(InvalidInputError, match="each of its own name"):
        SitePacking((SITES[0], SITES[0]))
    with pytest.raises(InvalidInputError, match=r"'location' \(2,\), 'rate' \(\) packed 'joint'.* \(3, 6\), got \(4"):
        SitePacking(SITES).make_posteriors(6, IdentityFlow(4, 6), {})
    with pytest.raises(InvalidInputError, match=r"\(2, 6\), \(1, 6\), got \(3, 6\)"):
        SitePacking(SITES, "separate").make_posteriors(6, IdentityFlow(3, 6), {})
