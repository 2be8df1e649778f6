"""Settings of flows that are changed after the flow was made: they count, and they are checked."""

import copy

import pytest
import torch

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.cnf import (
    ContinuousNormalizingFlow,
    ExactDivergence,
    HutchinsonDivergence,
    ImageFlow,
    KineticEnergy,
    MLPDynamics,
    ODESolver,
)
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.persistence.configuration import build, describe

SMALL = {"hidden_dims": (8,)}


def conditional():
    return vf.flows.FFJORD(3, 4, **SMALL)


def unconditional():
    return ContinuousNormalizingFlow([MLPDynamics(3, (8,)), MLPDynamics(3, (8,))])


def of_images():
    return ImageFlow((1, 4, 4), num_scales=2, hidden_channels=(4,))


BUILDERS = (conditional, unconditional, of_images)


def score(flow):
    """Return log-determinants of a few values in evaluation mode and the evaluations that they took."""
    flow.eval()
    size = flow.latent_dim
    transform = flow.transform(torch.ones(2, 4)) if isinstance(flow, vf.flows.FFJORD) else flow.transform()
    value = torch.linspace(0.1, 0.9, 2 * size).view(2, size)
    log_det = transform.inverse_with_log_det(value)[1]
    return log_det.detach(), flow.last_solve.forward_evaluations


@pytest.fixture(params=BUILDERS, ids=lambda build: build.__name__)
def flow(request):
    reseed()
    flow = request.param()
    with torch.no_grad():
        for parameter in flow.parameters():  # some start at zero, and move nothing
            parameter += 0.1 * torch.randn_like(parameter)
    return flow


def test_a_solver_counts_from_when_it_is_assigned(flow):
    flow.eval_solver = ODESolver(method="rk4", options={"step_size": 0.5})
    _, coarse = score(flow)
    flow.eval_solver = ODESolver(method="rk4", options={"step_size": 0.1})
    _, fine = score(flow)
    assert fine > 4 * coarse
    flow.eval()
    flow.solver = ODESolver(method="euler", options={"step_size": 0.5})  # that of training
    assert score(flow)[1] == fine


def test_an_end_time_counts_from_when_it_is_assigned(flow):
    flow.eval_divergence = "exact"
    flow.eval_solver = ODESolver(rtol=1e-6, atol=1e-6)
    before, _ = score(flow)
    flow.integration_time = 2 * flow.integration_time
    assert (score(flow)[0] - before).abs().max() > 1e-3
    flow.integration_time = flow.integration_time / 2
    torch.testing.assert_close(score(flow)[0], before)


def test_a_divergence_counts_from_when_it_is_assigned(flow):
    flow.eval_divergence = "exact"
    assert flow.eval_divergence == ExactDivergence()
    assert torch.equal(score(flow)[0], score(flow)[0])
    flow.eval_divergence = HutchinsonDivergence()
    assert not torch.equal(score(flow)[0], score(flow)[0])


def test_regularizers_and_jitter_are_shared(flow):
    flow.regularizers = [KineticEnergy(0.1)]
    flow.end_time_jitter = 0.1
    parts = flow.continuous_flows if isinstance(flow, vf.cnf.settings.SharedSettings) else [flow]
    for part in parts:
        assert part.regularizers == (KineticEnergy(0.1),)
        assert part.end_time_jitter == 0.1


def test_what_is_assigned_is_saved_and_copied(flow):
    flow.eval_solver = ODESolver(rtol=1e-3)
    flow.integration_time = 0.7
    again = vf.flows.FFJORD(**flow.get_config()) if isinstance(flow, vf.flows.FFJORD) else build(describe(flow))
    for other in (copy.deepcopy(flow), again):
        assert other.eval_solver == ODESolver(rtol=1e-3)
        assert other.solver == ODESolver()
        assert other.integration_time == 0.7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("solver", "dopri5"),
        ("solver", None),
        ("eval_solver", None),
        ("divergence", "exakt"),
        ("eval_divergence", 3),
        ("regularizers", KineticEnergy(0.1)),
        ("integration_time", 0.0),
        ("integration_time", float("nan")),
        ("integration_time", torch.ones(())),
        ("end_time_jitter", -0.1),
        ("end_time_jitter", 5.0),
        ("end_time_jitter", "0.1"),
    ],
)
def test_wrong_settings_are_refused_and_the_old_ones_kept(flow, name, value):
    before = getattr(flow, name)
    with pytest.raises((InvalidInputError, UnknownNameError)):
        setattr(flow, name, value)
    assert getattr(flow, name) == before


def test_a_jitter_stays_below_the_end_time(flow):
    flow.end_time_jitter = 0.3
    with pytest.raises(InvalidInputError, match=r"end_time_jitter: expected at least 0 and below T = 0\.2"):
        flow.integration_time = 0.2


@pytest.mark.parametrize("build", [conditional, unconditional], ids=lambda build: build.__name__)
def test_a_learned_end_time_is_not_a_setting(build):
    options = {"train_integration_time": True}
    flow = (
        vf.flows.FFJORD(3, 4, **SMALL, **options)
        if build is conditional
        else ContinuousNormalizingFlow(MLPDynamics(3, (8,)), **options)
    )
    with pytest.raises(InvalidInputError, match=r"as it is learned, got 2\.0\. Set log_integration_time"):
        flow.integration_time = 2.0
