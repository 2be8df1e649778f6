"""What is said of posteriors that are right, and of ones with noise, loose inverses or wrong log-determinants."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, Normal

import vae_flows as vf
from tests.evaluation.wrong_log_det import WrongLogDet
from tests.seeds import reseed
from vae_flows.distributions import DiagonalNormal, FlowDistribution
from vae_flows.errors import InvalidInputError
from vae_flows.evaluation import density_integral, round_trip_error, trace_noise
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder

ERRORS = 5  # standard errors allowed: a false alarm in 1.7 million comparisons
SHAPE = (1, 4, 4)
FLOWS = ["none", "planar", "iaf", "sylvester-triangular", "ffjord"]


def posterior(flow, **options):
    small = {"ffjord": {"hidden_dims": (16,), "amortization": "bias"}, "iaf": {"hidden_dim": 8, "num_layers": 2}}
    options = {**small.get(flow, {}), **options}
    made = vf.AmortizedPosterior(2, 6, flow=flow, **options).double()
    with torch.no_grad():
        for parameter in made.parameters():  # away from the identity, at which flows start
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def vae(flow, **options):
    reseed()
    made = vf.VAE(
        MLPEncoder(SHAPE, (8,), 6), MLPDecoder(2, SHAPE, (8,)), posterior(flow, **options), BernoulliLikelihood()
    )
    return made.double()


def images(count=10):
    return torch.rand(count, *SHAPE, dtype=torch.float64)


def test_the_noise_of_the_trace_is_unbiased_and_seen():
    model = vae("ffjord")
    found = trace_noise(model, images(), num_noise_draws=200)
    assert (found.standard_deviation > 1e-3).all()
    # Up to the solver's tolerance, 1e-5 per step, with which the paths of the two solves differ.
    assert (found.mean.abs() < ERRORS * found.standard_error + 1e-3).all()
    assert found.root_mean_square == pytest.approx(float(found.standard_deviation.square().mean().sqrt()), rel=0.1)
    assert model.training


def test_more_probes_make_less_noise():
    first, second = (
        trace_noise(vae("ffjord", num_probes=probes), images(40), num_noise_draws=100) for probes in (1, 8)
    )
    ratio = (second.standard_deviation.square().mean() / first.standard_deviation.square().mean()).item()
    assert ratio == pytest.approx(1 / 8, rel=0.4)


@pytest.mark.parametrize(
    ("flow", "options"), [*((flow, {}) for flow in FLOWS[:-1]), ("ffjord", {"divergence": "exact"})]
)
def test_exact_densities_have_no_noise(flow, options):
    assert trace_noise(vae(flow, **options), images(), num_noise_draws=2).root_mean_square < 1e-9


def test_only_the_posterior_trains_meanwhile():
    model = vae("ffjord").eval()
    model.encoder.register_forward_hook(lambda module, *_: seen.append(module.training))
    seen: list[bool] = []
    trace_noise(model, images(2), num_noise_draws=2)
    assert seen
    assert not any(seen)
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("flow", FLOWS)
def test_inverses_of_the_flows_invert(flow):
    reseed()
    q = posterior(flow).eval()(torch.randn(3, 6, dtype=torch.float64))
    found = round_trip_error(q)
    assert found.latents.shape == found.log_density.shape == (3,)
    tolerance = 1e-3 if flow == "ffjord" else 1e-7  # the solver's, over a solve; and rounding, grown by steep maps
    assert float(found.latents.max()) < tolerance
    assert float(found.log_density.max()) < tolerance


def test_a_loose_inverse_is_seen():
    reseed()
    coarse = posterior("ffjord", solver=vf.ODESolver("euler", options={"step_size": 0.25})).eval()
    found = round_trip_error(coarse(torch.randn(3, 6, dtype=torch.float64)))
    assert float(found.latents.max()) > 1e-2


def test_what_has_no_transform_has_no_error():
    assert float(round_trip_error(Independent(Normal(torch.zeros(3, 2), 1.0), 1)).latents.max()) == 0


@pytest.mark.parametrize("error", [0.0, 0.1, -0.1])
def test_a_wrong_log_determinant_is_condemned(error):
    reseed()
    q = FlowDistribution(DiagonalNormal(torch.zeros(2).double(), torch.ones(2).double()), [WrongLogDet(error)])
    found = density_integral(q, num_samples=20_000)
    assert float(found.value) == pytest.approx(math.exp(-error), abs=ERRORS * float(found.standard_error))
    assert (abs(float(found.z_score)) > 2 * ERRORS) == (error != 0)


@pytest.mark.parametrize("flow", FLOWS)
def test_posteriors_integrate_to_one(flow):
    reseed()
    q = posterior(flow).eval()(torch.randn(4, 6, dtype=torch.float64))
    found = density_integral(q, num_samples=20_000, chunk_size=7_000)
    assert (found.z_score.abs() < ERRORS).all()
    assert (found.standard_error < 0.05).all()
    assert (found.effective_sample_size > 1_000).all()


def test_standard_errors_are_those_of_repetitions():
    reseed()
    q = DiagonalNormal(torch.randn(1000, 2, dtype=torch.float64), torch.rand(1000, 2, dtype=torch.float64) + 0.1)
    scores = density_integral(q, num_samples=1000, chunk_size=500).z_score
    # Over 1,000 repetitions the variance of scores is 1 ± 0.045, and more by the error of the standard errors.
    assert float(scores.var()) == pytest.approx(1, abs=ERRORS * 0.045 + 0.02)
    assert float(scores.mean()) == pytest.approx(0, abs=ERRORS / 1000**0.5 + 0.03)  # skewed: a score is no normal


def test_wrong_use_is_told():
    with pytest.raises(InvalidInputError, match="two or more"):
        trace_noise(vae("none"), images(), num_noise_draws=1)
    with pytest.raises(InvalidInputError, match="a distribution of vectors"):
        density_integral(Normal(torch.zeros(2), 1.0))
    with pytest.raises(InvalidInputError, match="more than D"):
        density_integral(DiagonalNormal(torch.zeros(5), torch.ones(5)), num_samples=6)
