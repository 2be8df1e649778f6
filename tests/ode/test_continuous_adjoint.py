"""The continuous adjoint stepped here, against differentiated solves and finite differences."""

import gc
import math
import weakref

import pytest
import torch

from tests.cnf.small_solves import gradients, problem
from tests.seeds import reseed
from vae_flows.cnf import ContinuousTransform, ODESolver
from vae_flows.errors import IntegrationError
from vae_flows.ode.tapes import AutogradTapedField

DISCRETIZATION = 1e-6  # what steps of 1/400, or a tolerance of 1e-10, leave
METHODS = ["dopri5", "bosh3", "fehlberg2", "adaptive_heun", "midpoint", "heun3", "rk4"]


def latents():
    reseed(2)
    return torch.randn(4, 3, dtype=torch.float64)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_agrees_with_a_differentiated_solve(method):
    dynamics, updates = problem()
    expected, _ = gradients(dynamics, updates, latents(), ODESolver(rtol=1e-10, atol=1e-10))
    adaptive = method in {"dopri5", "bosh3", "fehlberg2", "adaptive_heun"}
    # Methods of order two need more steps than are worth their time here.
    tolerance = {"dopri5": 1e-10, "adaptive_heun": 1e-7}.get(method, 1e-8)
    close = {"rtol": tolerance, "atol": tolerance} if adaptive else {"options": {"step_size": 1 / 400}}
    solver = ODESolver(method, gradient="adjoint", max_evaluations=10**5, **close)
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


def lively_problem():
    """Dynamics whose cotangents ask for more steps than the latents do."""
    dynamics, _ = problem(amortized="none", activation="tanh")
    with torch.no_grad():
        for parameter in dynamics.parameters():
            parameter *= 3
    return dynamics


def test_the_scale_of_the_loss_does_not_matter():
    """A mean over many examples makes small cotangents, which an absolute tolerance would not resolve."""
    dynamics = lively_problem()
    found = []
    for scale in (1.0, 1e-8):
        z = latents().requires_grad_()
        transform = ContinuousTransform(
            dynamics.condition(None, ()), solver=ODESolver(gradient="adjoint"), divergence="exact"
        )
        y, log_det = transform.forward_with_log_det(z)
        (gradient,) = torch.autograd.grad(scale * (y.sin().sum() + log_det.sum()), z)
        found.append(gradient / scale)
    rounding = 1e-12 * float(found[0].norm())  # of sums whose terms are as large as the gradient, not as an entry
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=rounding)


def test_the_weights_that_a_field_depends_on_have_no_part_in_the_choice_of_steps():
    """A field times a parameter of one, whose gradient is a thousand times the others': steps are those without it."""
    counts = []
    for factor in (1.0, 1e3):
        weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
        transform = ContinuousTransform(
            lambda t, z, weight=weight, factor=factor: torch.sin(z) * (1 + factor * (weight - weight.detach())),
            parameters=[weight],
            divergence="brute_force",
            solver=ODESolver(gradient="adjoint"),
        )
        z = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
        y, log_det = transform.forward_with_log_det(z)
        (y.sum() + log_det.sum()).backward()
        counts.append((transform.last_solve.backward_evaluations, weight.grad / factor))
    assert counts[0][0] == counts[1][0] > 0
    torch.testing.assert_close(counts[0][1], counts[1][1])


def test_the_cotangents_have_a_part_in_the_choice_of_steps():
    """Where latents stand still, cotangents need not: z(T) = z(0) = 0, but da/dt = −5 a cos 20 t."""
    transform = ContinuousTransform(
        lambda t, z: torch.sin(z) * 5 * torch.cos(20 * t),
        divergence="brute_force",
        solver=ODESolver(gradient="adjoint"),
    )
    z = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    y, _ = transform.forward_with_log_det(z)
    (gradient,) = torch.autograd.grad(y.sum(), z)
    torch.testing.assert_close(gradient, torch.full_like(z, math.exp(5 * math.sin(20) / 20)), rtol=1e-4, atol=0)


def test_a_path_that_cannot_be_solved_backwards_is_told():
    transform = ContinuousTransform(
        lambda t, z: -20 * torch.sin(z), divergence="brute_force", solver=ODESolver(gradient="adjoint")
    )
    _, log_det = transform.forward_with_log_det(latents().requires_grad_())
    with pytest.raises(IntegrationError, match=r"missed their start by .* gradient='recompute'"):
        log_det.sum().backward()


@pytest.mark.parametrize("gradient", ["backprop", "recompute", "adjoint"])
def test_weights_changed_before_the_backward_pass_are_told(gradient):
    dynamics, _ = problem(amortized="none")
    transform = ContinuousTransform(dynamics.condition(None, ()), solver=ODESolver(gradient=gradient))
    y, _ = transform.forward_with_log_det(latents().requires_grad_())
    with torch.no_grad():
        next(dynamics.parameters()).mul_(1.5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("gradient", ["recompute", "adjoint"])
def test_each_pass_backward_has_the_cap_to_itself(gradient):
    transform = ContinuousTransform(
        lambda t, z: torch.sin(z), divergence="brute_force", solver=ODESolver(gradient=gradient, max_evaluations=40)
    )
    z = latents().requires_grad_()
    y, _ = transform.forward_with_log_det(z)
    for _ in range(10):
        torch.autograd.grad(y.sum(), z, retain_graph=True)
    work = transform.last_solve
    assert work.backward_evaluations > 40
    assert work.accepted_steps * 6 < work.forward_evaluations + 6


BY_TORCHDIFFEQ = {"method": "rk4", "options": {"step_size": 1 / 32, "interp": "linear"}}  # for the sake of `interp`
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
EVERY_BACKWARD_PASS = [
    *({**CLOSE, "gradient": gradient} for gradient in ("backprop", "recompute", "adjoint")),
    {**CLOSE, "fused": False},
    *({**BY_TORCHDIFFEQ, "gradient": gradient} for gradient in ("backprop", "adjoint")),
]


@pytest.mark.parametrize("settings", EVERY_BACKWARD_PASS, ids=str)
def test_a_context_made_by_the_fields_own_module_is_differentiated_once(settings):
    class Field(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encode = torch.nn.Linear(3, 2).double()

        def forward(self, t, z, context):
            return torch.tanh(z * context) + self.encode.bias

    reseed()
    field = Field()
    x, z = torch.randn(4, 3).double(), torch.randn(4, 2).double()
    solver = ODESolver(**settings)

    def loss():
        transform = ContinuousTransform(
            field,
            context=field.encode(x),
            parameters=list(field.parameters()),
            divergence="brute_force",
            solver=solver,
        )
        y, log_det = transform.forward_with_log_det(z)
        return y.sin().sum() + log_det.sum()

    loss().backward()
    for parameter in field.parameters():
        flat, step = parameter.data.view(-1), 1e-5
        for index in range(len(flat)):
            with torch.no_grad():
                flat[index] += step
                above = loss()
                flat[index] -= 2 * step
                below = loss()
                flat[index] += step
            expected = (above - below) / (2 * step)
            torch.testing.assert_close(parameter.grad.view(-1)[index], expected, rtol=0, atol=1e-6)


class Named(torch.Tensor):
    """A tensor of another class."""


@pytest.mark.parametrize("settings", EVERY_BACKWARD_PASS, ids=str)
def test_a_context_of_another_class_is_differentiated(settings):
    context = torch.full((4, 2), 0.5, dtype=torch.float64, requires_grad=True)
    transform = ContinuousTransform(
        lambda t, z, c: c * z,
        context=context.as_subclass(Named),
        divergence="brute_force",
        solver=ODESolver(**settings),
    )
    z = torch.ones(4, 2, dtype=torch.float64)
    y, log_det = transform.forward_with_log_det(z)
    (gradient,) = torch.autograd.grad(y.sum() + log_det.sum(), context)
    # y = z exp(c), log|det| = Σ c
    expected = torch.full_like(context, math.exp(0.5) + 1)
    torch.testing.assert_close(torch.Tensor(gradient), expected, rtol=0, atol=DISCRETIZATION)


@pytest.mark.parametrize("settings", EVERY_BACKWARD_PASS, ids=str)
@pytest.mark.parametrize("each", [False, True])
def test_an_end_time_that_the_field_uses_too_is_differentiated_in_both_roles(settings, each):
    time = torch.tensor(0.7, dtype=torch.float64)
    time = (time.expand(4).clone() if each else time).requires_grad_()
    rate = time.unsqueeze(-1) if each else time
    transform = ContinuousTransform(
        lambda t, z: rate * z,
        integration_time=time,
        parameters=[time, rate],
        divergence="brute_force",
        solver=ODESolver(**settings),
    )
    z = torch.ones(4, 2, dtype=torch.float64)
    y, _ = transform.forward_with_log_det(z)
    (gradient,) = torch.autograd.grad(y.sum(), time)
    # y = exp(T²) for each of two dimensions and four examples, of which a shared T has all
    expected = torch.full_like(time, (1 if each else 4) * 2 * 2 * 0.7 * math.exp(0.49))
    torch.testing.assert_close(gradient, expected, rtol=0, atol=DISCRETIZATION * 10)


def test_tapes_do_not_outlive_their_step(monkeypatch):
    values, most = [], []
    record = AutogradTapedField.record

    def watched(self, t, z):
        rates, tape = record(self, t, z)
        values.append(weakref.ref(tape[1]))
        most.append(sum(value() is not None for value in values))
        return rates, tape

    monkeypatch.setattr(AutogradTapedField, "record", watched)
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


@pytest.mark.parametrize("gradient", ["backprop", "recompute", "adjoint"])
def test_a_users_field_takes_the_same_steps_whatever_its_gradient(gradient):
    """Inside of a solve that differentiates itself, latents that need gradients gave a trace of zero at first."""
    transform = ContinuousTransform(
        lambda t, z: torch.sin(z), divergence="brute_force", solver=ODESolver(gradient=gradient)
    )
    transform.forward_with_log_det(latents().requires_grad_())
    assert transform.last_solve.forward_evaluations == 20
    assert transform.last_solve.rejected_steps == 0


@pytest.mark.parametrize(("others", "end"), [(0, 1.4), (9, 1.2), (999, 1.0)])
def test_one_example_that_cannot_be_solved_backwards_is_told_among_any_number(others, end):
    """The gradients of the others are right, its own would be a fifth too large."""
    rates = torch.full((1 + others, 1), 0.1, dtype=torch.float64)
    rates[0] = 10.0
    z = torch.full_like(rates, 2.5).requires_grad_()
    transform = ContinuousTransform(
        lambda t, z, c: -c * torch.sin(z),
        context=rates,
        integration_time=end,
        divergence="exact",
        solver=ODESolver(gradient="adjoint"),
    )
    with pytest.raises(IntegrationError, match="missed their start"):
        transform(z).sum().backward()
