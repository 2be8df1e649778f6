"""Continuous normalizing flows as density models, unconditional and conditional."""

import copy
import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from tests.seeds import reseed
from vae_flows.cnf import ContinuousNormalizingFlow, KineticEnergy, MLPDynamics, ODESolver
from vae_flows.errors import InvalidInputError, UnknownNameError

SOLVER = 1e-7  # what solves at tolerance 1e-10 leave, with room for the growth of errors over the interval
GRID = 2e-3  # of a smooth density, on cells of a tenth
STANDARD_ERRORS = 5  # two-sided false-alarm rate 6e-7
TIGHT = ODESolver(rtol=1e-10, atol=1e-10)
FAST = ODESolver(method="rk4", options={"step_size": 0.25})


def dynamics(*hidden_dims):
    return MLPDynamics(2, hidden_dims or (16,), activation="tanh")


def fit(flow, draw, steps=100, learning_rate=3e-2):
    """Maximise the likelihood of what `draw` gives: points, or points and contexts."""
    optimizer = torch.optim.Adam(flow.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    flow.train()
    for _ in range(steps):
        x, *context = draw()
        loss = -flow(*context).log_prob(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return flow.eval()


def two_clusters(count):
    return 0.5 * torch.randn(count, 2) + torch.tensor([1.5, 0.0]) * torch.randint(0, 2, (count, 1)).mul(2).sub(1)


@pytest.fixture(scope="module")
def trained():
    reseed()
    flow = ContinuousNormalizingFlow(dynamics(), solver=FAST, eval_solver=ODESolver())
    return fit(flow, lambda: (two_clusters(256),))


@torch.no_grad()
def test_a_trained_density_integrates_to_one_and_left_the_gaussian(trained):
    side = torch.linspace(-5, 5, 101)
    log_p = trained().log_prob(torch.cartesian_prod(side, side))
    assert (log_p.exp().sum() * 0.1**2).item() == pytest.approx(1.0, abs=GRID)
    x = two_clusters(2000)
    assert trained().log_prob(x).mean() > trained.base().log_prob(x).mean() + 0.3


def energy_distance_exceeds(x, y, shuffles=200):
    """Share of random relabellings of both samples whose energy distance is smaller than that of the samples."""
    both, count = torch.cat([x, y]), len(x)
    distances = torch.cdist(both, both)

    def energy(order):
        ordered = distances[order][:, order]
        return 2 * ordered[:count, count:].mean() - ordered[:count, :count].mean() - ordered[count:, count:].mean()

    observed = energy(torch.arange(len(both)))
    return sum((energy(torch.randperm(len(both))) < observed).item() for _ in range(shuffles)) / shuffles


@torch.no_grad()
def test_samples_are_those_of_the_data(trained):
    x = two_clusters(300)
    assert energy_distance_exceeds(x, trained().sample((300,))) < 1
    assert energy_distance_exceeds(x, trained.base().sample((300,))) == 1


def test_the_entropy_of_a_gaussian_is_reached():
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]]) * 0.5
    truth = MultivariateNormal(torch.tensor([1.0, -0.5]), covariance)
    flow = ContinuousNormalizingFlow(dynamics(), solver=FAST, eval_solver=ODESolver())
    fit(flow, lambda: (truth.sample((256,)),))
    x = truth.sample((4000,))
    with torch.no_grad():
        log_q = flow().log_prob(x)
    error = log_q.std().item() / math.sqrt(len(x))
    assert -log_q.mean().item() == pytest.approx(truth.entropy().item(), abs=STANDARD_ERRORS * error)
    excess = truth.log_prob(x) - log_q  # an estimate of the divergence, far sharper than the two terms are
    assert excess.mean() > -STANDARD_ERRORS * excess.std() / math.sqrt(len(x))
    assert excess.mean() < 0.02


def test_a_conditional_density_follows_its_context():
    flow = ContinuousNormalizingFlow(dynamics(), context_dim=1, solver=FAST, eval_solver=ODESolver())

    def truth(context):
        return Normal(torch.cat([2 * context, -context], -1), 0.5)

    def draw():
        context = 2 * torch.rand(256, 1) - 1
        return truth(context).sample(), context

    fit(flow, draw)
    context = torch.tensor([[-0.8], [0.0], [0.8]])
    with torch.no_grad():
        p = flow(context)
        assert (p.batch_shape, p.event_shape) == ((3,), (2,))
        z = p.sample((500,))
        assert z.shape == (500, 3, 2)
        torch.testing.assert_close(z.mean(0), truth(context).mean, rtol=0, atol=0.15)
        excess = (truth(context).log_prob(z).sum(-1) - p.log_prob(z)).mean(0)
    assert (excess.abs() < 0.15).all()


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_sample_and_log_density_are_one_solve_each_and_agree(num_blocks):
    flow = ContinuousNormalizingFlow([dynamics() for _ in range(num_blocks)], solver=TIGHT).double().eval()
    assert flow.last_solve is None
    p = flow()
    with torch.no_grad():
        x = p.rsample((6,))
        work = flow.last_solve
        known = p.log_prob(x)  # remembered from the draw
        assert flow.last_solve == work
        torch.testing.assert_close(flow().log_prob(x), known, rtol=0, atol=SOLVER)
        assert work.forward_evaluations >= 7 * num_blocks


def test_log_density_is_that_of_the_inverse_map():
    flow = ContinuousNormalizingFlow([dynamics(), dynamics(8, 8, 8)], solver=TIGHT).double().eval()
    x = torch.randn(4, 2, dtype=torch.float64)
    jacobians = torch.stack([torch.autograd.functional.jacobian(lambda v: flow.transform().inv(v), row) for row in x])
    with torch.no_grad():
        z = flow.transform().inv(x)
        expected = flow.base().log_prob(z) + torch.linalg.slogdet(jacobians).logabsdet
        torch.testing.assert_close(flow().log_prob(x), expected, rtol=0, atol=SOLVER)


def test_training_estimates_and_evaluation_is_exact():
    flow, x = ContinuousNormalizingFlow(dynamics()), torch.randn(5, 2)
    with torch.no_grad():
        assert not torch.equal(flow().log_prob(x), flow().log_prob(x))
        flow.eval()
        assert torch.equal(flow().log_prob(x), flow().log_prob(x))


def test_solvers_of_training_and_evaluation():
    loose = ODESolver(rtol=1e-3, atol=1e-3)
    flow = ContinuousNormalizingFlow(dynamics(), solver=loose, eval_solver=TIGHT).double()
    x = torch.randn(5, 2, dtype=torch.float64)
    evaluations = []
    for mode in (True, False):
        with torch.no_grad():
            flow.train(mode)().log_prob(x)
        evaluations.append(flow.last_solve.forward_evaluations)
    assert evaluations[0] < evaluations[1]


@pytest.mark.parametrize("num_blocks", [1, 2])
@torch.no_grad()
def test_the_way_from_the_gaussian_to_the_data(num_blocks):
    flow = ContinuousNormalizingFlow([dynamics() for _ in range(num_blocks)], integration_time=0.7, solver=TIGHT)
    flow = flow.double().eval()
    z, end = torch.randn(6, 2, dtype=torch.float64), 0.7 * num_blocks
    assert flow.duration == pytest.approx(end)
    torch.testing.assert_close(flow.transform(until=flow.duration)(z), flow.transform()(z), rtol=0, atol=SOLVER)
    first = ContinuousNormalizingFlow(flow.dynamics[0], integration_time=0.3, solver=TIGHT).eval()
    torch.testing.assert_close(flow.transform(until=0.3)(z), first.transform()(z), rtol=0, atol=SOLVER)
    if num_blocks == 2:
        second = ContinuousNormalizingFlow(flow.dynamics[1], integration_time=0.2, solver=TIGHT).eval()
        at_seam = flow.transform(until=0.7)(z)
        torch.testing.assert_close(flow.transform(until=0.9)(z), second.transform()(at_seam), rtol=0, atol=SOLVER)
    start = flow(until=1e-9).log_prob(z)
    torch.testing.assert_close(start, flow.base().log_prob(z), rtol=0, atol=SOLVER)
    for time in (0.0, -1.0, 1.1 * end):
        with pytest.raises(InvalidInputError, match="until: expected a time above 0"):
            flow.transform(until=time)


def test_a_learned_end_time_gets_a_gradient_and_is_the_duration():
    flow = ContinuousNormalizingFlow([dynamics(), dynamics()], integration_time=0.5, train_integration_time=True)
    flow().log_prob(torch.randn(5, 2)).sum().backward()
    assert (flow.log_integration_time.grad != 0).all()
    with torch.no_grad():
        flow.log_integration_time.add_(math.log(2.0))
    assert flow.duration == pytest.approx(2.0)


def test_a_jittered_end_time_in_training_alone():
    flow = ContinuousNormalizingFlow(dynamics(), end_time_jitter=0.5, divergence="exact")
    x = torch.randn(5, 2)
    with torch.no_grad():
        assert not torch.equal(flow().log_prob(x), flow().log_prob(x))
        flow.eval()
        assert torch.equal(flow().log_prob(x), flow().log_prob(x))


def test_regularisers_count_in_training():
    flow = ContinuousNormalizingFlow([dynamics(), dynamics()], regularizers=[KineticEnergy(0.1)])
    p, x = flow(), torch.randn(5, 2)
    regularization = p.evaluate(x).regularization
    assert regularization.shape == (5,)
    assert (regularization > 0).all()
    assert flow.eval()().evaluate(x).regularization is None


@pytest.mark.parametrize("amortization", ["concat", "bias", "low_rank", "last_layer", "hyper"])
def test_every_amortisation_starts_as_the_shared_density_and_learns(amortization):
    flow = ContinuousNormalizingFlow([dynamics(), dynamics()], context_dim=3, amortization=amortization)
    flow = flow.double().eval()
    x, context = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    log_p = flow(context).log_prob(x)
    assert torch.equal(flow(torch.zeros_like(context)).log_prob(x), log_p)
    log_p.sum().backward()
    assert all(block.head.weight.grad.abs().sum() > 0 for block in flow.amortizations)


def test_weights_move_between_copies_and_dtypes():
    flow = ContinuousNormalizingFlow(dynamics(), context_dim=3).eval()
    other = ContinuousNormalizingFlow(dynamics(), context_dim=3).eval()
    x, context = torch.randn(5, 2), torch.randn(5, 3)
    with torch.no_grad():
        expected = flow(context).log_prob(x)
        other.load_state_dict(flow.state_dict())
        assert torch.equal(other(context).log_prob(x), expected)
        precise = copy.deepcopy(flow).double()(context.double()).log_prob(x.double())
    assert precise.dtype == torch.float64
    torch.testing.assert_close(precise.float(), expected, rtol=0, atol=1e-4)  # two solves at 1e-5, in 32 bits


def test_wrong_arguments_are_refused():
    with pytest.raises(InvalidInputError, match=r"one or more of one latent dimension, got \[\]"):
        ContinuousNormalizingFlow([])
    with pytest.raises(InvalidInputError, match=r"one latent dimension, got \[2, 3\]"):
        ContinuousNormalizingFlow([MLPDynamics(3), MLPDynamics(2)])
    with pytest.raises(InvalidInputError, match="context_dim: expected a positive integer"):
        ContinuousNormalizingFlow(dynamics(), context_dim=0)
    with pytest.raises(InvalidInputError, match="integration_time"):
        ContinuousNormalizingFlow(dynamics(), integration_time=0.0)
    with pytest.raises(InvalidInputError, match="end_time_jitter"):
        ContinuousNormalizingFlow(dynamics(), end_time_jitter=1.0)
    with pytest.raises(UnknownNameError, match="divergence"):
        ContinuousNormalizingFlow(dynamics(), divergence="hutchison")
    unconditional, conditional = (ContinuousNormalizingFlow(dynamics(), context_dim=size) for size in (None, 3))
    with pytest.raises(InvalidInputError, match=r"context: expected none, got shape \(5, 3\)"):
        unconditional(torch.zeros(5, 3))
    with pytest.raises(InvalidInputError, match=r"context: expected shape \(\*batch, 3\), got none"):
        conditional()
    with pytest.raises(InvalidInputError, match=r"\(\*batch, 3\)"):
        conditional(torch.zeros(5, 4))
    with pytest.raises(InvalidInputError, match="latents of shape"):
        unconditional().log_prob(torch.zeros(5, 3))


def test_a_jitter_follows_an_end_time_that_has_become_shorter():
    flow = ContinuousNormalizingFlow(
        MLPDynamics(2, (6,)), integration_time=0.5, train_integration_time=True, end_time_jitter=0.3
    )
    assert flow.log_integration_time is not None
    with torch.no_grad():
        flow.log_integration_time.fill_(math.log(0.1))
    times = torch.stack([flow.transform().integration_time.detach() for _ in range(200)])
    assert bool(((times > 0.04) & (times < 0.16)).all())
    assert float(times.amax() - times.amin()) > 0.06
