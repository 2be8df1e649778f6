from statistics import fmean

import pytest
import torch

from tests.seeds import reseed, torch_generator
from vae_flows.cnf import (
    ContinuousNormalizingFlow,
    ContinuousTransform,
    JacobianNorm,
    KineticEnergy,
    MLPDynamics,
    ODESolver,
    Regularizer,
)
from vae_flows.data import toy_density
from vae_flows.errors import InvalidInputError
from vae_flows.flows import FFJORD

TIGHT = ODESolver(rtol=1e-9, atol=1e-9)
DRAWS = 4000
STANDARD_ERRORS = 5  # two-sided false-alarm rate 6e-7
SEEDS = (0, 1, 2)


def linear(matrix):
    return lambda t, z: z @ matrix.mT


def test_kinetic_energy_of_a_linear_flow():
    """z(t) = e^{-t} z₀, so the integral of |z|² over (0, 1) is |z₀|² (1 - e^{-2}) / 2."""
    z = torch.randn(4, 3, dtype=torch.float64)
    transform = ContinuousTransform(lambda t, z: -z, regularizers=[KineticEnergy(2.0)], solver=TIGHT)
    forward = transform.evaluate(z)
    expected = 2 * z.square().sum(-1) * (1 - torch.tensor(-2.0).double().exp()) / 2
    torch.testing.assert_close(forward.regularization, expected, rtol=1e-7, atol=0)
    backward = transform.evaluate_inverse(forward.y.clone())
    torch.testing.assert_close(backward.regularization, expected, rtol=1e-6, atol=0)


def test_jacobian_norm_is_estimated_without_bias():
    reseed()
    matrix = torch.randn(3, 3, dtype=torch.float64)
    transform = ContinuousTransform(linear(matrix), integration_time=0.5, regularizers=[JacobianNorm(1.0)])
    with torch.no_grad():
        estimates = transform.evaluate(torch.zeros(DRAWS, 3, dtype=torch.float64)).regularization
    expected = 0.5 * matrix.square().sum()
    assert abs(float(estimates.mean() - expected)) < STANDARD_ERRORS * float(estimates.std()) / DRAWS**0.5


@pytest.mark.parametrize("gradient", ["backprop", "recompute", "adjoint"])
def test_gradients_reach_the_dynamics_by_every_method(gradient):
    reseed()
    dynamics = MLPDynamics(3, (8, 7), activation="tanh").double()
    z = torch.randn(4, 3, dtype=torch.float64)
    gradients = []
    for method in ("backprop", gradient):
        reseed(1)
        solver = ODESolver(rtol=1e-9, atol=1e-9, gradient=method)
        transform = ContinuousTransform(
            dynamics.condition(), solver=solver, regularizers=[KineticEnergy(0.5), JacobianNorm(0.1)]
        )
        regularization = transform.evaluate(z).regularization
        gradients.append(torch.autograd.grad(regularization.sum(), list(dynamics.parameters()), allow_unused=True))
    for expected, got in zip(*gradients, strict=True):
        if expected is None or got is None:
            assert expected is None or not expected.any()  # the last bias has no part in the Jacobian
            continue
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_regularisers_do_not_change_the_steps_of_the_solve():
    reseed()
    flow = FFJORD(3, 4, hidden_dims=(8,), rank=2)
    regularized = FFJORD(3, 4, hidden_dims=(8,), rank=2, regularizers=[KineticEnergy(100.0)])
    regularized.load_state_dict(flow.state_dict())
    context, z = torch.randn(5, 4), torch.randn(5, 3)
    for module in (flow, regularized):
        reseed(1)
        transform = module(context)
        module.result = transform.evaluate(z)
        assert (module.result.regularization is None) == (module is flow)
    torch.testing.assert_close(flow.result.y, regularized.result.y, rtol=0, atol=1e-6)
    assert flow.last_solve.accepted_steps == regularized.last_solve.accepted_steps


def test_only_training_is_regularised():
    flow = FFJORD(3, 4, hidden_dims=(8,), rank=2, regularizers=[KineticEnergy(1.0)], num_blocks=2)
    transform = flow(torch.randn(5, 4))
    assert transform.evaluate(torch.randn(2, 5, 3)).regularization.shape == (2, 5)
    transform = flow.eval()(torch.randn(5, 4))
    assert transform.evaluate(torch.randn(5, 3)).regularization is None


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_weights_are_positive(weight):
    with pytest.raises(InvalidInputError, match="KineticEnergy weight"):
        KineticEnergy(weight)


def learn_eight_gaussians(seed: int, *regularizers: Regularizer) -> tuple[float, float]:
    """Return the excess of the test −log p(x), in nats, and the mean evaluations of its solves at tolerance 1e-5."""
    reseed(seed)
    toy, generator, steps = toy_density("8gaussians"), torch_generator(seed), 300
    flow = ContinuousNormalizingFlow(
        MLPDynamics(2, (32, 32), activation="sine"),
        solver=ODESolver(rtol=1e-3, atol=1e-3),
        eval_solver=ODESolver(rtol=1e-5, atol=1e-5),
        regularizers=regularizers,
    )
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        scored = flow().evaluate(toy.sample(64, generator))
        loss, penalty = -scored.log_q.mean(), scored.regularization
        optimizer.zero_grad()
        (loss if penalty is None else loss + penalty.mean()).backward()
        optimizer.step()
        schedule.step()
    flow.double().eval()
    x, excess, evaluations = toy.sample(2000, generator).double(), [], []
    with torch.no_grad():
        for points in x.split(200):  # many solves, because evaluations come in sixes
            excess.append((toy.log_density(points) - flow().log_prob(points)).mean().item())
            evaluations.append(flow.last_solve.forward_evaluations)
    return fmean(excess), fmean(evaluations)


@pytest.fixture(scope="module")
def plain() -> list[tuple[float, float]]:
    return [learn_eight_gaussians(seed) for seed in SEEDS]


@pytest.mark.slow
@pytest.mark.parametrize(("regularizer", "margin"), [(JacobianNorm(0.05), 0.03), (KineticEnergy(0.2), 0.1)])
def test_regularisers_save_evaluations_at_like_likelihood(plain, regularizer, margin):
    """At least a twentieth of the evaluations, at a likelihood that is lower by at most `margin` nats.

    Measured: a seventh at 0.02 nats more likelihood by the Jacobian's norm, a fifth at 0.05 nats less by the energy.
    """
    plain_excess, plain_evaluations = map(fmean, zip(*plain, strict=True))
    easy = [learn_eight_gaussians(seed, regularizer) for seed in SEEDS]
    excess, evaluations = map(fmean, zip(*easy, strict=True))
    assert evaluations < 0.95 * plain_evaluations
    assert excess < plain_excess + margin
