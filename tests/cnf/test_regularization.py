import pytest
import torch

from vae_flows.cnf import ContinuousTransform, JacobianNorm, KineticEnergy, MLPDynamics, ODESolver
from vae_flows.errors import InvalidInputError
from vae_flows.flows import FFJORD

TIGHT = ODESolver(rtol=1e-9, atol=1e-9)
DRAWS = 4000
STANDARD_ERRORS = 5  # two-sided false-alarm rate 6e-7


def linear(matrix):
    return lambda t, z: z @ matrix.mT


def test_kinetic_energy_of_a_linear_flow():
    """z(t) = e^{-t} z₀, so the integral of |z|² over (0, 1) is |z₀|² (1 - e^{-2}) / 2."""
    z = torch.randn(4, 3, dtype=torch.float64)
    transform = ContinuousTransform(lambda t, z: -z, regularizers=[KineticEnergy(2.0)], solver=TIGHT)
    y, _ = transform.forward_with_log_det(z)
    expected = 2 * z.square().sum(-1) * (1 - torch.tensor(-2.0).double().exp()) / 2
    torch.testing.assert_close(transform.regularization.detach(), expected, rtol=1e-7, atol=0)
    transform.inverse_with_log_det(y)
    torch.testing.assert_close(transform.regularization.detach(), expected, rtol=1e-6, atol=0)


def test_jacobian_norm_is_estimated_without_bias():
    torch.manual_seed(0)
    matrix = torch.randn(3, 3, dtype=torch.float64)
    transform = ContinuousTransform(linear(matrix), integration_time=0.5, regularizers=[JacobianNorm(1.0)])
    with torch.no_grad():
        transform.forward_with_log_det(torch.zeros(DRAWS, 3, dtype=torch.float64))
    estimates = transform.regularization
    expected = 0.5 * matrix.square().sum()
    assert abs(float(estimates.mean() - expected)) < STANDARD_ERRORS * float(estimates.std()) / DRAWS**0.5


@pytest.mark.parametrize("gradient", ["backprop", "recompute", "adjoint"])
def test_gradients_reach_the_dynamics_by_every_method(gradient):
    torch.manual_seed(0)
    dynamics = MLPDynamics(3, (8, 7), activation="tanh").double()
    z = torch.randn(4, 3, dtype=torch.float64)
    gradients = []
    for method in ("backprop", gradient):
        torch.manual_seed(1)
        solver = ODESolver(rtol=1e-9, atol=1e-9, gradient=method)
        transform = ContinuousTransform(
            dynamics.condition(), solver=solver, regularizers=[KineticEnergy(0.5), JacobianNorm(0.1)]
        )
        transform.forward_with_log_det(z)
        gradients.append(
            torch.autograd.grad(transform.regularization.sum(), list(dynamics.parameters()), allow_unused=True)
        )
    for expected, got in zip(*gradients, strict=True):
        if expected is None or got is None:
            assert expected is None or not expected.any()  # the last bias has no part in the Jacobian
            continue
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_regularisers_do_not_change_the_steps_of_the_solve():
    torch.manual_seed(0)
    flow = FFJORD(3, 4, hidden_dims=(8,), rank=2)
    regularized = FFJORD(3, 4, hidden_dims=(8,), rank=2, regularizers=[KineticEnergy(100.0)])
    regularized.load_state_dict(flow.state_dict())
    context, z = torch.randn(5, 4), torch.randn(5, 3)
    for module in (flow, regularized):
        torch.manual_seed(1)
        transform = module(context)
        module.result = transform.forward_with_log_det(z)
        assert (transform.regularization is None) == (module is flow)
    torch.testing.assert_close(flow.result[0], regularized.result[0], rtol=0, atol=1e-6)
    assert flow.last_solve.accepted_steps == regularized.last_solve.accepted_steps


def test_only_training_is_regularised():
    flow = FFJORD(3, 4, hidden_dims=(8,), rank=2, regularizers=[KineticEnergy(1.0)], num_blocks=2)
    transform = flow(torch.randn(5, 4))
    transform(torch.randn(2, 5, 3))
    assert transform.regularization.shape == (2, 5)
    transform = flow.eval()(torch.randn(5, 4))
    transform(torch.randn(5, 3))
    assert transform.regularization is None


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_weights_are_positive(weight):
    with pytest.raises(InvalidInputError, match="KineticEnergy weight"):
        KineticEnergy(weight)
