import gc

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Bernoulli, LogNormal, Normal, constraints
from pyro.infer import Trace_ELBO, TraceGraph_ELBO

import vae_flows as vf
from tests.seeds import reseed
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


@pytest.mark.parametrize("flow", ["none", "planar", "ffjord"])
def test_later_sites_have_gradients_in_the_parameters_of_earlier_ones(flow):
    packing = SitePacking(SITES, "autoregressive")
    posteriors = packing.make_posteriors(6, flow, FFJORD if flow == "ffjord" else {}).double()
    for parameter in posteriors.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    values = packing.sample(posteriors_of(posteriors), torch.randn(5, 6, dtype=torch.float64))
    values["rate"].sum().backward()
    gradients = [parameter.grad for parameter in posteriors[0].gaussian.parameters()]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize("name", ["joint", "separate", "autoregressive"])
@pytest.mark.parametrize("gradient", ["backprop", "recompute", "adjoint"])
def test_regularised_flows_behind_a_discrete_site_solve_once_and_keep_their_gradients(name, gradient, solves):
    "TraceGraph_ELBO wraps what depends on a discrete site in a class of its own."
    packing = SitePacking(SITES, name)
    solver = vf.ODESolver(gradient=gradient)
    options = {**FFJORD, "solver": solver, "divergence": "exact", "regularizers": [vf.cnf.KineticEnergy(1e6)]}
    posteriors = packing.make_posteriors(2, "ffjord", options).double()
    for parameter in posteriors.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(5, dtype=torch.float64)

    def guide():
        pyro.module("posteriors", posteriors)
        with pyro.plate("data", len(x)):
            side = pyro.sample("side", Bernoulli(x.new_full((len(x),), 0.5)))
            packing.sample(posteriors_of(posteriors), torch.stack([side, x], -1))

    def model():
        with pyro.plate("data", len(x)):
            pyro.sample("side", Bernoulli(x.new_full((len(x),), 0.5)))
            pyro.sample("location", Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("rate", LogNormal(x.new_tensor(0.0), 1.0))

    found = []
    for objective in (TraceGraph_ELBO(), Trace_ELBO()):
        posteriors.zero_grad()
        solves.clear()
        reseed(4)
        loss = objective.loss_and_grads(model, guide)
        assert len(solves) == len(packing.blocks)
        gradients = [p.grad.clone() for p in posteriors.parameters() if p.grad is not None]
        found.append((loss, gradients))
    # The regularisation outweighs all else by far; both losses have it, and both have its gradients.
    assert found[0][0] > 1e3
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-9)
    assert len(found[0][1]) == len(found[1][1]) > 4
    for of_graph, plain in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(of_graph, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["joint", "separate", "autoregressive"])
def test_nothing_waits_for_the_garbage_collector(name):
    """On a GPU, whose memory the collector does not know, tensors of dead cycles would pile up."""
    sites = (
        vf.LocalSite("location", (2,)),
        vf.LocalSite("rate", (), constraints.positive),
        vf.LocalSite("weights", (3,), constraints.simplex),
        vf.LocalSite("scales", (2,), constraints.interval(-1.0, 2.0)),
    )
    packing = SitePacking(sites, name)
    posteriors = packing.make_posteriors(6, "planar", {})

    def tensors() -> int:
        return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())

    sample(packing, posteriors, torch.randn(5, 6))
    gc.collect()
    gc.disable()
    try:
        before = tensors()
        for _ in range(3):
            sample(packing, posteriors, torch.randn(5, 6))
        assert tensors() == before
    finally:
        gc.enable()
