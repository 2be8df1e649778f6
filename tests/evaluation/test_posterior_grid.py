"""Grids of the true posterior of a linear-Gaussian model, which is a Gaussian, and paths of flows that are known."""

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from tests.evaluation.linear_gaussian import LinearGaussianVAE, exact
from tests.seeds import reseed
from vae_flows.cnf import ContinuousTransform
from vae_flows.distributions import DiagonalNormal, FlowDistribution
from vae_flows.errors import InvalidInputError
from vae_flows.evaluation import flow_paths, posterior_grid
from vae_flows.posterior import AmortizedPosterior

WEIGHT = torch.tensor([[1.0, 0.5], [0.0, 1.0], [2.0, -1.0]])


def shifted(mean, covariance):
    return MultivariateNormal(mean + torch.tensor([0.2, -0.1], dtype=mean.dtype), 1.5 * covariance)


@pytest.mark.parametrize("make", [exact, shifted])
def test_the_grid_has_the_densities_and_the_divergence_of_the_model(make):
    reseed()
    vae = LinearGaussianVAE(make, WEIGHT)
    x = 2 * torch.randn(3, 3, dtype=torch.float64)
    grid = posterior_grid(vae, x, num_cells=100)
    true, q = LinearGaussianVAE(exact, WEIGHT).encode(x), vae.encode(x)
    z1, z2 = grid.centres[:, 0], grid.centres[:, 1]
    places = torch.stack([z1[:, None, :].expand(-1, 100, -1), z2[:, :, None].expand(-1, -1, 100)], -1)
    for place in range(3):
        points = places[place].reshape(-1, 1, 2)
        for log_density, distribution in ((grid.log_p, true), (grid.log_q, q)):
            expected = distribution.log_prob(points.expand(-1, 3, -1))[:, place].reshape(100, 100)
            # What lies outside of the square, and the width of the cells.
            counts = expected > expected.max() - 8
            torch.testing.assert_close(log_density[place][counts], expected[counts], atol=2e-3, rtol=0)
    torch.testing.assert_close(grid.mass_of_q, torch.ones(3, dtype=torch.float64), atol=2e-3, rtol=0)
    expected = kl_divergence(q, true)
    torch.testing.assert_close(grid.kl_divergence, expected, atol=5e-3, rtol=0)


def test_the_square_holds_a_posterior_far_from_the_prior_and_much_narrower():
    vae = LinearGaussianVAE(exact, 40 * torch.eye(2))
    x = torch.tensor([[300.0, -200.0]], dtype=torch.float64)
    grid = posterior_grid(vae, x)
    mean = vae.encode(x).mean[0]
    assert (grid.centres[0].amin(-1) < mean).all()
    assert (mean < grid.centres[0].amax(-1)).all()
    side = grid.centres[0, 0, -1] - grid.centres[0, 0, 0]
    assert side < 40 * (0.5 / 40)  # of the posterior's deviation
    assert grid.mass_of_q.item() == pytest.approx(1.0, abs=1e-3)


def test_other_numbers_of_latents_are_refused():
    vae = LinearGaussianVAE(exact, torch.eye(3))
    with pytest.raises(InvalidInputError, match="two"):
        posterior_grid(vae, torch.zeros(1, 3, dtype=torch.float64))


def test_paths_of_a_continuous_flow_are_its_solution():
    reseed()
    base = DiagonalNormal(torch.zeros(4, 2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    q = FlowDistribution(base, ContinuousTransform(lambda t, z: -z, integration_time=2.0, divergence="exact"))
    paths = flow_paths(q, 5, 10)
    assert paths.is_continuous
    assert paths.states.shape == (11, 5, 4, 2)
    times = torch.linspace(0, 2, 11, dtype=torch.float64)[:, None, None, None]
    torch.testing.assert_close(paths.states, paths.states[0] * (-times).exp(), atol=1e-3, rtol=0)  # of the solver


def test_paths_of_layers_end_where_q_does():
    reseed()
    q = AmortizedPosterior(2, 6, flow="sylvester-triangular", num_layers=3).eval()(torch.randn(4, 6))
    paths = flow_paths(q, 5)
    assert not paths.is_continuous
    assert len(paths.states) == 4
    (transform,) = q.transforms
    torch.testing.assert_close(paths.states[-1], transform(paths.states[0]), atol=1e-5, rtol=1e-5)
    with pytest.raises(InvalidInputError, match="transforms"):
        flow_paths(Independent(Normal(torch.zeros(2), 1.0), 1))
