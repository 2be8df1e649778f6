"""Hooks on layers of the dynamics take effect or are refused; none is passed over."""

import warnings
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import vae_flows as vf
from vae_flows.cnf import MLPDynamics
from vae_flows.cnf.layers import _LAYERS
from vae_flows.errors import InvalidInputError


def old_weight_norm(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still in use
        weight_norm(module)


def half_of(name):
    return lambda module: prune.l1_unstructured(module, name, 0.5)


def both(module):
    half_of("weight")(module)
    half_of("bias")(module)


MAKING = {
    "prune": half_of("weight"),
    "prune bias": half_of("bias"),
    "prune twice": lambda module: [half_of("weight")(module) for _ in range(2)],
    "prune both": both,
    "spectral norm": spectral_norm,
    "weight norm": old_weight_norm,
    "parametrized spectral norm": parametrizations.spectral_norm,
    "parametrized weight norm": parametrizations.weight_norm,
}


def linear_parts(flow):
    """Layers of the dynamics, those inside of them, and the heads that a context goes through."""
    parts = [part for dynamics in flow.cnf.dynamics for layer in dynamics.layers for part in layer.modules()]
    heads = flow.cnf.amortizations.modules()
    return [part for part in (*parts, *heads) if isinstance(part, nn.Linear)]


def make(change, time_conditioning="concat", amortization="bias"):
    options = {"hidden_dims": (6,), "amortization": amortization, "time_conditioning": time_conditioning}
    posterior = vf.AmortizedPosterior(3, 5, flow="ffjord", **options).double()
    with torch.no_grad():
        for parameter in posterior.parameters():
            parameter.normal_(0, 0.5)
    for part in linear_parts(posterior.flow):
        if part.bias is not None or change not in (MAKING["prune bias"], MAKING["prune both"]):
            change(part)
            for _ in range(20):  # power iterations, without which a spectral norm may be next to nothing
                part(torch.ones(1, part.in_features).double())
    return posterior.eval()


def called(part):
    """What a layer computes when it is called: its weights as its hooks make them."""
    part(torch.zeros(1, part.in_features, dtype=torch.float64))
    return {
        name: getattr(part, name).detach().clone() for name in ("weight", "bias") if getattr(part, name) is not None
    }


@pytest.mark.parametrize("change", MAKING)
@pytest.mark.parametrize("time_conditioning", _LAYERS)
def test_hooks_that_make_weights_take_effect(change, time_conditioning):
    posterior = make(MAKING[change], time_conditioning)
    other = make(lambda part: None, time_conditioning)
    own = dict(posterior.named_parameters())
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name in own:
                parameter.copy_(own[name])
        for part, plain in zip(linear_parts(posterior.flow), linear_parts(other.flow), strict=True):
            for name, value in called(part).items():
                getattr(plain, name).copy_(value)
    h, z = 0.2 * torch.randn(4, 5).double(), torch.randn(4, 3).double()
    torch.testing.assert_close(posterior(h).log_prob(z), other(h).log_prob(z), rtol=0, atol=1e-9)


@pytest.mark.parametrize("change", MAKING)
@pytest.mark.parametrize("amortization", ["concat", "bias", "low_rank"])
def test_what_hooks_make_weights_of_is_trained_and_loaded(change, amortization):
    posterior, again = make(MAKING[change], amortization=amortization), make(MAKING[change], amortization=amortization)
    again.load_state_dict(posterior.state_dict())
    h, z = 0.2 * torch.randn(4, 5).double(), torch.randn(4, 3).double()
    torch.testing.assert_close(posterior(h).log_prob(z), again(h).log_prob(z), rtol=0, atol=1e-9)
    for _ in range(2):
        posterior(h).log_prob(z).sum().backward()
    assert all(p.grad is not None for name, p in posterior.named_parameters() if name.startswith("flow"))


@pytest.mark.parametrize(
    "register",
    [
        lambda module: module.register_forward_hook(lambda *_: None),
        lambda module: module.register_forward_pre_hook(lambda *_: None),
        lambda module: module.register_full_backward_hook(lambda *_: None),
        lambda module: module.register_full_backward_pre_hook(lambda *_: None),
    ],
)
@pytest.mark.parametrize("pick", ["layer", "gate", "dynamics", "flow"])
def test_other_hooks_are_refused_where_they_would_be_passed_over(register, pick):
    flow = vf.FFJORD(3, 5, hidden_dims=(6,), time_conditioning="squash")
    dynamics = cast(Any, flow.cnf.dynamics[0])
    layer = dynamics.layers[1]
    module = {"layer": layer, "gate": layer.gate, "dynamics": dynamics, "flow": flow.cnf}[pick]
    handle = register(module)
    with pytest.raises(InvalidInputError, match=f"hooks of {type(module).__name__}: .* got 1 other"):
        flow(torch.zeros(2, 5))(torch.zeros(2, 3))
    handle.remove()
    flow(torch.zeros(2, 5))(torch.zeros(2, 3))


def test_hooks_of_modules_that_are_called_run():
    flow, calls = vf.FFJORD(3, 5, hidden_dims=(6,)), []
    amortization = cast(Any, flow.cnf.amortizations[0])
    flow.register_forward_hook(lambda *_: calls.append("flow"))
    amortization.register_forward_hook(lambda *_: calls.append("amortization"))
    amortization.head.register_forward_hook(lambda *_: calls.append("head"))
    flow(torch.zeros(2, 5))(torch.zeros(2, 3))
    assert calls == ["head", "amortization", "flow"]


def test_a_conditioned_flow_sees_later_changes_of_what_a_hook_uses():
    dynamics = cast(Any, MLPDynamics(2, (6,)).double())
    half_of("weight")(dynamics.layers[0])
    transform = vf.cnf.ContinuousTransform(dynamics.condition(), divergence="exact")
    z = torch.randn(3, 2).double()
    before = transform(z)
    with torch.no_grad():
        dynamics.layers[0].weight_orig.mul_(3)
    fresh = vf.cnf.ContinuousTransform(dynamics.condition(), divergence="exact")(z)
    torch.testing.assert_close(transform(z), fresh, rtol=0, atol=1e-12)
    assert not torch.allclose(before, fresh)
