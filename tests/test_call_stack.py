"""Warnings point at the line of the program, and densities know which objective of Pyro asks for them."""

from __future__ import annotations

import linecache
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.infer import (
    ELBO,
    SVI,
    Importance,
    Predictive,
    RenyiELBO,
    ReweightedWakeSleep,
    SMCFilter,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
    TraceTMC_ELBO,
)
from pyro.infer.importance import psis_diagnostic, vectorized_importance_weights
from torch import Tensor, nn

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.call_stack import calling_objective
from vae_flows.cnf import ContinuousTransform, FunctionField
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder

ROUNDING = 1e-10
CHEAP: dict[str, Any] = {"hidden_dims": (8,), "amortization": "bias"}
DEAR: dict[str, Any] = {"hidden_dims": (8,), "amortization": "hyper"}
VECTORISED: dict[str, Any] = {"vectorize_particles": True, "max_plate_nesting": 1}


@pytest.fixture(autouse=True)
def _store_of_its_own() -> Iterator[None]:
    with pyro.get_param_store().scope():
        yield


def joint(z: Tensor) -> Tensor:
    return -z.square().sum(-1)


def estimated() -> Any:
    """Return a q whose log-densities are estimates, and whose exact trace is dear."""
    return vf.AmortizedPosterior(2, 4, **DEAR)(torch.randn(3, 4))


def vae() -> vf.VAE:
    networks = MLPEncoder((1, 2, 2), (4,), context_dim=4), MLPDecoder(2, (1, 2, 2), (4,))
    return vf.VAE(*networks, vf.AmortizedPosterior(2, 4, **DEAR), BernoulliLikelihood())


def falling_back() -> object:
    fixed = vf.ODESolver("euler", options={"step_size": 0.5})
    solver = vf.ODESolver(max_evaluations=2, fallback=fixed)
    return ContinuousTransform(FunctionField(lambda t, z: -z), divergence="exact", solver=solver)(torch.ones(3, 2))


class InHalf(nn.Module):
    """A program of its own on the way: what it calls is called from its line, not from that of torch."""

    def forward(self) -> object:
        half = torch.zeros(3, 2, dtype=torch.bfloat16)
        q = vf.FlowDistribution(vf.DiagonalNormal(half, half + 1), [vf.transforms.IdentityTransform(2, (3,))])
        return q.rsample_with_log_prob()


def pyro_step() -> object:
    chosen, objective = vae(), RenyiELBO(0.5, num_particles=2)
    return SVI(chosen.model, chosen.guide, pyro.optim.SGD({"lr": 0.0}), objective).step(images())


def images() -> Tensor:
    return torch.rand(3, 1, 2, 2).round()


def dark() -> np.ndarray:
    return np.full((2, 1, 2, 2), 9, dtype=np.uint8)


# Calls that warn, and what stands in the line that the warning points at.
WARNED: dict[str, tuple[Callable[[], object], str]] = {
    "importance-weighted bound": (
        lambda: vf.objectives.importance_weighted_bound(joint, estimated(), 2),
        "importance_weighted_bound(joint",
    ),
    "Rényi bound": (lambda: vf.objectives.renyi_bound(joint, estimated(), 0.5, 2), "renyi_bound(joint"),
    "bound of a VAE": (lambda: vae().importance_weighted_bound(images(), 2), "vae().importance_weighted_bound"),
    "Rényi bound of a VAE": (lambda: vae().renyi_bound(images(), 0.5, 2), "vae().renyi_bound"),
    "Rényi bound of Pyro": (lambda: pyro_step(), ".step(images())"),
    "fallback of a solver": (lambda: falling_back(), "(torch.ones(3, 2))"),
    "log q in 16 bits": (lambda: InHalf()(), ".rsample_with_log_prob()"),
    "dark levels": (lambda: vf.data.from_arrays(dark(), dark(), dark(), pixels="grey"), "from_arrays(dark()"),
}


@pytest.mark.parametrize("name", WARNED)
def test_warnings_point_at_the_line_of_the_caller(name: str) -> None:
    call, in_line = WARNED[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert caught
    for warning in caught:
        assert warning.filename == __file__
        assert in_line in linecache.getline(__file__, warning.lineno)


def test_one_line_is_warned_of_once() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            vf.objectives.importance_weighted_bound(joint, estimated(), 2)
        vf.objectives.importance_weighted_bound(joint, estimated(), 2)
    assert [warning.category for warning in caught] == [vf.BiasedBoundWarning] * 2


def model(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", Normal(x.new_zeros(2), 1.0).to_event(1))
        pyro.sample("x", Normal(z, 0.5).to_event(1), obs=x)


def flow_guide(**options: Any) -> nn.Module:
    return vf.FlowGuide(nn.Linear(2, 4), vf.AmortizedPosterior(2, 4, **options)).double()


def auto_guide(**options: Any) -> nn.Module:
    return vf.AmortizedAutoGuide(model, nn.Linear(2, 4), **options).double()


class OwnGuide(nn.Module):
    """A guide without those of the library."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.posterior = vf.AmortizedPosterior(2, 2, **options).double()

    def forward(self, x: Tensor) -> None:
        pyro.module("own", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.posterior(x))


GUIDES: dict[str, Callable[..., nn.Module]] = {"FlowGuide": flow_guide, "auto": auto_guide, "own": OwnGuide}


def loss(objective: ELBO) -> Callable[[nn.Module, Tensor], object]:
    return lambda guide, x: objective.loss_and_grads(model, guide, x)


class OwnRenyi(RenyiELBO):
    """An objective derived from Pyro's."""

    def loss_and_grads(self, *args: Any, **kwargs: Any) -> Any:
        return super().loss_and_grads(*args, **kwargs)


NONLINEAR: dict[str, Callable[[nn.Module, Tensor], object]] = {
    "Rényi": loss(RenyiELBO(alpha=0.5, num_particles=3)),
    "Rényi, without gradients": lambda guide, x: RenyiELBO(alpha=2.0, num_particles=3).loss(model, guide, x),
    "Rényi, vectorised": loss(RenyiELBO(alpha=0.0, num_particles=3, **VECTORISED)),
    "derived": loss(OwnRenyi(alpha=0.5, num_particles=2)),
    "wake sleep": loss(ReweightedWakeSleep(num_particles=2, **VECTORISED)),
    "tail adaptive": loss(TraceTailAdaptive_ELBO(num_particles=2, **VECTORISED)),
    "Tensor Monte Carlo": lambda guide, x: TraceTMC_ELBO(**VECTORISED).differentiable_loss(model, guide, x),
    "importance": lambda guide, x: Importance(model, guide, num_samples=2).run(x),
    "importance weights": lambda guide, x: vectorized_importance_weights(
        model, guide, x, num_samples=2, max_plate_nesting=1
    ),
    "diagnostic of weights": lambda guide, x: psis_diagnostic(model, guide, x, num_particles=40, max_plate_nesting=1),
}
LINEAR: dict[str, Callable[[nn.Module, Tensor], object]] = {
    "Trace": loss(Trace_ELBO(num_particles=3)),
    "Trace, vectorised": loss(Trace_ELBO(num_particles=3, **VECTORISED)),
    "mean field": loss(TraceMeanField_ELBO(num_particles=2)),
    "graph": loss(TraceGraph_ELBO(num_particles=2)),
    "enumeration": loss(TraceEnum_ELBO(num_particles=2, max_plate_nesting=1)),
    "Rényi of one particle": loss(RenyiELBO(alpha=0.5, num_particles=1)),
    "prediction": lambda guide, x: Predictive(model, guide=guide, num_samples=2)(x),
}


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 2, dtype=torch.float64)


@pytest.mark.filterwarnings("ignore:Found no sample sites", "ignore:Not enough tail samples")
@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("name", NONLINEAR)
def test_objectives_of_pyro_that_weigh_draws_are_told_of_estimates(name: str, guide: str, x: Tensor) -> None:
    made = GUIDES[guide](**DEAR)
    Trace_ELBO().loss(model, made, x)  # an auto guide is made at the first call
    with pytest.warns(vf.BiasedBoundWarning, match=r"log-determinant of .*eval\(\) first, or .*divergence='exact'"):
        NONLINEAR[name](made.train(), x)
    NONLINEAR[name](made.eval(), x)  # without a warning, which would be an error


@pytest.mark.filterwarnings("ignore:.*found no sample sites")
@pytest.mark.parametrize("name", LINEAR)
def test_objectives_of_pyro_that_average_logarithms_are_told_nothing(name: str, x: Tensor) -> None:
    guide = flow_guide(**DEAR)
    LINEAR[name](guide, x)
    assert calling_objective() is None


@pytest.mark.filterwarnings("ignore:Found no sample sites", "ignore:Not enough tail samples")
@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("name", NONLINEAR)
def test_where_the_exact_trace_is_cheap_it_is_taken(name: str, guide: str, x: Tensor) -> None:
    made = GUIDES[guide](**CHEAP)
    Trace_ELBO().loss(model, made, x)
    NONLINEAR[name](made.train(), x)


@pytest.mark.parametrize("particles", [1, 4])
def test_bounds_of_pyro_in_training_are_those_of_the_exact_trace(particles: int, x: Tensor) -> None:
    guide, objective = flow_guide(**CHEAP, num_blocks=2), RenyiELBO(alpha=0.5, num_particles=particles, **VECTORISED)
    for parameter in guide.parameters():
        nn.init.normal_(parameter, std=0.5)
    found = []
    for training in (True, False):
        reseed(3)
        found.append(objective.loss(model, guide.train(training), x))
    is_exact = abs(found[0] - found[1]) < ROUNDING
    assert is_exact is (particles > 1)  # of one particle the bound is linear, and an estimate will do


def test_priors_are_told_of_too() -> None:
    prior = vf.cnf.ContinuousNormalizingFlow(vf.cnf.MLPDynamics(2, (6, 6, 6)))
    networks = MLPEncoder((1, 2, 2), (4,), context_dim=4), MLPDecoder(2, (1, 2, 2), (4,))
    chosen = vf.VAE(*networks, vf.AmortizedPosterior(2, 4, "planar"), BernoulliLikelihood(), prior)
    with pytest.warns(vf.BiasedBoundWarning, match="RenyiELBO: "):
        RenyiELBO(num_particles=2).loss(chosen.model, chosen.guide, images())


def test_filters_are_told_of_estimates() -> None:
    class Start:
        def init(self, state: Any) -> None:
            state["z"] = pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))

    class Proposal:
        posterior = vf.AmortizedPosterior(2, 2, **DEAR)

        def init(self, state: Any) -> None:
            pyro.sample("z", self.posterior(torch.zeros(3, 2)))

    with pytest.warns(vf.BiasedBoundWarning, match="smcfilter"):
        SMCFilter(Start(), Proposal(), num_particles=3, max_plate_nesting=0).init()
