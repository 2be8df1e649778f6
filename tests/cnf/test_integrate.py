import math

import pytest
import torch

from vae_flows.cnf import ODESolver, WorkCount
from vae_flows.errors import IntegrationError, InvalidInputError, UnknownNameError

ADAPTIVE = ["dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun"]
FIXED = ["euler", "midpoint", "heun3", "rk4", "explicit_adams"]


def pendulum(t, state):
    angle, speed = state
    return speed, -torch.sin(angle)


def solve(function, state, interval=(0.0, 1.0), **settings):
    work = WorkCount()
    end = ODESolver(**settings).solve(function, state, interval, work=work)
    return end, work


@pytest.mark.parametrize("method", ADAPTIVE)
def test_adaptive_methods_meet_their_tolerance_and_count_their_work(method):
    (y,), work = solve(lambda t, s: (s[0],), (torch.ones(2, dtype=torch.float64),), method=method, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(y, torch.full_like(y, math.e), rtol=1e-4, atol=0)
    assert work.accepted_steps > 0
    assert work.forward_evaluations > work.accepted_steps
    assert work.backward_evaluations == 0


@pytest.mark.parametrize("method", FIXED)
def test_fixed_steps_are_counted(method):
    (y,), work = solve(
        lambda t, s: (s[0],), (torch.ones(1, dtype=torch.float64),), method=method, options={"step_size": 0.05}
    )
    assert float(y) == pytest.approx(math.e, rel=0.03)
    assert work.accepted_steps == 20


def test_rejected_steps_are_counted():
    def kick(t, state):
        return (torch.where(t > 0.5, 100.0, 0.0) + 0 * state[0],)

    _, work = solve(kick, (torch.zeros(1, dtype=torch.float64),))
    assert work.rejected_steps > 0


def test_solving_back_returns_to_the_start():
    start = (torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor([0.0, -1.0], dtype=torch.float64))
    end, _ = solve(pendulum, start, rtol=1e-9, atol=1e-9)
    back, _ = solve(pendulum, end, (1.0, 0.0), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(back, start, rtol=0, atol=1e-7)


def test_gradients_of_both_methods_agree_with_finite_differences():
    start = torch.tensor([0.7], dtype=torch.float64)
    scale = torch.tensor(1.3, dtype=torch.float64)

    def value(scale, gradient):
        solver = ODESolver(rtol=1e-12, atol=1e-12, gradient=gradient)
        (y,) = solver.solve(lambda t, s: (torch.sin(scale * s[0]) + t,), (start,), (0.0, 1.0), [scale])
        return y.sum()

    step = 1e-4
    expected = (value(scale + step, "backprop") - value(scale - step, "backprop")) / (2 * step)
    for gradient in ("backprop", "adjoint"):
        parameter = scale.clone().requires_grad_()
        (got,) = torch.autograd.grad(value(parameter, gradient), parameter)
        assert float(got) == pytest.approx(float(expected), rel=1e-7)


def test_adjoint_evaluations_are_counted_when_they_happen():
    parameter = torch.ones(1, dtype=torch.float64, requires_grad=True)
    start, work = torch.ones(1, dtype=torch.float64), WorkCount()
    solver = ODESolver(gradient="adjoint")
    (y,) = solver.solve(lambda t, s: (parameter * s[0],), (start,), (0.0, 1.0), [parameter], work)
    assert work.backward_evaluations == 0
    y.sum().backward()
    assert work.backward_evaluations > 0


FAILURES = {
    "nan": lambda t, s: (s[0] * float("nan"),),
    "blow-up": lambda t, s: (s[0] ** 2,),
    "stiff": lambda t, s: (-1e7 * (s[0] - torch.cos(t)),),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("method", ["dopri5", "bosh3"])
def test_failing_solves_end_within_the_cap_and_say_why(name, method):
    cap = 500
    with pytest.raises(IntegrationError, match="Loosen rtol and atol") as caught:
        solve(FAILURES[name], (torch.full((3,), 1.5),), (0.0, 2.0), method=method, max_evaluations=cap)
    assert caught.value.evaluations <= cap + 1
    assert caught.value.t is not None
    assert 0 <= caught.value.t <= 2.0


@pytest.mark.parametrize("name", ["nan", "blow-up"])
def test_fixed_steps_do_not_pass_on_values_that_are_not_finite(name):
    with pytest.raises(IntegrationError, match="not finite"):
        solve(FAILURES[name], (torch.full((3,), 1.5),), (0.0, 40.0), method="rk4", options={"step_size": 0.5})


def test_settings_are_checked():
    with pytest.raises(UnknownNameError, match="Did you mean 'dopri5'"):
        ODESolver(method="dopri55")
    with pytest.raises(UnknownNameError, match="gradient"):
        ODESolver(gradient="adjiont")
    with pytest.raises(InvalidInputError, match="rtol"):
        ODESolver(rtol=0)
    with pytest.raises(InvalidInputError, match="max_evaluations"):
        ODESolver(max_evaluations=0)
