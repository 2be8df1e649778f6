"""Pyro's parameter store goes to a file and back, and takes the modules along, without unrestricted unpickling."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Normal, constraints
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.errors import CheckpointError, InvalidInputError
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder

SHAPE = (1, 2, 2)
IMAGES = torch.linspace(0, 1, 12).reshape(3, *SHAPE)
POINTS = torch.linspace(-1, 1, 6).reshape(3, 2)


@pytest.fixture(autouse=True)
def empty_store() -> Iterator[None]:
    with pyro.get_param_store().scope():
        yield


def make_vae() -> tuple[nn.Module, Callable[..., Any], Callable[..., Any], Tensor]:
    posterior = vf.AmortizedPosterior(2, 3, "ffjord", hidden_dims=(4,), rank=1)
    vae = vf.VAE(MLPEncoder(SHAPE, (4,), 3), MLPDecoder(2, SHAPE, (4,)), posterior, BernoulliLikelihood())
    return vae, vae.model, vae.guide, IMAGES


def make_guide() -> tuple[nn.Module, Callable[..., Any], Callable[..., Any], Tensor]:
    def model(x: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor(0.5), constraint=constraints.softplus_positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", Normal(z, scale).to_event(1), obs=x)

    guide = vf.FlowGuide(nn.Linear(2, 3), vf.AmortizedPosterior(2, 3, "planar"))
    return guide, model, guide, POINTS


CASES = pytest.mark.parametrize("make", [make_vae, make_guide])


@CASES
def test_training_goes_on_from_a_saved_store(make: Callable[[], Any], tmp_path: Path) -> None:
    def trained(module: nn.Module, svi: SVI, x: Tensor) -> dict[str, Tensor]:
        reseed(1)
        for _ in range(3):
            svi.step(x)
        return {**module.state_dict(), **{name: value.detach() for name, value in pyro.get_param_store().items()}}

    module, model, guide, x = make()
    optimizer = pyro.optim.Adam({"lr": 0.05})
    svi = SVI(model, guide, optimizer, Trace_ELBO())
    for _ in range(3):
        svi.step(x)
    pyro.get_param_store().save(str(tmp_path / "parameters"))
    optimizer.save(str(tmp_path / "optimizer"))
    expected = {name: tensor.clone() for name, tensor in trained(module, svi, x).items()}

    pyro.clear_param_store()
    module, model, guide, x = make()
    optimizer = pyro.optim.Adam({"lr": 0.05})
    svi = SVI(model, guide, optimizer, Trace_ELBO())
    svi.evaluate_loss(x)
    vf.load_param_store(tmp_path / "parameters")
    optimizer.set_state(torch.load(tmp_path / "optimizer", weights_only=True))
    again = trained(module, svi, x)
    assert again.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(again[name], tensor, rtol=0, atol=0, msg=name)


@CASES
def test_weights_of_a_trained_guide_are_enough(make: Callable[[], Any], tmp_path: Path) -> None:
    def drawn() -> torch.Tensor:
        return poutine.trace(guide).get_trace(x).nodes["z"]["value"]

    module, model, guide, x = make()
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    svi.step(x)
    torch.save(module.state_dict(), tmp_path / "weights")
    reseed(1)
    expected = drawn()

    pyro.clear_param_store()
    module, model, guide, x = make()
    module.load_state_dict(torch.load(tmp_path / "weights", weights_only=True))
    reseed(1)
    assert torch.equal(drawn(), expected)
    SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO()).step(x)


def test_the_store_may_come_first_as_in_pyro(tmp_path: Path) -> None:
    vae, _, guide, x = make_vae()
    guide(x)
    pyro.get_param_store().save(str(tmp_path / "parameters"))
    pyro.clear_param_store()
    vf.load_param_store(tmp_path / "parameters")
    other, _, guide, x = make_vae()
    with pytest.raises(InvalidInputError, match="expected this module's parameter, got that of a module made earlier"):
        guide(x)
    pyro.module("vae", other, update_module_params=True)
    guide(x)
    for name, tensor in vae.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


CONSTRAINED = {
    "real": (torch.tensor([1.0, -2.0]), constraints.real),
    "positive": (torch.tensor(2.0), constraints.positive),
    "interval": (torch.tensor([0.2, 0.3]), constraints.interval(0.1, 1.0)),
    "simplex": (torch.tensor([0.2, 0.8]), constraints.simplex),
    "vector": (torch.ones(3), constraints.independent(constraints.positive, 1)),
    "matrix": (torch.eye(2), constraints.positive_definite),
    "ordered": (torch.tensor([0.0, 1.0]), constraints.ordered_vector),
    "correlation": (torch.eye(2), constraints.corr_cholesky),
}


@pytest.mark.parametrize("present", [True, False])
def test_constrained_parameters_come_back(present: bool, tmp_path: Path) -> None:
    for name, (value, constraint) in CONSTRAINED.items():
        pyro.param(name, value, constraint=constraint)
    expected = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
    pyro.get_param_store().save(str(tmp_path / "parameters"))
    pyro.clear_param_store()
    if present:
        for name, (value, constraint) in CONSTRAINED.items():
            pyro.param(name, value, constraint=constraint).unconstrained().data.add_(1.0)
    vf.load_param_store(str(tmp_path / "parameters"))
    for name, value in expected.items():
        assert torch.equal(pyro.param(name), value), name


def test_a_parameter_that_does_not_fit_is_named_and_nothing_is_changed(tmp_path: Path) -> None:
    pyro.param("a", torch.tensor(1.0))
    pyro.param("b", torch.ones(2))
    pyro.get_param_store().save(str(tmp_path / "parameters"))
    for value, constraint in ((torch.zeros(3), constraints.real), (torch.ones(2), constraints.positive)):
        pyro.clear_param_store()
        pyro.param("a", torch.tensor(5.0))
        pyro.param("b", value, constraint=constraint)
        with pytest.raises(CheckpointError, match=r"parameter 'b' in .*got Real\(\) of shape \(2,\)"):
            vf.load_param_store(tmp_path / "parameters")
        assert pyro.param("a") == 5


def test_code_is_not_run_by_loading(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"params": {}, "constraints": {"a": Harmful()}}, tmp_path / "parameters", pickle_module=pickle)
    with pytest.raises(CheckpointError, match=r"expected tensors and plain values, got others: .*pathlib"):
        vf.load_param_store(tmp_path / "parameters")
    assert not (tmp_path / "ran").exists()
    torch.save({"weights": {}}, tmp_path / "parameters")
    with pytest.raises(CheckpointError, match="expected a parameter store saved by Pyro"):
        vf.load_param_store(tmp_path / "parameters")
    with pytest.raises(CheckpointError, match=r"expected a file at .*absent, got none"):
        vf.load_param_store(tmp_path / "absent")
