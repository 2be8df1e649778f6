"""Second derivatives through a solve are right, or refused with an error that says what to use."""

import pytest
import torch

import vae_flows as vf
from vae_flows.cnf import ContinuousTransform, KineticEnergy, MLPDynamics, ODESolver
from vae_flows.errors import InvalidInputError

TIGHT = {"rtol": 1e-9, "atol": 1e-9}
LOOSE = 1e-3  # what the interpolation of dopri8 leaves of its tolerance
STEP = 1e-4  # of central differences, whose error is about its square
REFUSING = [
    ODESolver(),
    ODESolver(method="rk4", options={"step_size": 0.1}),
    ODESolver(gradient="recompute"),
    ODESolver(gradient="adjoint"),
    ODESolver(method="dopri8", gradient="adjoint"),
]
RIGHT = [ODESolver(fused=False, **TIGHT), ODESolver(method="dopri8", **TIGHT)]


def accuracy(solver):
    return LOOSE if solver.method == "dopri8" else 1e-5


def conditioned(solver, **options):
    flow = vf.FFJORD(2, 3, hidden_dims=(6,), amortization="bias", activation="tanh", solver=solver, **options)
    return flow.double().eval()


def log_det(flow, context):
    return lambda z: flow(context).forward_with_log_det(z)[1]


def hessian_by_differences(function, z):
    def gradient(z):
        z = z.detach().requires_grad_()
        return torch.autograd.grad(function(z).sum(), z)[0]

    return torch.stack([(gradient(z + d) - gradient(z - d))[0] / (2 * STEP) for d in STEP * torch.eye(2).double()])


@pytest.mark.parametrize("solver", REFUSING, ids=str)
@pytest.mark.parametrize("kind", ["hessian", "sum", "inverse", "parameters", "score"])
def test_backward_passes_that_would_be_differentiated_are_refused(solver, kind):
    flow, context = conditioned(solver), torch.randn(1, 3).double()
    z = torch.randn(1, 2, dtype=torch.float64, requires_grad=True)
    transform = flow(context)
    passes = {
        "hessian": lambda: torch.autograd.functional.hessian(lambda z: log_det(flow, context)(z).sum(), z),
        "sum": lambda: torch.autograd.grad(transform(z).sum(), z, create_graph=True),
        "inverse": lambda: torch.autograd.grad(transform.inv(z).sum(), z, create_graph=True),
        "parameters": lambda: transform(z.detach()).sum().backward(create_graph=True),
        "score": lambda: torch.autograd.grad(
            transform.forward_with_score(z, torch.zeros_like(z))[1].sum(), z, create_graph=True
        ),
    }
    with pytest.raises(InvalidInputError, match=r"second derivatives .* ODESolver\(fused=False\)"):
        passes[kind]()


@pytest.mark.parametrize("solver", REFUSING[:5], ids=str)
def test_first_derivatives_are_not_refused(solver):
    flow, context = conditioned(solver), torch.randn(1, 3).double()
    z = torch.randn(1, 2, dtype=torch.float64, requires_grad=True)
    loss = log_det(flow, context)(z).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    assert z.grad is not None


@pytest.mark.parametrize("solver", RIGHT, ids=str)
@pytest.mark.parametrize("learned", [False, True])
def test_plain_backpropagation_has_right_second_derivatives(solver, learned):
    flow, context = conditioned(solver, train_integration_time=learned), torch.randn(1, 3).double()
    z = torch.randn(1, 2, dtype=torch.float64)
    function = log_det(flow, context)
    hessian = torch.autograd.functional.hessian(lambda z: function(z).sum(), z)[0, :, 0]
    torch.testing.assert_close(hessian, hessian_by_differences(function, z), rtol=0, atol=accuracy(solver))


def moved(time, solver, forward=True):
    """A closed form: dz/dt = a z + t carries z to e^{aT} z + (e^{aT} − 1 − aT) / a²."""
    rate = 0.7
    field = ContinuousTransform(lambda t, z: rate * z + t, integration_time=time, divergence="exact", solver=solver)
    z = torch.tensor([[0.4, -1.0]], dtype=torch.float64)
    return (field(z) if forward else field.inv(z)), z


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("fused", [False, True])
def test_derivatives_of_any_order_in_a_learned_end_time(fused, forward):
    time, rate = torch.tensor(0.8, dtype=torch.float64, requires_grad=True), 0.7
    y, z = moved(time, ODESolver(fused=fused, **TIGHT), forward)
    growth = torch.exp(rate * time)
    shift = (growth - 1 - rate * time) / rate**2
    exact = growth * z + shift if forward else (z - shift) / growth
    for _ in range(3):
        torch.testing.assert_close(y, exact, rtol=0, atol=1e-6)
        y, exact = (torch.autograd.grad(value.sum(), time, create_graph=True)[0] for value in (y, exact))


@pytest.mark.parametrize("gradient", ["recompute", "adjoint"])
@pytest.mark.parametrize("forward", [True, False])
def test_second_derivatives_in_a_learned_end_time_are_refused_by_other_gradients(gradient, forward):
    time = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    y, _ = moved(time, ODESolver(gradient=gradient, **TIGHT), forward)
    torch.autograd.grad(y.sum(), time, retain_graph=True)
    with pytest.raises(InvalidInputError, match="second derivatives"):
        torch.autograd.grad(y.sum(), time, create_graph=True)


@pytest.mark.parametrize("solver", [ODESolver(**TIGHT), ODESolver(gradient="adjoint", **TIGHT), RIGHT[1]], ids=str)
@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("kind", ["function", "layers", "regularised"])
def test_an_end_time_for_each_example_equals_solves_one_by_one(solver, forward, kind):
    shared = MLPDynamics(2, (6,), activation="tanh").double()
    field = (lambda t, z: torch.tanh(z).flip(-1) + t) if kind == "function" else shared.condition()
    regularizers = [KineticEnergy(0.5)] if kind == "regularised" else []

    def integrate(time, z):
        transform = ContinuousTransform(
            field, integration_time=time, divergence="exact", solver=solver, regularizers=regularizers
        )
        return (transform.forward_with_log_det if forward else transform.inverse_with_log_det)(z)

    times = torch.tensor([0.3, 1.0, 1.7], dtype=torch.float64, requires_grad=True)
    z = torch.randn(4, 3, 2, dtype=torch.float64)
    value, log_det = integrate(times, z)
    (of_times,) = torch.autograd.grad(value.sum() + log_det.sum(), times)
    for index in range(3):
        time = times[index].detach().requires_grad_()
        expected, expected_log_det = integrate(time, z[:, index])
        torch.testing.assert_close(value[:, index], expected, rtol=0, atol=accuracy(solver))
        torch.testing.assert_close(log_det[:, index], expected_log_det, rtol=0, atol=accuracy(solver))
        (of_time,) = torch.autograd.grad(expected.sum() + expected_log_det.sum(), time)
        torch.testing.assert_close(of_times[index], of_time, rtol=0, atol=accuracy(solver))


def test_end_times_that_cannot_be_had_are_told():
    times = torch.tensor([0.5, 1.0])
    gated = MLPDynamics(2, (6,), time_conditioning="squash").condition()
    with pytest.raises(InvalidInputError, match="weights that depend on time"):
        ContinuousTransform(gated, integration_time=times)(torch.zeros(2, 2))
    with pytest.raises(InvalidInputError, match="latents of shape"):
        ContinuousTransform(lambda t, z: z, integration_time=times)(torch.zeros(3, 2))
    for wrong in (torch.tensor([0.5, -1.0]), torch.tensor([0.5, float("nan")]), torch.tensor([1, 2])):
        with pytest.raises(InvalidInputError, match="integration_time"):
            ContinuousTransform(lambda t, z: z, integration_time=wrong)
    with pytest.raises(InvalidInputError, match="integration_time"):
        vf.make_flow("ffjord", 2, 3, integration_time=times)


@pytest.mark.slow
def test_second_derivatives_through_zukos_solve_are_refused():
    pytest.importorskip("zuko")
    flow = vf.make_flow("zuko:CNF", 2, 3, hidden_features=(8,))
    z = torch.randn(1, 2, requires_grad=True)
    for transform in (flow(torch.zeros(1, 3)), flow(torch.zeros(1, 3)).inv):
        torch.autograd.grad(transform(z).sum(), z, retain_graph=True)
        with pytest.raises(InvalidInputError, match="zuko:CNF"):
            torch.autograd.grad(transform(z).sum(), z, create_graph=True)
