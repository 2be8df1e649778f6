"""A run continues only with the model that it began with, whatever part of it differs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

import vae_flows as vf
from vae_flows.cnf import ContinuousNormalizingFlow, KineticEnergy, MLPDynamics, ODESolver
from vae_flows.errors import CheckpointError
from vae_flows.persistence.descriptions import describe_model
from vae_flows.training import TrainingResult
from vae_flows.training.description import differences
from vae_flows.vae import VAE

MakeVAE = Callable[..., VAE]
Fit = Callable[..., TrainingResult]

FFJORD = {"hidden_dims": (4,), "amortization": "bias", "solver": ODESolver("rk4", options={"step_size": 0.25})}


class Foreign(nn.Module):
    """An encoder that tells nothing of itself."""

    def __init__(self, activation: nn.Module, hidden: int = 8, calls: int = 0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(-3), nn.Linear(16, hidden), activation, nn.Linear(hidden, 6))
        self.calls = calls

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layers(x)


def with_prior(vae: VAE, prior: Any) -> VAE:
    return VAE(vae.encoder, vae.decoder, vae.posterior, vae.likelihood, prior)


def normal(scale: float) -> Independent:
    return Independent(Normal(torch.zeros(2), torch.full((2,), scale)), 1)


def flow_prior(activation: str) -> vf.FlowPrior:
    solver = ODESolver("rk4", options={"step_size": 0.5})
    return vf.FlowPrior(ContinuousNormalizingFlow(MLPDynamics(2, (3,), activation=activation), solver=solver))


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "activation": ({"activation": "tanh"}, "model.posterior.activation = 'softplus', got model.posterior.activation"),
    "integration time": ({"integration_time": 0.75}, "model.posterior.integration_time = 0.5, got .* = 0.75"),
    "variance bounds": (
        {"variance_bounds": (0.01, 7.0)},
        r"model.posterior.variance_bounds = None, got .*\[0.01, 7.0\]",
    ),
    "divergence": ({"divergence": "exact"}, "model.posterior.divergence.class = 'HutchinsonDivergence', "),
    "noise": ({"noise": "rademacher"}, "model.posterior.divergence.noise = 'gaussian', got .* = 'rademacher'"),
    "solver": (
        {"solver": ODESolver("rk4", options={"step_size": 0.5})},
        "model.posterior.solver.* = 0.25, got .* = 0.5",
    ),
    "method": ({"solver": ODESolver("dopri5")}, "model.posterior.solver.method = 'rk4', .*got .*method = 'dopri5'"),
    "eval_solver": ({"eval_solver": ODESolver(rtol=1e-3)}, "model.posterior.eval_solver"),
    "regularizers": ({"regularizers": (KineticEnergy(0.1),)}, "model.posterior.regularizers"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_posterior_is_refused(make_vae: MakeVAE, fit: Fit, tmp_path: Path, change: str):
    options, pattern = CHANGES[change]
    fit(make_vae("ffjord", **FFJORD), max_epochs=1, folder=tmp_path)
    before = (tmp_path / "last.ckpt").read_bytes()
    with pytest.raises(CheckpointError, match=f"run in .*: expected {pattern}"):
        fit(make_vae("ffjord", **{**FFJORD, **options}), max_epochs=2, folder=tmp_path, resume=True)
    assert (tmp_path / "last.ckpt").read_bytes() == before
    again = make_vae("ffjord", **FFJORD)
    assert len(fit(again, max_epochs=2, folder=tmp_path, resume=True).history) == 2


def test_settings_without_effect_of_earlier_runs_are_passed_over(make_vae: MakeVAE, fit: Fit, tmp_path: Path):
    fit(make_vae("ffjord", **FFJORD), max_epochs=1, folder=tmp_path)
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    posterior = content["run"]["model"]["posterior"]
    assert posterior["rank"] is posterior["solver"]["rtol"] is None
    posterior["rank"] = 20
    posterior["solver"] |= {"rtol": 1e-5, "atol": 1e-5}
    torch.save(content, tmp_path / "last.ckpt")
    assert len(fit(make_vae("ffjord", **FFJORD), max_epochs=2, folder=tmp_path, resume=True).history) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [(None, normal(2.0)), (normal(1.0), normal(2.0)), (flow_prior("tanh"), flow_prior("softplus"))],
)
def test_a_changed_prior_is_refused(make_vae: MakeVAE, fit: Fit, tmp_path: Path, first: Any, second: Any):
    fit(with_prior(make_vae(), first), max_epochs=1, folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"expected model\.prior"):
        fit(with_prior(make_vae(), second), max_epochs=2, folder=tmp_path, resume=True)
    fit(with_prior(make_vae(), first), max_epochs=2, folder=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("changed", "pattern"),
    [
        (lambda: Foreign(nn.ReLU()), r"model\.encoder\.modules\.layers\.2 = 'Tanh\(\)', got .* = 'ReLU\(\)'"),
        (lambda: Foreign(nn.Tanh(), hidden=9), r"model\.encoder\.weights\.layers\.1\.weight = 'float32 \(8, 16\)'"),
    ],
)
def test_a_changed_part_of_a_foreign_class_is_refused(
    make_vae: MakeVAE, fit: Fit, tmp_path: Path, changed: Callable[[], Foreign], pattern: str
):
    def vae(encoder: nn.Module) -> VAE:
        own = make_vae()
        return VAE(encoder, own.decoder, own.posterior, own.likelihood)

    fit(vae(Foreign(nn.Tanh())), max_epochs=1, folder=tmp_path)
    with pytest.raises(CheckpointError, match=pattern):
        fit(vae(changed()), max_epochs=2, folder=tmp_path, resume=True)
    # What changes while it is used does not count.
    fit(vae(Foreign(nn.Tanh(), calls=100)), max_epochs=2, folder=tmp_path, resume=True)


def test_foreign_objects_are_described_alike_in_every_process():
    class Odd(nn.Module):
        def extra_repr(self) -> str:
            return f"function={object()!r}"

    first, second = ({"part": describe_model_of(Odd(), normal(1.0))} for _ in range(2))
    assert first == second


def describe_model_of(encoder: nn.Module, prior: Any) -> dict[str, Any]:
    posterior = vf.AmortizedPosterior(2, 6, lambda context: context)  # pyright: ignore[reportArgumentType]
    return describe_model(VAE(encoder, nn.Identity(), posterior, vf.likelihoods.BernoulliLikelihood(), prior))


def test_differences_are_named_by_their_path():
    first = {"a": 1, "b": {"c": [1, 2], "d": float("nan")}, "e": None}
    assert list(differences(first, copy.deepcopy(first))) == []
    second = {"a": 1, "b": {"c": [1, 3], "d": float("nan"), "f": 0}}
    assert list(differences(first, second)) == [("b.c", [1, 2], [1, 3]), ("b.f", "nothing", 0), ("e", None, "nothing")]
