import math
from itertools import pairwise, product

import pytest
import torch

from tests.seeds import reseed
from vae_flows.cnf import ContinuousTransform, LayerUpdate, MLPDynamics, ODESolver
from vae_flows.ode import stepping
from vae_flows.ode.progress import SolveProgress, WorkMeter
from vae_flows.ode.stepping import SteppingSettings, integrate
from vae_flows.ode.tableaus import TABLEAUS, Tableau

ORDER = 0.25  # how far a fitted order may be from the method's


def settings(tableau, **options):
    return SteppingSettings(tableau, rtol=1e-5, atol=1e-5, latent_dim=1, controlled=2, options=options)


def fixed(tableau: Tableau) -> Tableau:
    return Tableau(tableau.order, tableau.nodes, tableau.stages, tableau.weights)


@pytest.mark.parametrize("name", TABLEAUS)
def test_tableaus_are_consistent(name):
    tableau = TABLEAUS[name]
    for node, row in zip(tableau.nodes, tableau.stages, strict=True):
        assert math.isclose(node, sum(row), abs_tol=1e-13)
    assert math.isclose(sum(tableau.weights), 1, abs_tol=1e-13)
    assert math.isclose(sum(tableau.error_weights), 0, abs_tol=1e-13)
    assert tableau.is_adaptive == (name in {"dopri5", "bosh3", "fehlberg2", "adaptive_heun"})
    assert tableau.reuses_last_stage == (name in {"dopri5", "bosh3"})


@pytest.mark.parametrize("name", TABLEAUS)
def test_order_of_convergence(name):
    """Halving the step divides the error by 2 to the order: y' = 3 y cos t, y = exp(3 sin t)."""

    def evaluate(t, state):
        return torch.cat([3 * state[..., :1] * math.cos(t), torch.ones_like(state[..., :1])], -1)

    tableau = fixed(TABLEAUS[name])
    start = torch.tensor([[1.0, 0.0]], dtype=torch.float64)

    def end(count):
        progress = SolveProgress(WorkMeter(), 10**6)
        return integrate(evaluate, start, (0.0, 2.0), settings(tableau, step_size=2 / count), progress)[0, 0]

    exact = math.exp(3 * math.sin(2))
    errors = [abs(float(end(count) - exact)) for count in (40, 80, 160)]
    for coarse, fine in pairwise(errors):
        assert abs(math.log2(coarse / fine) - tableau.order) < ORDER


def accepted_steps(evaluate, state, settings, work=None):
    """Integrate from 0 to 1 and return the end and the accepted steps."""
    steps = []

    def observe(step, accepted):
        if accepted:
            steps.append(step)

    progress = SolveProgress(work or WorkMeter(), 10**6)
    return integrate(evaluate, state, (0.0, 1.0), settings, progress, observe), steps


def test_steps_name_their_evaluations():
    times = []

    def evaluate(t, state):
        times.append(t)
        return -5 * state * (1 + math.sin(9 * t))

    state = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    work = WorkMeter()
    end, steps = accepted_steps(evaluate, state, settings(TABLEAUS["dopri5"]), work)
    assert len(steps) == work.accepted_steps > 3
    tableau = TABLEAUS["dopri5"]
    for step in steps:
        expected = [step.t + node * step.size for node in tableau.nodes]
        assert [times[number] for number in step.evaluations] == pytest.approx(expected, abs=1e-12)
    for before, after in pairwise(steps):
        assert before.evaluations[-1] == after.evaluations[0]
        assert before.t + before.size == pytest.approx(after.t)
    assert steps[-1].t + steps[-1].size == pytest.approx(1.0)
    assert torch.isfinite(end).all()


def test_rejected_steps_are_observed_too():
    def evaluate(t, state):
        return -50 * state

    observed = []
    work = WorkMeter()
    integrate(
        evaluate,
        torch.ones(1, 2, dtype=torch.float64),
        (0.0, 1.0),
        settings(TABLEAUS["dopri5"], first_step=0.5),
        SolveProgress(work, 10**6),
        lambda step, accepted: observed.append((step.t, accepted)),
    )
    assert observed[0] == (0.0, False)
    assert sum(accepted for _, accepted in observed) == work.accepted_steps
    assert sum(not accepted for _, accepted in observed) == work.rejected_steps > 0


def test_options_of_adaptive_steps():
    def evaluate(t, state):
        return -state

    state = torch.ones(1, 2, dtype=torch.float64)

    def run(**options):
        return accepted_steps(evaluate, state, settings(TABLEAUS["dopri5"], **options))[1]

    assert run(first_step=1e-3)[0].size == 1e-3
    assert max(step.size for step in run(max_step=0.01)) <= 0.01
    assert len(run(safety=0.2)) > len(run())
    growth = [after.size / before.size for before, after in pairwise(run(first_step=1e-4, ifactor=2.0))]
    assert max(growth[:-2]) == pytest.approx(2.0)


def test_no_sliver_is_left_for_the_last_step():
    def evaluate(t, state):
        return 0 * state

    state = torch.ones(1, 2, dtype=torch.float64)
    _, steps = accepted_steps(evaluate, state, settings(TABLEAUS["dopri5"], first_step=0.9))
    assert [step.size for step in steps] == pytest.approx([0.5, 0.5])


def test_a_step_as_long_as_what_remains_is_the_last():
    state = torch.ones(1, 2, dtype=torch.float64)
    _, steps = accepted_steps(lambda t, z: 0 * z, state, settings(TABLEAUS["dopri5"], first_step=1.0))
    assert [(step.t, step.size) for step in steps] == [(0.0, 1.0)]


def stack(*columns):
    return torch.stack(columns, -1)


CLASSIC = {  # f(z), z(0), T
    "van der Pol": (lambda z: stack(z[..., 1], 5 * (1 - z[..., 0] ** 2) * z[..., 1] - z[..., 0]), (2.0, 0.0), 10.0),
    "oscillator": (lambda z: stack(10 * z[..., 1], -10 * z[..., 0]), (1.0, 0.0), 3.0),
    "decay": (lambda z: -50 * z, (1.0, 2.0), 1.0),
    "predator and prey": (
        lambda z: stack(z[..., 0] * (1.5 - z[..., 1]), z[..., 1] * (z[..., 0] - 3)),
        (1.0, 1.0),
        6.0,
    ),
}


def steps_tried(function, start, end, tolerance):
    work = WorkMeter()
    state = torch.tensor([start], dtype=torch.float64)
    chosen = SteppingSettings(TABLEAUS["dopri5"], tolerance, tolerance, latent_dim=2, controlled=2, options={})
    integrate(lambda t, z: function(z), state, (0.0, end), chosen, SolveProgress(work, 10**6))
    return work.accepted_steps + work.rejected_steps


def evaluations_of_posteriors(tolerance):
    """Of solves of posteriors amortised by biases, from nearly still to lively, over short and long times."""
    for spread, time in product((0.3, 1.0, 2.0, 4.0), (0.5, 1.0, 2.0)):
        reseed()
        dynamics = MLPDynamics(16, (32, 32)).double()
        updates = [LayerUpdate(bias=spread * torch.randn(20, width).double()) for width in (32, 32, 16)]
        transform = ContinuousTransform(
            dynamics.condition(updates, (20,)),
            integration_time=time,
            divergence="exact",
            solver=ODESolver(rtol=tolerance, atol=tolerance),
        )
        transform(torch.randn(20, 16, dtype=torch.float64))
        yield transform.last_solve.forward_evaluations


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-7])
def test_a_bold_first_step_saves_evaluations_where_solves_are_short(tolerance, monkeypatch):
    bold = list(evaluations_of_posteriors(tolerance))
    monkeypatch.setattr(stepping, "_BOLDNESS", 1.0)
    textbook = list(evaluations_of_posteriors(tolerance))
    assert sum(math.log(new / old) for new, old in zip(bold, textbook, strict=True)) / len(bold) < math.log(0.85)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5])
def test_a_bold_first_step_costs_little_where_solves_are_long(tolerance, monkeypatch):
    bold = [steps_tried(*problem, tolerance) for problem in CLASSIC.values()]
    monkeypatch.setattr(stepping, "_BOLDNESS", 1.0)
    textbook = [steps_tried(*problem, tolerance) for problem in CLASSIC.values()]
    assert all(new <= old + 2 for new, old in zip(bold, textbook, strict=True))


def test_latents_and_integrals_are_held_to_the_tolerance_each_by_itself():
    chosen = SteppingSettings(TABLEAUS["dopri5"], 1e-5, 1e-5, latent_dim=3, controlled=4, options={})
    assert float(chosen.norm(torch.tensor([[0.0, 0.0, 0.0, 2.0, 9.0]]))) == 2.0
    assert float(chosen.norm(torch.tensor([[3.0, 3.0, 3.0, 2.0, 9.0]]))) == 3.0


def test_a_solve_of_no_length_stays_where_it_is():
    state = torch.ones(1, 2)
    for tableau in (TABLEAUS["dopri5"], TABLEAUS["rk4"]):
        end = integrate(lambda t, y: y, state, (0.5, 0.5), settings(tableau), SolveProgress(WorkMeter(), 1))
        assert torch.equal(end, state)
