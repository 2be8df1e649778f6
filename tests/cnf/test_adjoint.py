"""The continuous adjoint stepped here, against differentiated solves and finite differences."""

import gc
import weakref

import pytest
import torch

from tests.cnf.test_fused import gradients, problem
from vae_flows.cnf import ContinuousTransform, ODESolver
from vae_flows.cnf.taped import AutogradTape
from vae_flows.errors import IntegrationError

DISCRETIZATION = 1e-6  # what steps of 1/400, or a tolerance of 1e-10, leave
METHODS = ["dopri5", "bosh3", "fehlberg2", "adaptive_heun", "midpoint", "heun3", "rk4"]


def latents():
    torch.manual_seed(2)
    return torch.randn(4, 3, dtype=torch.float64)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_agrees_with_a_differentiated_solve(method):
    dynamics, updates = problem()
    expected, _ = gradients(dynamics, updates, latents(), ODESolver(rtol=1e-10, atol=1e-10))
    adaptive = method in {"dopri5", "bosh3", "fehlberg2", "adaptive_heun"}
    # Methods of order two need more steps than are worth their time here.
    tolerance = 1e-10 if method == "dopri5" else 1e-8
    options = {} if adaptive else {"step_size": 1 / 400}
    solver = ODESolver(
        method, gradient="adjoint", rtol=tolerance, atol=tolerance, options=options, max_evaluations=10**5
    )
    got, work = gradients(dynamics, updates, latents(), solver)
    assert work.backward_evaluations > 0
    order_two = method in {"midpoint", "fehlberg2", "adaptive_heun"}
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=DISCRETIZATION * (100 if order_two else 1))


def test_gradient_of_both_directions_against_finite_differences():
    dynamics, _ = problem(amortized="none")
    solver = ODESolver(gradient="adjoint", rtol=1e-11, atol=1e-11)
    transform = ContinuousTransform(dynamics.condition(None, ()), solver=solver, divergence="exact")
    z = latents().requires_grad_()

    def both(z):
        ahead, log_det = transform.forward_with_log_det(z)
        back, inverse_log_det = transform.inverse_with_log_det(z)
        return ahead, log_det, back, inverse_log_det

    assert torch.autograd.gradcheck(both, (z,), eps=1e-5, atol=1e-6)


def test_the_scale_of_the_loss_does_not_matter():
    """A mean over many examples makes small cotangents, which an absolute tolerance would not resolve."""
    dynamics, _ = problem(amortized="none")
    found = []
    for scale in (1.0, 1e-8):
        z = latents().requires_grad_()
        transform = ContinuousTransform(
            dynamics.condition(None, ()), solver=ODESolver(gradient="adjoint"), divergence="exact"
        )
        y, log_det = transform.forward_with_log_det(z)
        (gradient,) = torch.autograd.grad(scale * (y.sin().sum() + log_det.sum()), z)
        found.append(gradient / scale)
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=0)


def test_gradients_of_weights_have_no_part_in_the_choice_of_steps():
    counts = []
    for train_weights in (True, False):
        dynamics, _ = problem(amortized="none")
        dynamics.requires_grad_(train_weights)
        z = latents().requires_grad_()
        transform = ContinuousTransform(
            dynamics.condition(None, ()), solver=ODESolver(gradient="adjoint"), divergence="exact"
        )
        y, log_det = transform.forward_with_log_det(z)
        # The weights' gradients are thousands of times larger than the latents'.
        (1e-6 * y.sum() + log_det.sum()).backward()
        counts.append(transform.last_solve.backward_evaluations)
    assert counts[0] == counts[1] > 0


def test_tapes_do_not_outlive_their_step(monkeypatch):
    values, most = [], []
    record = AutogradTape.record

    def watched(self, t, z):
        rates, tape = record(self, t, z)
        values.append(weakref.ref(tape[1]))
        most.append(sum(value() is not None for value in values))
        return rates, tape

    monkeypatch.setattr(AutogradTape, "record", watched)
    gc.disable()
    try:
        z = latents().requires_grad_()
        solver = ODESolver(gradient="adjoint", rtol=1e-9, atol=1e-9)
        transform = ContinuousTransform(
            lambda t, z: torch.sin(3 * z) * (1 + t), solver=solver, divergence="brute_force"
        )
        y, log_det = transform.forward_with_log_det(z)
        (y.sum() + log_det.sum()).backward()
    finally:
        gc.enable()
    assert len(most) > 50
    assert max(most) <= 8


def test_a_gradient_that_is_not_finite_is_refused():
    dynamics, _ = problem(amortized="none")
    transform = ContinuousTransform(dynamics.condition(None, ()), solver=ODESolver(gradient="adjoint"))
    y, _ = transform.forward_with_log_det(latents().requires_grad_())
    with pytest.raises(IntegrationError, match="gradient of the loss that came back"):
        (y.sum() * float("nan")).backward()
