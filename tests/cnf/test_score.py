"""The score carried along a solve, against differences of the log-density of the flow held fixed."""

import pytest
import torch

from vae_flows.cnf import ContinuousTransform, KineticEnergy, LayerUpdate, MLPDynamics, ODESolver

SOLVER = 1e-6  # two solves at tolerance 1e-9 and the five-point differences of their log-densities
STEP = 1e-3
TIGHT = {"rtol": 1e-9, "atol": 1e-9}


def conditioned(time_conditioning="concat", activation="softplus"):
    dynamics = MLPDynamics(2, (7, 6), activation=activation, time_conditioning=time_conditioning).double()
    updates = [LayerUpdate(bias=torch.randn(4, fan_out, dtype=torch.float64)) for fan_out in dynamics.widths[1:]]
    return dynamics.condition(updates, (4,))


def log_base(x):
    return -0.5 * x.square().sum(-1)


def differences(transform, y):
    """Return ∂ log q(y) / ∂y by five-point differences, through the inverse of the flow."""

    def log_q(y):
        x, log_det = transform.inverse_with_log_det(y)
        return log_base(x) - log_det

    with torch.no_grad():
        columns = []
        for direction in torch.eye(2, dtype=torch.float64):
            values = [log_q(y + factor * STEP * direction) for factor in (-2, -1, 1, 2)]
            columns.append((values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * STEP))
    return torch.stack(columns, -1)


@pytest.mark.parametrize("samples", [(), (3,)])
@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
@pytest.mark.parametrize(
    "solver",
    [{}, {"gradient": "recompute"}, {"gradient": "adjoint"}, {"fused": False}, {"options": {"min_step": 0.0}}],
    ids=["backprop", "recompute", "adjoint", "not fused", "torchdiffeq"],
)
def test_score_is_the_gradient_of_the_log_density(samples, divergence, solver):
    transform = ContinuousTransform(conditioned(), divergence=divergence, solver=ODESolver(**TIGHT, **solver))
    x = torch.randn(*samples, 4, 2, dtype=torch.float64)
    y, log_det, score = transform.forward_with_score(x, -x)
    plain, plain_log_det = transform.forward_with_log_det(x)
    torch.testing.assert_close(y, plain, rtol=0, atol=SOLVER)
    torch.testing.assert_close(log_det, plain_log_det, rtol=0, atol=SOLVER)
    assert not score.requires_grad
    torch.testing.assert_close(score, differences(transform, y.detach()), rtol=0, atol=SOLVER)


@pytest.mark.parametrize("time_conditioning", ["blend", "ignore"])
@pytest.mark.parametrize("regularizers", [[], [KineticEnergy(0.1)]])
def test_fields_differentiated_by_automatic_differentiation(time_conditioning, regularizers):
    transform = ContinuousTransform(
        conditioned(time_conditioning, "tanh"),
        divergence="exact",
        solver=ODESolver(**TIGHT),
        regularizers=regularizers,
    )
    x = torch.randn(4, 2, dtype=torch.float64)
    y, _, score = transform.forward_with_score(x, -x)
    torch.testing.assert_close(score, differences(transform, y.detach()), rtol=0, atol=SOLVER)
    with torch.no_grad():
        torch.testing.assert_close(transform.forward_with_score(x, -x)[2], score, rtol=0, atol=SOLVER)


def test_gradients_of_value_and_log_det_are_the_ordinary_ones():
    dynamics = MLPDynamics(2, (7, 6)).double()
    x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    transform = ContinuousTransform(dynamics.condition(), divergence="exact", solver=ODESolver(**TIGHT))
    found = []
    for results in (transform.forward_with_score(x, -x)[:2], transform.forward_with_log_det(x)):
        loss = sum(result.sin().sum() for result in results)
        found.append(torch.autograd.grad(loss, [x, *dynamics.parameters()]))
    for with_score, without in zip(*found, strict=True):
        torch.testing.assert_close(with_score, without, rtol=0, atol=SOLVER)


def test_one_solve_for_value_and_score():
    work = []
    transform = ContinuousTransform(conditioned(), solver=ODESolver(**TIGHT), on_solve=work.append)
    x = torch.randn(4, 2, dtype=torch.float64)
    transform.forward_with_score(x, -x)
    assert len(work) == 1


@pytest.mark.parametrize("samples", [(3,), (0,)])
def test_latents_and_scores_broadcast_against_the_parameters(samples):
    transform = ContinuousTransform(conditioned(), divergence="exact", solver=ODESolver(**TIGHT))
    x = torch.randn(*samples, 1, 2, dtype=torch.float64)
    broadcast = transform.forward_with_score(x, -x)
    expanded = transform.forward_with_score(x.expand(*samples, 4, 2), -x.expand(*samples, 4, 2))
    for got, expected in zip(broadcast, expanded, strict=True):
        torch.testing.assert_close(got, expected)
