"""Simulation-based calibration of amortised guides, trained by the ELBO, on a conjugate model with a skewed posterior.

Locations z ~ N(0, I) are seen as y ~ N(z, 1/4), so z | y ~ N(0.8 y, 0.2); a rate λ ~ Gamma(2, 1) is seen by three
waiting times t ~ Exp(λ), so λ | t ~ Gamma(5, 1 + Σt).
"""

import pyro
import pytest
import torch
from pyro.distributions import Exponential, Gamma, Normal
from pyro.infer import SVI, Predictive, Trace_ELBO
from torch import nn

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.evaluation import simulation_based_calibration

FALSE_ALARM = 1e-3  # of exact posteriors, over the three parameters; the seed is fixed
POWER = 1e-6  # what wrong guides must stay below
STEPS, BATCH = 800, 128


def model(locations, times):
    with pyro.plate("data", len(locations)):
        z = pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))
        rate = pyro.sample("rate", Gamma(2.0, 1.0))
        pyro.sample("y", Normal(z, 0.5).to_event(1), obs=locations)
        pyro.sample("t", Exponential(rate.unsqueeze(-1).expand(*rate.shape, 3)).to_event(1), obs=times)


def prior_sample(count):
    return torch.cat([torch.randn(count, 2), torch.distributions.Gamma(2.0, 1.0).sample((count, 1))], -1)


def simulate(theta):
    """Return locations and waiting times side by side."""
    times = torch.distributions.Exponential(theta[:, 2:]).sample((3,)).squeeze(-1).T
    return torch.cat([theta[:, :2] + 0.5 * torch.randn(len(theta), 2), times], -1)


def arguments(data):
    return data[:, :2], data[:, 2:]


def trained(flow, **options):
    pyro.clear_param_store()
    reseed()
    encoder = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 16))
    guide = vf.AmortizedAutoGuide(
        model,
        encoder,
        flow,
        encoder_inputs=lambda locations, times: torch.cat([locations, times.sum(-1, keepdim=True).log1p()], -1),
        **options,
    )
    scheduler = pyro.optim.CosineAnnealingLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 1e-2}, "T_max": STEPS}
    )
    svi = SVI(model, guide, scheduler, Trace_ELBO())
    for _ in range(STEPS):
        svi.step(*arguments(simulate(prior_sample(BATCH))))
        scheduler.step()
    return guide.eval()


def calibrate(guide, shift=0.0, widen=1.0, num_simulations=2000):
    """Return p-values, with draws spread in logarithms or shifted about their means first."""

    def posterior_sample(data, count):
        samples = Predictive(guide, num_samples=count, parallel=True)(*arguments(data))
        draws = torch.cat([samples["z"], samples["rate"].log().unsqueeze(-1)], -1)
        draws = draws.mean(0) + shift + widen * (draws - draws.mean(0))
        return torch.cat([draws[..., :2], draws[..., 2:].exp()], -1)

    reseed(1)
    result = simulation_based_calibration(prior_sample, simulate, posterior_sample, num_simulations=num_simulations)
    return result.p_values()


@pytest.mark.slow
def test_an_amortised_ffjord_guide_is_calibrated_and_wrong_ones_are_told_from_it():
    solver = vf.ODESolver(method="rk4", options={"step_size": 0.25})
    guide = trained("ffjord", hidden_dims=(32, 32), amortization="bias", divergence="exact", solver=solver)
    assert calibrate(guide).min() > FALSE_ALARM / 3
    for wrong in ({"shift": 0.1}, {"widen": 1.2}, {"widen": 0.85}):
        assert calibrate(guide, **wrong).max() < POWER


@pytest.mark.slow
def test_a_gaussian_guide_misses_the_skew_of_the_rate():
    of_location, of_rate = calibrate(trained("none"), num_simulations=8000).split([2, 1])
    assert of_location.min() > FALSE_ALARM / 3
    assert of_rate < POWER
