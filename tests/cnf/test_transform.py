import pytest
import torch
from torch import nn

from tests.seeds import reseed
from vae_flows.cnf import ContinuousTransform, LayerUpdate, MLPDynamics, ODESolver, WorkMeter
from vae_flows.errors import InvalidInputError

SOLVER = 1e-7  # what solves at tolerance 1e-10 leave, with room for the growth of errors over the interval
TIGHT = ODESolver(rtol=1e-10, atol=1e-10)


def linear_field(matrix):
    return lambda t, z: z @ matrix.mT


def test_linear_flow_is_the_matrix_exponential():
    reseed()
    matrix = torch.randn(3, 3, dtype=torch.float64)
    z = torch.randn(2, 5, 3, dtype=torch.float64)
    transform = ContinuousTransform(linear_field(matrix), integration_time=0.8, divergence="exact", solver=TIGHT)
    y = transform(z)
    torch.testing.assert_close(y.detach(), z @ torch.matrix_exp(0.8 * matrix).mT, rtol=0, atol=SOLVER)
    expected = (0.8 * matrix.trace()).expand(2, 5)
    torch.testing.assert_close(transform.log_abs_det_jacobian(z, y).detach(), expected, rtol=0, atol=SOLVER)


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_inverse_of_arbitrary_values_undoes_value_and_log_det(divergence):
    reseed()
    transform = ContinuousTransform(
        MLPDynamics(2, (8,), activation="tanh").double().condition(), divergence=divergence, solver=TIGHT
    )
    y = 3 * torch.randn(4, 2, dtype=torch.float64)
    x, log_det = transform.inverse_with_log_det(y)
    back, log_det_forward = transform.forward_with_log_det(x)
    torch.testing.assert_close(back, y, rtol=0, atol=SOLVER)
    torch.testing.assert_close(log_det, log_det_forward, rtol=0, atol=SOLVER)


def test_noise_is_drawn_once_for_a_shape():
    transform = ContinuousTransform(MLPDynamics(3, (8,)).condition())
    z = torch.randn(6, 3)
    first = transform.forward_with_log_det(z)[1]
    transform.forward_with_log_det(torch.randn(2, 6, 3))
    assert torch.equal(transform.forward_with_log_det(z)[1], first)
    again = ContinuousTransform(MLPDynamics(3, (8,)).condition())
    assert not torch.equal(again.forward_with_log_det(z)[1], first)


def test_one_solve_for_value_and_log_det():
    solves: list[WorkMeter] = []
    transform = ContinuousTransform(MLPDynamics(3, (8,)).condition(), on_solve=solves.append)
    z = torch.randn(6, 3)
    y = transform(z)
    transform.log_abs_det_jacobian(z, y)
    assert transform.inv(y) is z
    assert len(solves) == 1
    assert solves[0].read() == transform.last_solve


def test_context_that_is_smaller_than_the_latents_batch_broadcasts():
    reseed()
    dynamics = MLPDynamics(2, (5,)).double()
    widths = ((2, 5), (5, 2))

    def updates(rows):
        return [LayerUpdate(b[rows], u[rows], v[rows]) for b, u, v in parameters]

    parameters = [
        (torch.randn(3, o).double(), torch.randn(3, i, 2).double(), torch.randn(3, 2, o).double()) for i, o in widths
    ]
    z = torch.randn(3, 4, 2, dtype=torch.float64)
    broad = ContinuousTransform(
        dynamics.condition(
            [LayerUpdate(*(None if p is None else p.unsqueeze(1) for p in u)) for u in updates(slice(None))], (3, 1)
        ),
        divergence="exact",
        solver=TIGHT,
    )
    y, log_det = broad.forward_with_log_det(z)
    for n in range(3):
        one = ContinuousTransform(dynamics.condition(updates(n)), divergence="exact", solver=TIGHT)
        y_one, log_det_one = one.forward_with_log_det(z[n])
        torch.testing.assert_close(y[n], y_one, rtol=0, atol=SOLVER)
        torch.testing.assert_close(log_det[n], log_det_one, rtol=0, atol=SOLVER)


def test_given_probes_follow_their_latents():
    reseed()
    dynamics = MLPDynamics(2, (5,)).double()
    z, probes = torch.randn(3, 4, 2, dtype=torch.float64), torch.randn(1, 3, 4, 2, dtype=torch.float64)
    log_det = ContinuousTransform(dynamics.condition(), probes=probes).forward_with_log_det(z)[1]
    one = ContinuousTransform(dynamics.condition(), probes=probes[:, 1:2]).forward_with_log_det(z[1:2])[1]
    torch.testing.assert_close(log_det[1:2], one, rtol=0, atol=1e-4)  # loose: both are solved at 1e-5


def test_a_users_module_is_differentiated_through_the_adjoint():
    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(2, 2).double()

        def forward(self, t, z):
            return torch.tanh(self.net(z)) + t

    reseed()
    field, z = Field(), torch.randn(3, 2, dtype=torch.float64)
    gradients = []
    for gradient in ("backprop", "adjoint"):
        solver = ODESolver(rtol=1e-10, atol=1e-10, gradient=gradient)
        y, log_det = ContinuousTransform(field, divergence="exact", solver=solver).forward_with_log_det(z)
        gradients.append(torch.autograd.grad(y.sin().sum() + log_det.sum(), list(field.parameters())))
    for backprop, adjoint in zip(*gradients, strict=True):
        torch.testing.assert_close(backprop, adjoint, rtol=0, atol=SOLVER)


def test_empty_batches_and_bad_times():
    transform = ContinuousTransform(MLPDynamics(3, (8,)).condition())
    y, log_det = transform.forward_with_log_det(torch.zeros(0, 3))
    assert (y.shape, log_det.shape) == ((0, 3), (0,))
    with pytest.raises(InvalidInputError, match="integration_time"):
        ContinuousTransform(MLPDynamics(3, (8,)).condition(), integration_time=0.0)
    with pytest.raises(InvalidInputError, match=r"shape \(\.\.\., 3\)"):
        transform(torch.zeros(2, 4))


@pytest.mark.parametrize("forward", [True, False])
def test_a_learned_end_time_has_the_gradient_of_differences(forward):
    reseed()
    dynamics, z = MLPDynamics(2, (8,), activation="tanh").double(), torch.randn(5, 2, dtype=torch.float64)

    def loss(time):
        transform = ContinuousTransform(dynamics.condition(), integration_time=time, divergence="exact", solver=TIGHT)
        y, log_det = transform.forward_with_log_det(z) if forward else transform.inverse_with_log_det(z)
        return y.sin().sum() + log_det.cos().sum()

    time = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    (got,) = torch.autograd.grad(loss(time), time)
    step = 1e-4
    expected = (loss(0.7 + step) - loss(0.7 - step)) / (2 * step)
    torch.testing.assert_close(got, expected.detach(), rtol=1e-5, atol=0)


def test_a_users_function_of_a_context():
    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(3 + 2, 2).double()

        def forward(self, t, z, context):
            return torch.tanh(self.net(torch.cat([z, context.expand(*z.shape[:-1], 3)], -1))) + t

    reseed()
    field, context, z = Field(), torch.randn(4, 3).double().requires_grad_(), torch.randn(6, 4, 2).double()
    gradients = []
    for gradient in ("backprop", "recompute", "adjoint"):
        solver = ODESolver(rtol=1e-9, atol=1e-9, gradient=gradient)
        transform = ContinuousTransform(field, context=context, divergence="exact", solver=solver)
        assert transform.batch_shape == (4,)
        y, log_det = transform.forward_with_log_det(z)
        gradients.append(torch.autograd.grad(y.sin().sum() + log_det.sum(), [context, *field.parameters()]))
    for other in gradients[1:]:
        for a, b in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("gradient", ["backprop", "recompute", "adjoint"])
def test_a_field_that_depends_on_nothing_moves_gradients_unchanged(gradient):
    context = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    transform = ContinuousTransform(
        lambda t, z, context: torch.ones_like(z),
        context=context,
        divergence="brute_force",
        solver=ODESolver(gradient=gradient),
    )
    z = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    y, log_det = transform.forward_with_log_det(z)
    torch.testing.assert_close(y, z + 1)
    (gradient_of_sum,) = torch.autograd.grad((y * y).sum() + log_det.sum(), z)
    torch.testing.assert_close(gradient_of_sum, 2 * y.detach())
