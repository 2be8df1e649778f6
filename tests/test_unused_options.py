"""Options that would have no effect beside others are refused; what has one, and the defaults, are as they were."""

import pytest
import torch

import vae_flows as vf
from vae_flows.cnf import (
    BottleneckDivergence,
    ContinuousNormalizingFlow,
    ContinuousTransform,
    ExactDivergence,
    HutchinsonDivergence,
    MLPDynamics,
)
from vae_flows.cnf.amortization import make_amortization
from vae_flows.cnf.divergence import divergence_from
from vae_flows.errors import InvalidInputError

WITHOUT_NOISE = ["exact", "brute_force", HutchinsonDivergence(), BottleneckDivergence(), ExactDivergence()]
WITHOUT_RANK = ["concat", "bias", "last_layer", "hyper"]
NOISE = [{"noise": "gaussian"}, {"noise": "rademacher"}, {"num_probes": 1}, {"num_probes": 2}]
FIXED_STEPS = ["euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams"]
WITH_TOLERANCES = ["dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun", "implicit_adams", "fixed_adams"]


def ffjord(**options):
    return vf.FFJORD(2, 3, hidden_dims=(4,), **options)


def transform(dynamics=None, **options):
    return ContinuousTransform(dynamics or (lambda t, z: -z), **options)


def density(**options):
    return ContinuousNormalizingFlow(MLPDynamics(2, (4,)), **options)


@pytest.mark.parametrize("noise", NOISE, ids=str)
@pytest.mark.parametrize("divergence", WITHOUT_NOISE, ids=str)
@pytest.mark.parametrize("make", [ffjord, transform, divergence_from])
def test_noise_of_what_draws_none_or_has_its_own(make, divergence, noise):
    arguments = {"name" if make is divergence_from else "divergence": divergence}
    with pytest.raises(InvalidInputError, match=f"{next(iter(noise))}: expected none beside divergence=.* Leave it"):
        make(**arguments, **noise)
    make(**arguments)


@pytest.mark.parametrize("divergence", ["hutchinson", "bottleneck"])
def test_noise_of_an_estimate_by_name(divergence):
    settings = {"divergence": divergence, "noise": "rademacher", "num_probes": 3}
    found = [transform(**settings).divergence, ffjord(**settings).cnf.divergence]
    assert {(one.noise, one.num_probes) for one in found} == {("rademacher", 3)}
    default = ffjord(divergence=divergence).cnf.divergence
    assert (default.noise, default.num_probes) == ("gaussian", 1)


def test_noise_of_one_estimate_of_two():
    flow = ffjord(divergence=HutchinsonDivergence(), eval_divergence="hutchinson", num_probes=8)
    assert (flow.cnf.divergence.num_probes, flow.cnf.eval_divergence.num_probes) == (1, 8)


@pytest.mark.parametrize("amortization", WITHOUT_RANK)
@pytest.mark.parametrize(
    "make",
    [
        lambda **options: ffjord(**options),
        lambda **options: density(context_dim=3, **options),
        lambda amortization, **rank: make_amortization(amortization, (2, 4, 2), 3, **rank),
    ],
    ids=["FFJORD", "density", "amortization"],
)
def test_a_rank_of_updates_without_one(make, amortization):
    with pytest.raises(InvalidInputError, match=f"rank: expected none beside amortization='{amortization}', got 20"):
        make(amortization=amortization, rank=20)
    make(amortization=amortization)
    make(amortization="low_rank", rank=3)


def test_the_default_rank_is_twenty():
    assert [ffjord().cnf.rank, density(context_dim=3, amortization="low_rank").rank] == [20, 20]
    assert ffjord().cnf.amortizations[0](torch.zeros(1, 3))[0].left.shape == (1, 2, 20)


@pytest.mark.parametrize("option", [{"amortization": "bias"}, {"rank": 2}])
def test_amortisation_without_a_context(option):
    with pytest.raises(InvalidInputError, match=f"{next(iter(option))}: expected none beside no context_dim"):
        density(**option)


@pytest.mark.parametrize("option", [{"context": torch.zeros(3)}, {"parameters": [torch.zeros(3)]}])
def test_what_conditioned_dynamics_have_already(option):
    with pytest.raises(InvalidInputError, match=f"{next(iter(option))}: expected none beside ConditionedMLP"):
        transform(MLPDynamics(2, (4,)).condition(), **option)


def test_noise_beside_the_probes_themselves():
    with pytest.raises(InvalidInputError, match="noise: expected none beside probes"):
        transform(probes=torch.ones(1, 5, 2), noise="rademacher")
    transform(probes=torch.ones(2, 5, 2), num_probes=2)(torch.ones(5, 2))


@pytest.mark.parametrize("tolerance", ["rtol", "atol"])
@pytest.mark.parametrize("method", FIXED_STEPS)
def test_tolerances_of_fixed_steps(method, tolerance):
    with pytest.raises(InvalidInputError, match=f"{tolerance}: expected none beside method='{method}', whose steps"):
        vf.ODESolver(method, **{tolerance: 1e-5})
    assert vf.ODESolver(method).rtol is vf.ODESolver(method).atol is None


@pytest.mark.parametrize("tolerance", ["rtol", "atol"])
@pytest.mark.parametrize("method", WITH_TOLERANCES)
def test_no_tolerance_is_refused_where_one_is_needed(method, tolerance):
    with pytest.raises(InvalidInputError, match=f"{tolerance}: expected a positive number, got None"):
        vf.ODESolver(method, **{tolerance: None})


@pytest.mark.parametrize("method", WITH_TOLERANCES)
def test_tolerances_have_defaults(method):
    solver = vf.ODESolver(method)
    assert (solver.rtol, solver.atol) == (1e-5, 1e-5)


@pytest.mark.parametrize("gradient", ["recompute", "adjoint"])
def test_a_switch_of_backpropagation_beside_another_gradient(gradient):
    with pytest.raises(InvalidInputError, match=f"fused: expected none beside gradient='{gradient}'"):
        vf.ODESolver(gradient=gradient, fused=False)


@pytest.mark.parametrize("settings", [{"fused": False}, {"method": "dopri8"}, {"options": {"min_step": 0.1}}])
def test_compilation_beside_what_is_not_compiled(settings):
    with pytest.raises(InvalidInputError, match="compile: expected none beside"):
        vf.ODESolver(compile=True, **settings)
