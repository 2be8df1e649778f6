"""Steps are as long as their settings say, however T is given, and in training as in evaluation."""

from __future__ import annotations

import pytest
import torch

from tests.seeds import reseed
from vae_flows.cnf import ContinuousTransform, IntegrationWarning, KineticEnergy, ODESolver
from vae_flows.errors import IntegrationError
from vae_flows.flows import FFJORD
from vae_flows.ode.options import in_units_of

ROUNDING = 1e-9  # of steps whose length was divided and multiplied

RK4 = ODESolver("rk4", options={"step_size": 0.05})


def spiral(t, z):
    return torch.tanh(z.flip(-1)) * (1 + t)


@pytest.mark.parametrize(
    "options",
    [
        {"time_conditioning": "concat"},
        {"time_conditioning": "concat_squash"},
        {"time_conditioning": "squash"},
        {"activation": "swish"},
        {"regularizers": [KineticEnergy(0.1)]},
        {"divergence": "brute_force"},
        {"hidden_dims": (6, 6, 6)},
        {"solver": ODESolver("rk4", options={"step_size": 0.05}, fused=False)},
        {"solver": ODESolver("euler", options={"step_size": 0.2})},
        {"solver": ODESolver("explicit_adams", options={"step_size": 0.05})},
    ],
    ids=str,
)
def test_a_learned_end_time_takes_the_same_steps_with_gradients_and_without(options):
    reseed()
    options = {"hidden_dims": (8,), "divergence": "exact", "solver": RK4, **options}
    flow = FFJORD(2, 4, train_integration_time=True, **options).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        flow.cnf.log_integration_time.fill_(1.1)  # T = 3
    context, z = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    found, counts = [], []
    for learning in (True, False):
        with torch.set_grad_enabled(learning):
            found.append([value.detach() for value in flow(context).forward_with_log_det(z)])
        work = flow.last_solve
        assert work is not None
        counts.append(work.accepted_steps)
    assert counts[0] == counts[1]
    for learned, evaluated in zip(*found, strict=True):
        torch.testing.assert_close(learned, evaluated, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize(
    "options", [{"step_size": 0.1}, {"grid_constructor": lambda f, y, t: torch.linspace(0, 9, 91, dtype=t.dtype)}]
)
def test_an_end_time_of_each_example_takes_the_steps_of_the_longest(options):
    z, solver = torch.randn(3, 2, dtype=torch.float64), ODESolver("euler", options=options)
    shared, each = (
        ContinuousTransform(spiral, integration_time=time, divergence="exact", solver=solver)
        for time in (9.0, torch.full((3,), 9.0, dtype=torch.float64))
    )
    torch.testing.assert_close(each(z), shared(z), rtol=1e-6, atol=1e-6)  # grids are added up in another order


@pytest.mark.parametrize("options", [{"max_step": 0.1}, {"first_step": 1e-3, "max_step": 0.1}])
def test_the_longest_step_is_the_same_for_each_example(options):
    z, meters = torch.randn(3, 2, dtype=torch.float64), []
    for time in (9.0, torch.full((3,), 9.0, dtype=torch.float64)):
        solver = ODESolver("dopri5", options=options)
        transform = ContinuousTransform(spiral, integration_time=time, divergence="exact", solver=solver)
        (meter,) = transform.forward_evaluation(z).meters
        meters.append(meter)
    assert meters[0].accepted_steps >= 90
    assert meters[0].accepted_steps == meters[1].accepted_steps


def test_options_that_are_times_are_measured_in_other_units():
    times = torch.tensor([0.5, 1.0])
    options = {"first_step": 0.1, "max_step": 1.0, "min_step": 0.01, "jump_t": times, "safety": 0.9}
    found = in_units_of(2.0, options)
    assert {name: found[name] for name in ("first_step", "max_step", "min_step", "safety")} == {
        "first_step": 0.05,
        "max_step": 0.5,
        "min_step": 0.005,
        "safety": 0.9,
    }
    assert torch.equal(found["jump_t"], times / 2)


@pytest.mark.parametrize("gradient", ["backprop", "recompute"])  # "adjoint" looks at the field once more, to check it
@pytest.mark.parametrize("learned", [False, True])
def test_every_evaluation_is_counted(gradient, learned):
    calls = 0

    def counting(t, z):
        nonlocal calls
        calls += 1
        return torch.tanh(z) * t

    time = torch.tensor(1.0, dtype=torch.float64, requires_grad=learned)
    transform = ContinuousTransform(
        counting, integration_time=time, divergence="exact", solver=ODESolver(gradient=gradient)
    )
    z = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    (meter,) = transform.forward_evaluation(z).meters
    assert meter.forward_evaluations == calls


def test_a_fallback_has_a_fallback_of_its_own():
    def solved(solver: ODESolver) -> torch.Tensor:
        transform = ContinuousTransform(lambda t, z: -z, divergence="exact", solver=solver)
        return transform(torch.ones(2, dtype=torch.float64))

    last = ODESolver("rk4", options={"step_size": 0.1})
    with pytest.warns(IntegrationWarning) as caught:
        end = solved(ODESolver(max_evaluations=5, fallback=ODESolver(max_evaluations=5, fallback=last)))
    assert len(caught) == 2
    assert torch.equal(end, solved(last))
    with pytest.warns(IntegrationWarning), pytest.raises(IntegrationError):
        solved(ODESolver(max_evaluations=5, fallback=ODESolver(max_evaluations=5)))
