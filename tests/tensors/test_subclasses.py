"""Subclasses of Tensor pass through every transform with their gradients, and track it as they track any function."""

from typing import cast

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceGraph_ELBO
from pyro.ops.provenance import ProvenanceTensor, get_provenance
from torch import Tensor

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.cnf import ContinuousNormalizingFlow, ContinuousTransform, MLPDynamics, ODESolver
from vae_flows.tensors.subclasses import is_plain, plain, tracked
from vae_flows.transforms.base import FusedTransform

SMALL = {"amortization": "bias", "hidden_dims": (8,)}
FFJORD = {
    "fused": SMALL,
    "low rank": {"hidden_dims": (8,), "rank": 2},
    "swish": {**SMALL, "activation": "swish"},
    "squash": {**SMALL, "time_conditioning": "squash"},
    "learned T": {**SMALL, "train_integration_time": True},
    "blocks": {**SMALL, "num_blocks": 2},
    "recompute": {**SMALL, "solver": ODESolver(gradient="recompute")},
    "adjoint": {**SMALL, "solver": ODESolver(gradient="adjoint")},
    "dopri8": {**SMALL, "solver": ODESolver(method="dopri8")},
    "dopri8 adjoint": {**SMALL, "solver": ODESolver(method="dopri8", gradient="adjoint")},
    "unfused": {**SMALL, "solver": ODESolver(fused=False)},
    "regularised": {**SMALL, "regularizers": [vf.cnf.KineticEnergy(0.1)]},
}
CASES = [
    *(pytest.param("ffjord", options, id=f"ffjord {name}") for name, options in FFJORD.items()),
    *(pytest.param(flow, {}, id=flow) for flow in ("planar", "iaf", "sylvester-orthogonal", "sylvester-triangular")),
    *(
        pytest.param(flow, {}, id=flow, marks=pytest.mark.slow)
        for flow in ("sylvester-householder", "zuko:CNF", "zuko:NSF", "pyro:planar", "pyro:radial")
    ),
]


class Named(Tensor):
    """A subclass with nothing of its own."""


def wrapped(tensor, name="y"):
    return ProvenanceTensor(tensor, frozenset({name}))


@pytest.mark.parametrize(("flow", "options"), CASES)
@pytest.mark.parametrize("kind", ["forward", "inverse"])
@pytest.mark.parametrize("where", ["context", "value", "both"])
def test_values_gradients_and_provenance_go_through(flow, options, kind, where):
    posterior = vf.AmortizedPosterior(2, 3, flow=flow, **options).double().eval()
    context, z = torch.randn(4, 3).double(), torch.randn(4, 2).double()

    def evaluate(track):
        h = wrapped(context.clone().requires_grad_(), "h") if track and where != "value" else context
        x = wrapped(z.clone(), "z") if track and where != "context" else z
        transform = cast(FusedTransform, posterior(h).transforms[0])
        y = cast(Tensor, transform(x) if kind == "forward" else transform.inv(x))
        pair = (x, y) if kind == "forward" else (y, x)
        log_det = transform.log_abs_det_jacobian(*pair)
        posterior.zero_grad()
        (y.sum() + log_det.sum()).backward()
        return y, log_det, {name: p.grad for name, p in posterior.named_parameters() if name.startswith("flow")}

    *found, gradients = evaluate(track=True)
    *expected, right = evaluate(track=False)
    names = {"context": {"h"}, "value": {"z"}, "both": {"h", "z"}}[where]
    for got, value in zip(found, expected, strict=True):
        assert get_provenance(got) == names
        torch.testing.assert_close(plain(got), value, rtol=0, atol=1e-9)
    for name, gradient in right.items():
        assert (gradient is None) == (gradients[name] is None), name
        if gradient is not None:
            torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=1e-8)


def gradients_of(posterior, elbo, prior, steps=2):
    """Train for some steps with a discrete site, on which two contexts depend, and return the last gradients."""
    pyro.clear_param_store()
    x = torch.linspace(-1, 1, 15).reshape(5, 3)

    def model(x):
        with pyro.plate("data", 5):
            y = pyro.sample("y", dist.Bernoulli(torch.tensor(0.5)))
            law = posterior(x + y[:, None]) if prior else dist.Normal(torch.zeros(2), 1.0).to_event(1)
            z = pyro.sample("z", law)
            pyro.sample("x", dist.Normal((z.sum(-1, keepdim=True) + y[:, None]).expand(5, 3), 1.0).to_event(1), obs=x)

    def guide(x):
        pyro.module("posterior", posterior)
        with pyro.plate("data", 5):
            y = pyro.sample("y", dist.Bernoulli(torch.full((5,), 0.5)))
            law = dist.Normal(torch.zeros(5, 2), 1.0).to_event(1) if prior else posterior(x + y[:, None])
            pyro.sample("z", law)

    optimizer = torch.optim.SGD(posterior.parameters(), lr=1e-2)
    reseed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        elbo.loss_and_grads(model, guide, x)
        optimizer.step()
    return {name: None if p.grad is None else p.grad.clone() for name, p in posterior.named_parameters()}


@pytest.mark.parametrize("prior", [False, True], ids=["posterior", "prior"])
@pytest.mark.parametrize(("flow", "options"), CASES)
def test_graph_elbo_has_the_gradients_of_the_plain_one(flow, options, prior):
    """The terms of the score function coincide here, as the probabilities of y are constant."""

    def run(elbo):
        reseed(0)
        return gradients_of(vf.AmortizedPosterior(2, 3, flow=flow, **options), elbo, prior)

    right, found = run(Trace_ELBO()), run(TraceGraph_ELBO())
    for name, gradient in right.items():
        assert (gradient is None) == (found[name] is None), name
        if gradient is not None:
            torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("clean_param_store")
@pytest.mark.parametrize("options", [FFJORD["fused"], FFJORD["adjoint"], FFJORD["dopri8"]], ids=str)
def test_the_score_function_of_a_discrete_site_is_not_biased(options):
    """Every example has a logit of its own, whose gradients are draws of the one that enumeration gives exactly."""
    count = 4000
    posterior, x = vf.AmortizedPosterior(2, 3, flow="ffjord", **options).eval(), torch.tensor([0.5, -0.5, 1.0])
    logits = torch.nn.Parameter(torch.full((count,), 0.3))
    with torch.no_grad():  # means that follow y: the densities behind the flow hang on it whatever the seed
        posterior.gaussian.weight[:2] = 2 / 3
        posterior.gaussian.bias[:2] = 0

    def likelihood(z, y):
        return dist.Normal((z.sum(-1, keepdim=True) + 2 * y[..., None]).expand(*y.shape, 3), 1.0).to_event(1)

    def model():
        with pyro.plate("data", count):
            y = pyro.sample("y", dist.Bernoulli(torch.tensor(0.5)))
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", likelihood(z, y), obs=x.expand(count, 3))

    def guide():
        with pyro.plate("data", count):
            y = pyro.sample("y", dist.Bernoulli(logits=pyro.param("logits", logits)))
            pyro.sample("z", posterior(x + y[:, None]))

    TraceGraph_ELBO().loss_and_grads(model, guide)
    with torch.no_grad():
        bounds = []
        for y in (torch.zeros(count), torch.ones(count)):
            z, log_q = posterior(x + y[:, None]).rsample_with_log_prob()
            log_p = dist.Normal(torch.zeros(2), 1.0).to_event(1).log_prob(z) + likelihood(z, y).log_prob(x)
            bounds.append(log_p - log_q)
        q = torch.sigmoid(logits[0])
        # The loss is minus the bound, whose gradient in the logit is q (1 − q) times the gain of y = 1 over y = 0.
        exact = -q * (1 - q) * (bounds[1] - bounds[0] - torch.logit(q))
        assert logits.grad is not None
        error = ((logits.grad.var() + exact.var()) / count).sqrt()
    assert abs(float(logits.grad.mean() - exact.mean())) < 5 * float(error)  # false alarms: 6 in 10⁷
    assert abs(float(exact.mean())) > 10 * float(error)  # without what lies behind the flow, it would be far off


@pytest.mark.parametrize("gradient", ["backprop", "recompute", "adjoint"])
@pytest.mark.parametrize("given", ["parameters", "context", "closure"])
def test_functions_of_tracked_tensors_are_solved(gradient, given):
    rate = torch.full((3, 1), 0.5, dtype=torch.float64, requires_grad=True)
    tracked_rate = wrapped(rate * 1)
    settings = {"divergence": "exact", "solver": ODESolver(gradient=gradient, rtol=1e-9, atol=1e-9)}
    if given == "context":
        transform = ContinuousTransform(lambda t, z, c: -c * z, context=tracked_rate, **settings)
    else:
        named = (tracked_rate,) if given == "parameters" or gradient != "backprop" else ()
        transform = ContinuousTransform(lambda t, z: -tracked_rate * z, parameters=named, **settings)
    y, log_det = transform.forward_with_log_det(torch.ones(3, 2, dtype=torch.float64))
    assert get_provenance(y) == get_provenance(log_det) == {"y"}
    (y.sum() + log_det.sum()).backward()
    torch.testing.assert_close(plain(y)[0, 0].item(), torch.tensor(-0.5).exp().item(), rtol=0, atol=1e-6)
    expected = -2 * torch.exp(-rate) - 2  # of Σ exp(−c) over two latents, and of the trace −2 c
    torch.testing.assert_close(rate.grad, expected.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("conditional", [False, True])
def test_densities_and_end_times_of_tracked_tensors(conditional):
    flow = ContinuousNormalizingFlow(MLPDynamics(2, (8,)), context_dim=3 if conditional else None)
    h = wrapped(torch.randn(5, 3), "h") if conditional else None
    log_p = flow(h).log_prob(wrapped(torch.randn(5, 2), "x"))
    assert get_provenance(log_p) == ({"h", "x"} if conditional else {"x"})
    (-log_p.mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in flow.parameters() if p.dim() > 1)
    time = wrapped(torch.tensor(0.7, requires_grad=True), "T")
    assert get_provenance(ContinuousTransform(lambda t, z: -z, integration_time=time)(torch.ones(1, 2))) == {"T"}


@pytest.mark.parametrize("options", [FFJORD["fused"], FFJORD["recompute"], FFJORD["dopri8"]], ids=str)
def test_any_subclass_keeps_gradients_and_itself(options):
    posterior = vf.AmortizedPosterior(2, 3, flow="ffjord", **options)
    z, log_q = posterior(torch.randn(4, 3).as_subclass(Named)).rsample_with_log_prob()
    assert isinstance(z, Named)
    (z.sum() + log_q.sum()).backward()
    assert all(p.grad is not None for p in posterior.parameters())


def test_plain_tensors_are_left_alone():
    tensor, parameter = torch.ones(2), torch.nn.Parameter(torch.ones(2))
    assert plain(tensor) is tensor
    assert plain(parameter) is parameter
    assert is_plain(plain(wrapped(torch.ones(2))))
    assert tracked(tensor, [parameter, tensor]) is tensor
    assert get_provenance(tracked(tensor, [wrapped(tensor, "a"), wrapped(tensor, "b")])) == {"a", "b"}
