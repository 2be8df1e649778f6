import math

import pytest
import torch

from vae_flows.cnf import FunctionField, IntegrationWarning, ODESolver, WorkMeter
from vae_flows.errors import IntegrationError, InvalidInputError, UnknownNameError

STEPPED_HERE = ["dopri5", "bosh3", "fehlberg2", "adaptive_heun"]
ADAPTIVE = [*STEPPED_HERE, "dopri8"]
FIXED = ["euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams"]
ONE = torch.ones(2, 1, dtype=torch.float64)


def solve(function, z, interval=(0.0, 1.0), parameters=(), **settings):
    work = WorkMeter()
    field = FunctionField(function, parameters).with_trace()
    z, integrals = ODESolver(**settings).solve(field, z, interval, work)
    return z, integrals[..., 0], work


@pytest.mark.parametrize("method", ADAPTIVE)
def test_adaptive_methods_meet_their_tolerance_and_count_their_work(method):
    y, integral, work = solve(lambda t, z: z, ONE, method=method, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(y.detach(), math.e * ONE, rtol=1e-3, atol=0)
    torch.testing.assert_close(integral.detach(), ONE[:, 0], rtol=1e-4, atol=0)
    assert work.accepted_steps > 0
    assert work.forward_evaluations > work.accepted_steps
    assert work.backward_evaluations == 0
    assert (0 < work.largest_error_ratio <= 1) == (method in STEPPED_HERE)


@pytest.mark.parametrize("method", FIXED)
def test_fixed_steps_are_counted(method):
    y, _, work = solve(lambda t, z: z, ONE, method=method, options={"step_size": 0.05})
    torch.testing.assert_close(y.detach(), math.e * ONE, rtol=0.03, atol=0)
    assert work.accepted_steps == 20


def test_rejected_steps_are_counted():
    _, _, work = solve(lambda t, z: torch.where(t > 0.5, 100.0, 0.0) + 0 * z, 0 * ONE)
    assert work.rejected_steps > 0


@pytest.mark.parametrize("method", ["dopri5", "rk4", "dopri8"])
def test_solving_back_returns_to_the_start(method):
    def pendulum(t, z):
        return torch.stack([z[..., 1], -torch.sin(z[..., 0]) + t], -1)

    start = torch.tensor([[1.0, 2.0], [0.0, -1.0]], dtype=torch.float64)
    close = {"options": {"step_size": 0.01}} if method == "rk4" else {"rtol": 1e-9, "atol": 1e-9}
    settings = {"method": method, **close}
    end, _, _ = solve(pendulum, start, **settings)
    back, _, _ = solve(pendulum, end.detach(), (1.0, 0.0), **settings)
    torch.testing.assert_close(back.detach(), start, rtol=0, atol=3e-6)  # dopri8's interpolation; others 1e-8


@pytest.mark.parametrize("method", ["dopri5", "bosh3", "rk4", "euler"])
@pytest.mark.parametrize("options", [{}, {"dtype": torch.float64}, {"perturb": False}])
def test_this_librarys_steps_and_torchdiffeqs_agree(method, options):
    """An option that only torchdiffeq knows, at its default value, has torchdiffeq make the solve."""
    adaptive = method in ADAPTIVE
    if options and ("dtype" in options) != adaptive:
        pytest.skip("not an option of this kind of method")
    size = {} if adaptive else {"step_size": 0.1}
    settings = {"method": method, **({"rtol": 1e-8, "atol": 1e-8} if adaptive else {})}
    y, integral, _ = solve(lambda t, z: torch.sin(3 * z) + t, ONE, options=size, **settings)
    expected = solve(lambda t, z: torch.sin(3 * z) + t, ONE, options={**size, **options}, **settings)
    tolerance = 1e-6 if adaptive else 1e-12  # the same steps, or steps of the same tolerance
    torch.testing.assert_close(y, expected[0], rtol=0, atol=tolerance)
    torch.testing.assert_close(integral, expected[1], rtol=0, atol=tolerance)


@pytest.mark.parametrize("gradient", ["backprop", "recompute", "adjoint"])
def test_gradients_of_all_methods_agree_with_finite_differences(gradient):
    start = torch.tensor([[0.7]], dtype=torch.float64)

    def value(scale):
        y, integral, work = solve(
            lambda t, z: torch.sin(scale * z) + t, start, parameters=[scale], rtol=1e-12, atol=1e-12, gradient=gradient
        )
        return (y + 2 * integral.unsqueeze(-1)).sum(), work

    scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    loss, work = value(scale)
    assert work.backward_evaluations == 0
    (got,) = torch.autograd.grad(loss, scale)
    assert (work.backward_evaluations > 0) == (gradient != "backprop")
    step = 1e-4
    with torch.no_grad():
        expected = (value(scale + step)[0] - value(scale - step)[0]) / (2 * step)
    assert float(got) == pytest.approx(float(expected.detach()), rel=1e-7)


FAILURES = {
    "nan": lambda t, z: z * float("nan"),
    "blow-up": lambda t, z: z**2,
    "stiff": lambda t, z: -1e7 * (z - torch.cos(t)),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("method", ["dopri5", "bosh3", "dopri8"])
@pytest.mark.parametrize("interval", [(0.0, 2.0), (2.0, 0.0)])
def test_failing_solves_end_within_the_cap_and_say_why(name, method, interval):
    cap, start = 500, torch.full((3, 1), -1.5 if interval[0] and name == "blow-up" else 1.5)
    with pytest.raises(IntegrationError, match="Loosen rtol and atol") as caught:
        solve(FAILURES[name], start, interval, method=method, max_evaluations=cap)
    assert caught.value.evaluations <= cap + 1
    assert caught.value.t is not None
    assert 0 <= caught.value.t <= 2.0


@pytest.mark.parametrize("name", ["nan", "blow-up"])
@pytest.mark.parametrize("method", ["rk4", "explicit_adams"])
def test_fixed_steps_do_not_pass_on_values_that_are_not_finite(name, method):
    with pytest.raises(IntegrationError, match="not finite"):
        solve(FAILURES[name], torch.full((3, 1), 1.5), (0.0, 40.0), method=method, options={"step_size": 0.5})


def test_settings_are_checked():
    with pytest.raises(UnknownNameError, match="Did you mean 'dopri5'"):
        ODESolver(method="dopri55")
    with pytest.raises(UnknownNameError, match="gradient"):
        ODESolver(gradient="adjiont")
    with pytest.raises(InvalidInputError, match="rtol"):
        ODESolver(rtol=0)
    with pytest.raises(InvalidInputError, match="max_evaluations"):
        ODESolver(max_evaluations=0)
    with pytest.raises(InvalidInputError, match="recompute"):
        ODESolver(method="dopri8", gradient="recompute")


def test_a_failing_solve_can_fall_back_to_fixed_steps_with_a_warning():
    field = FunctionField(lambda t, z: -1e7 * (z - torch.cos(t))).with_trace()
    fixed = ODESolver(method="euler", options={"step_size": 1e-7})
    solver = ODESolver(max_evaluations=50, fallback=fixed)
    work = WorkMeter()
    with pytest.warns(IntegrationWarning, match="Falling back to ODESolver"):
        z, _ = solver.solve(field, ONE, (0.0, 1e-5), work)
    assert torch.isfinite(z).all()
    assert work.forward_evaluations > 100
    with pytest.raises(IntegrationError), pytest.warns(IntegrationWarning):
        ODESolver(max_evaluations=50, fallback=ODESolver(max_evaluations=50)).solve(field, ONE, (0.0, 1e-2))


@pytest.mark.parametrize("weight_scale", [1.0, 1e4])
def test_weights_do_not_choose_the_steps_of_torchdiffeqs_adjoint(weight_scale):
    """The seminorm leaves the integral of the weights' gradients out: scaling it makes the backward solve no dearer."""
    rate = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)

    def oscillate(t, z):
        # The gradient of `rate` is an integral of a fast oscillation, that of z a smooth function.
        return -z + weight_scale * (rate - rate.detach()) * torch.sin(60 * t)

    z = torch.ones(2, 1, dtype=torch.float64, requires_grad=True)
    field = FunctionField(oscillate, [rate]).with_trace()
    work = WorkMeter()
    end, _ = ODESolver(method="dopri8", gradient="adjoint").solve(field, z, (0.0, 1.0), work)
    end.sum().backward()
    assert work.read().backward_evaluations < 60
