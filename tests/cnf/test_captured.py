"""Tensors that a field uses without naming them are told where their gradients would be lost."""

import pytest
import torch
from torch import nn

from vae_flows.cnf import ContinuousTransform, JacobianNorm, MLPDynamics, ODESolver
from vae_flows.errors import InvalidInputError

BY_TENSORS = [
    ODESolver(gradient="recompute"),
    ODESolver(gradient="adjoint"),
    ODESolver(method="dopri8", gradient="adjoint"),
    ODESolver(method="rk4", options={"step_size": 0.25}, gradient="recompute"),
]
BY_GRAPH = [ODESolver(), ODESolver(fused=False), ODESolver(method="dopri8")]


class Holder(nn.Module):
    """Dynamics that hold what an encoder made, as an attribute."""

    def __init__(self, features, network):
        super().__init__()
        self.features, self.network = features, network

    def forward(self, t, z):
        return torch.tanh(self.network(z) + self.features)


def make(kind):
    """Return a field, the tensors it is given by name, and all that it depends on."""
    network, encoder, scale = nn.Linear(2, 2).double(), nn.Linear(3, 2).double(), torch.tensor(0.5).double()
    scale.requires_grad_()
    features = encoder(torch.randn(4, 3).double())
    networks, encoders = list(network.parameters()), list(encoder.parameters())
    return {
        "network in a lambda": (lambda t, z: torch.tanh(network(z)), (), networks),
        "part of them named": (lambda t, z: torch.tanh(network(z)), tuple(networks[:1]), networks),
        "number in a lambda": (lambda t, z: scale * z, (), [scale]),
        "features in a module": (Holder(features, network), (), networks + encoders),
        "features in a lambda": (lambda t, z: torch.tanh(network(z) + features), tuple(networks), networks + encoders),
    }[kind]


KINDS = [
    "network in a lambda",
    "part of them named",
    "number in a lambda",
    "features in a module",
    "features in a lambda",
]
OWN = [{"activation": "swish"}, {"time_conditioning": "hyper"}, {"hidden_dims": (4, 4, 4)}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", BY_TENSORS, ids=str)
@pytest.mark.parametrize("direction", ["forward", "inverse", "score"])
def test_gradients_that_go_by_tensors_refuse_those_that_are_not_named(kind, solver, direction):
    field, named, _ = make(kind)
    transform = ContinuousTransform(field, parameters=named, divergence="exact", solver=solver)
    z = torch.randn(4, 2, dtype=torch.float64)
    evaluate = {
        "forward": transform.forward_with_log_det,
        "inverse": transform.inverse_with_log_det,
        "score": lambda z: transform.forward_with_score(z, torch.zeros_like(z)),
    }[direction]
    with pytest.raises(InvalidInputError, match=r"tensors of a vector field: .*gradient='backprop'"):
        evaluate(z)
    with torch.no_grad():
        evaluate(z)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", ["forward", "score"])
def test_gradients_that_go_by_graph_find_all(kind, direction):
    """So do the others once all are named; the reference is the graph's own."""
    field, _, tensors = make(kind)
    z = torch.randn(4, 2, dtype=torch.float64)
    found = []
    features = [field.features] if isinstance(field, Holder) else []
    for solver in (*BY_GRAPH, *BY_TENSORS):
        named = () if solver in BY_GRAPH else (*features, *tensors)
        transform = ContinuousTransform(field, parameters=named, divergence="exact", solver=solver)
        if direction == "forward":
            value, log_det = transform.forward_with_log_det(z)
        else:
            value, log_det, _ = transform.forward_with_score(z, torch.zeros_like(z))
        found.append(torch.autograd.grad(value.square().sum() + log_det.sum(), tensors, retain_graph=True))
    for gradients in found[1:]:
        for gradient, expected in zip(gradients, found[0], strict=True):
            solves = 3e-3 * max(1.0, float(expected.norm()))  # of tolerance 1e-5, and of dopri8
            torch.testing.assert_close(gradient, expected, rtol=0, atol=solves)


@pytest.mark.parametrize("solver", BY_TENSORS, ids=str)
@pytest.mark.parametrize("options", OWN)
def test_the_librarys_own_dynamics_name_all_of_theirs(solver, options):
    dynamics = MLPDynamics(2, **{"hidden_dims": (4,), **options}).double()
    transform = ContinuousTransform(
        dynamics.condition(), divergence="exact", solver=solver, regularizers=[JacobianNorm(0.1)]
    )
    transform.forward_with_log_det(torch.randn(4, 2, dtype=torch.float64))[1].sum().backward()
    assert all(p.grad is not None for p in dynamics.parameters())
