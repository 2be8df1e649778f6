import inspect
import math

import pytest
import torch
from torchdiffeq._impl.odeint import SOLVERS

import vae_flows as vf
from vae_flows.cnf import (
    ContinuousNormalizingFlow,
    ContinuousTransform,
    FunctionField,
    JacobianNorm,
    KineticEnergy,
    MLPDynamics,
    ODESolver,
    WorkMeter,
)
from vae_flows.errors import IntegrationError, InvalidInputError, UnknownNameError
from vae_flows.ode.options import check_options

NAN = float("nan")
ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams", "implicit_adams", "fixed_adams")


@pytest.mark.parametrize("method", SOLVERS)
def test_every_method_of_torchdiffeq_has_its_options_listed(method):
    named = set()
    for kind in SOLVERS[method].__mro__[:-1]:
        named |= set(inspect.signature(kind.__init__).parameters)
    given_otherwise = {"self", "func", "y0", "rtol", "atol", "kwargs", "unused_kwargs"}
    # explicit_adams sets `implicit` itself; fixed steps have no use of the norm that odeint passes to all.
    expected = named - given_otherwise - ({"implicit"} if method == "explicit_adams" else set())
    for name in expected:
        with pytest.raises(InvalidInputError, match=f"option '{name}'"):
            check_options(method, {name: object() if name != "grid_constructor" else 3})
    with pytest.raises(UnknownNameError, match=f"option of method '{method}'"):
        check_options(method, {"grid_points": torch.tensor([0.1])})


@pytest.mark.parametrize("method", FIXED)
@pytest.mark.parametrize("value", [-0.1, 0, NAN, math.inf, "0.1", None, True, [0.1], torch.tensor([0.1, 0.2])])
def test_step_sizes_are_positive_numbers(method, value):
    with pytest.raises(InvalidInputError, match="option 'step_size'"):
        ODESolver(method=method, options={"step_size": value})


WRONG_VALUES = {
    "first_step": (-1, 0, NAN, "x"),
    "max_step": (-1, 0, NAN, "inf"),
    "safety": (-1, 0, 1.5, NAN),
    "ifactor": (0.5, 1, NAN),
    "dfactor": (2, 0, 1, NAN),
    "min_step": (-1, NAN),
    "max_num_steps": (0, 1.5, True),
    "step_t": (0.5, torch.tensor(0.5), torch.tensor([NAN])),
    "jump_t": ("x", torch.tensor([1])),
    "dtype": ("float32", torch.float16),
    "norm": ("seminorm", 2),
}


@pytest.mark.parametrize("method", ADAPTIVE)
@pytest.mark.parametrize(("name", "value"), [(name, value) for name in WRONG_VALUES for value in WRONG_VALUES[name]])
def test_options_of_adaptive_methods_are_of_their_type_and_range(method, name, value):
    with pytest.raises(InvalidInputError, match=f"option '{name}' of method '{method}'"):
        ODESolver(method=method, options={name: value})


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"method": "rk4", "options": {"stepsize": 0.05}}, "Did you mean 'step_size'"),
        ({"method": "rk4", "options": {"first_step": 0.1}}, "option of method 'rk4'"),
        ({"method": "dopri5", "options": {"step_size": 0.1}}, "option of method 'dopri5'"),
        ({"method": "dopri8", "options": {"saftey": 0.9}}, "Did you mean 'safety'"),
        ({"method": "fixed_adams", "options": {"max_order": 13}}, "from 1 to 12"),
        ({"method": "fixed_adams", "options": {"implicit": "no"}}, "True or False"),
        ({"method": "explicit_adams", "options": {"implicit": True}}, "option of method"),
        ({"method": "rk4", "options": {"interp": "quintic"}}, "'linear' or 'cubic'"),
        ({"method": "rk4", "options": {"step_size": 0.1, "grid_constructor": print}}, "got both"),
        ({"method": "scipy_solver", "gradient": "adjoint", "options": {"solver": "RK54"}}, "RK45"),
        ({"options": None}, "a mapping"),
        ({"options": 3}, "a mapping"),
        ({"options": [("first_step", 0.1)]}, "a mapping"),
        ({"options": {3: 0.1}}, "a name"),
        ({"rtol": "1e-3"}, "rtol"),
        ({"rtol": 0}, "rtol"),
        ({"rtol": True}, "rtol"),
        ({"atol": NAN}, "atol"),
        ({"atol": -1e-3}, "atol"),
        ({"atol": [1e-3]}, "atol"),
        ({"method": None}, "ODE method"),
        ({"method": ["dopri5"]}, "ODE method"),
        ({"gradient": None}, "gradient"),
        ({"max_evaluations": "9"}, "max_evaluations"),
        ({"max_evaluations": NAN}, "max_evaluations"),
        ({"max_evaluations": True}, "max_evaluations"),
        ({"max_evaluations": 9.5}, "max_evaluations"),
        ({"fallback": 3}, "fallback"),
        ({"fallback": "rk4"}, "fallback"),
        ({"fallback": {"method": "rk4"}}, "fallback"),
        ({"fused": "no"}, "fused"),
        ({"fused": 0}, "fused"),
        ({"compile": "no"}, "compile"),
        ({"compile": 1}, "compile"),
    ],
)
def test_settings_are_told_when_a_solver_is_made(settings, match):
    with pytest.raises((InvalidInputError, UnknownNameError), match=match):
        ODESolver(**settings)


def test_later_changes_of_the_options_given_do_not_reach_the_solver():
    options = {"step_size": 0.1}
    solver = ODESolver(method="rk4", options=options)
    options["step_size"] = -1
    assert solver.options == {"step_size": 0.1}


def makers(**settings):
    yield lambda: vf.FFJORD(3, 4, hidden_dims=(4,), **settings)
    yield lambda: ContinuousNormalizingFlow(MLPDynamics(2, (4,)), **settings)
    if "eval_solver" not in settings:
        yield lambda: ContinuousTransform(lambda t, z: z, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "dopri5"},
        {"solver": {"rtol": 1e-3}},
        {"solver": ODESolver},
        {"solver": 0},
        {"eval_solver": {"rtol": 1e-3}},
        {"eval_solver": ""},
        {"regularizers": "x"},
        {"regularizers": ""},
        {"regularizers": [3]},
        {"regularizers": KineticEnergy(0.1)},
        {"regularizers": {"kinetic": 0.1}},
        {"divergence": 3},
        {"divergence": "hutchinsn"},
        {"integration_time": "1"},
        {"integration_time": None},
        {"integration_time": NAN},
    ],
)
def test_whatever_takes_settings_checks_their_type(settings):
    for make in makers(**settings):
        with pytest.raises((InvalidInputError, UnknownNameError), match=next(iter(settings))):
            make()


@pytest.mark.parametrize("weight", ["0.1", None, True, NAN, 0, -1])
def test_weights_of_regularizers_are_positive_numbers(weight):
    with pytest.raises(InvalidInputError, match="KineticEnergy weight"):
        KineticEnergy(weight)
    with pytest.raises(UnknownNameError, match="rademacher"):
        JacobianNorm(0.1, noise="rademachr")  # pyright: ignore[reportArgumentType]


def solve_decay(solver, work=None, requires_grad=False):
    z = torch.ones(2, 1, dtype=torch.float64, requires_grad=requires_grad)
    return solver.solve(FunctionField(lambda t, z: -z).with_trace(), z, (0.0, 1.0), work)


@pytest.mark.parametrize("gradient", ["backprop", "adjoint"])
@pytest.mark.parametrize("size", [1e-8, 1e-300, 5e-324])
@pytest.mark.parametrize("options", [{}, {"perturb": True}])
@pytest.mark.parametrize("method", ["euler", "rk4", "explicit_adams", "fixed_adams"])
def test_the_cap_holds_before_a_list_of_steps_is_made(method, options, size, gradient):
    solver = ODESolver(method=method, options={"step_size": size, **options}, gradient=gradient, max_evaluations=8)
    work = WorkMeter()
    with pytest.raises(IntegrationError, match="above the cap of 8"):
        solve_decay(solver, work, requires_grad=True)
    assert work.forward_evaluations == 0


def test_the_cap_holds_for_a_grid_of_ones_own():
    def grid(function, state, times):
        return torch.linspace(float(times[0]), float(times[1]), 10, dtype=times.dtype)

    allowed = ODESolver(method="euler", options={"grid_constructor": grid}, max_evaluations=9)
    assert solve_decay(allowed)[0][0].item() == pytest.approx((8 / 9) ** 9)
    with pytest.raises(IntegrationError, match="the steps need 9 evaluations"):
        solve_decay(ODESolver(method="euler", options={"grid_constructor": grid}, max_evaluations=8))


@pytest.mark.parametrize(("method", "needed"), [("euler", 10), ("midpoint", 20), ("rk4", 40)])
def test_the_cap_is_the_number_of_evaluations_that_are_allowed(method, needed):
    work = WorkMeter()
    options = {"step_size": 0.1}
    solve_decay(ODESolver(method=method, options=options, max_evaluations=needed), work)
    assert work.forward_evaluations == needed
    with pytest.raises(IntegrationError, match="cap"):
        solve_decay(ODESolver(method=method, options=options, max_evaluations=needed - 1))


@pytest.mark.parametrize("method", ["dopri5", "bosh3", "dopri8"])
def test_an_adaptive_solve_may_make_as_many_evaluations_as_the_cap_says(method):
    work = WorkMeter()
    solve_decay(ODESolver(method=method), work)
    needed = work.forward_evaluations
    solve_decay(ODESolver(method=method, max_evaluations=needed))
    with pytest.raises(IntegrationError, match=f"the cap of {needed - 1} evaluations was met") as caught:
        solve_decay(ODESolver(method=method, max_evaluations=needed - 1))
    assert caught.value.evaluations == needed


@pytest.mark.parametrize("steps", [3, 7, 10, 49, 1000])
def test_an_interval_of_whole_steps_takes_no_sliver_more(steps):
    """0.1 · 3 is above 0.3 by rounding, and 1 / 49 · 49 below 1."""
    for length in (1.0, 0.3, 2.1):
        work = WorkMeter()
        z = torch.ones(1, 1, dtype=torch.float64)
        solver = ODESolver(method="euler", options={"step_size": length / steps})
        solver.solve(FunctionField(lambda t, z: -z).with_trace(), z, (0.0, length), work)
        assert work.accepted_steps == steps
    work = WorkMeter()
    solve_decay(ODESolver(method="euler", options={"step_size": 1 / (steps + 1e-3)}), work)
    assert work.accepted_steps == steps + 1  # the slack is for rounding alone


@pytest.mark.parametrize("gradient", ["backprop", "recompute"])
@pytest.mark.parametrize("options", [{}, {"solver": "RK45"}])
def test_solves_of_scipy_leave_no_graph_and_say_so(gradient, options):
    with pytest.raises(InvalidInputError, match="'adjoint' for method 'scipy_solver'"):
        ODESolver(method="scipy_solver", gradient=gradient, options=options)


@pytest.mark.slow
def test_gradients_through_solves_of_scipy_are_those_of_the_adjoint():
    pytest.importorskip("scipy")
    z = torch.ones(2, 1, dtype=torch.float64, requires_grad=True)
    solver = ODESolver(method="scipy_solver", gradient="adjoint", rtol=1e-9, atol=1e-9)
    end, _ = solver.solve(FunctionField(lambda t, z: -z).with_trace(), z, (0.0, 1.0))
    (got,) = torch.autograd.grad(end.sum(), z)
    torch.testing.assert_close(got, torch.full_like(got, math.exp(-1)), rtol=0, atol=1e-6)
