"""The backward pass written by hand, against automatic differentiation of the same computation."""

import pytest
import torch

from tests.cnf.small_solves import gradients, problem
from vae_flows.cnf import ContinuousTransform, LayerUpdate, ODESolver
from vae_flows.cnf.activations import available_activations
from vae_flows.errors import InvalidInputError

ROUNDING = 1e-11  # float64, sums over a solve
SETTINGS = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("samples", [(), (3,)])
@pytest.mark.parametrize("amortized", ["none", "bias", "low_rank"])
@pytest.mark.parametrize("hidden_dims", [(7,), (7, 6), (7, 6, 5)])
@pytest.mark.parametrize("divergence", [{"divergence": "exact"}, {}, {"num_probes": 2}])
def test_gradients_are_those_of_automatic_differentiation(samples, amortized, hidden_dims, divergence):
    dynamics, updates = problem(hidden_dims, amortized)
    z = torch.randn(*samples, 4, 3, dtype=torch.float64)
    expected, work = gradients(dynamics, updates, z, ODESolver(fused=False, **SETTINGS), **divergence)
    for gradient in ("backprop", "recompute"):
        got, work_here = gradients(dynamics, updates, z, ODESolver(gradient=gradient, **SETTINGS), **divergence)
        assert work_here.forward_evaluations == work.forward_evaluations
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("activation", available_activations())
@pytest.mark.parametrize("time_conditioning", ["ignore", "concat"])
def test_every_activation_and_time_conditioning(activation, time_conditioning):
    dynamics, updates = problem(activation=activation, time_conditioning=time_conditioning)
    z = torch.randn(4, 3, dtype=torch.float64)
    expected, _ = gradients(dynamics, updates, z, ODESolver(fused=False, **SETTINGS))
    got, _ = gradients(dynamics, updates, z, ODESolver(**SETTINGS))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(
    "method", ["dopri5", "bosh3", "fehlberg2", "adaptive_heun", "euler", "midpoint", "heun3", "rk4"]
)
def test_every_method_stepped_here(method):
    dynamics, updates = problem()
    z = torch.randn(4, 3, dtype=torch.float64)
    adaptive = method in {"dopri5", "bosh3", "fehlberg2", "adaptive_heun"}
    settings = {"method": method, **({"rtol": 1e-3, "atol": 1e-3} if adaptive else {"options": {"step_size": 0.1}})}
    expected, _ = gradients(dynamics, updates, z, ODESolver(fused=False, **settings))
    for gradient in ("backprop", "recompute"):
        got, _ = gradients(dynamics, updates, z, ODESolver(gradient=gradient, **settings))
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_continuous_adjoint_agrees_at_tight_tolerance(divergence):
    dynamics, updates = problem()
    z = torch.randn(4, 3, dtype=torch.float64)
    tight = {"rtol": 1e-10, "atol": 1e-10}
    expected, _ = gradients(dynamics, updates, z, ODESolver(**tight), divergence=divergence)
    got, work = gradients(dynamics, updates, z, ODESolver(gradient="adjoint", **tight), divergence=divergence)
    assert work.backward_evaluations > 0
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)


def test_a_dependence_on_time_of_each_example_beside_a_shift_that_they_share():
    dynamics, _ = problem(amortized="none")
    updates = [LayerUpdate(time_weight=torch.randn(4, width).double()) for width in dynamics.widths[1:]]
    z = torch.randn(4, 3, dtype=torch.float64)
    expected, _ = gradients(dynamics, updates, z, ODESolver(fused=False, **SETTINGS))
    got, _ = gradients(dynamics, updates, z, ODESolver(**SETTINGS))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=ROUNDING)


def test_many_evaluations_flush_the_low_rank_products_in_parts():
    dynamics, updates = problem()
    z = torch.randn(4, 3, dtype=torch.float64)
    solver = {"method": "rk4", "options": {"step_size": 0.7 / 13}}
    expected, _ = gradients(dynamics, updates, z, ODESolver(fused=False, **solver))
    got, _ = gradients(dynamics, updates, z, ODESolver(**solver))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=ROUNDING)


def test_gradients_only_where_they_are_wanted():
    dynamics, _ = problem()
    dynamics.requires_grad_(requires_grad=False)
    z = torch.randn(4, 3, dtype=torch.float64)
    transform = ContinuousTransform(dynamics.condition())
    assert not transform.forward_with_log_det(z)[0].requires_grad
    y, _ = transform.forward_with_log_det(z.clone().requires_grad_())
    assert y.requires_grad


def test_unfused_gradients_can_be_differentiated_again():
    dynamics, _ = problem(activation="tanh")
    z = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    for fused in (False, True):
        transform = ContinuousTransform(dynamics.condition(), solver=ODESolver(fused=fused, **SETTINGS))
        y, _ = transform.forward_with_log_det(z)
        if fused:
            with pytest.raises(InvalidInputError, match="second derivatives through a solve"):
                torch.autograd.grad(y.sin().sum(), z, create_graph=True)
        else:
            (first,) = torch.autograd.grad(y.sin().sum(), z, create_graph=True)
            first.sum().backward()
            assert z.grad is not None
            assert z.grad.any()
