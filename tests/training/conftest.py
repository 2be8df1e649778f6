from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.seeds import reseed
from tests.training.small_settings import SETTINGS
from vae_flows.data import DataSet, from_arrays
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder
from vae_flows.posterior import AmortizedPosterior
from vae_flows.training import ComputeSettings, TrainingResult, train
from vae_flows.vae import ELBO, VAE

SHAPE = (1, 4, 4)


@pytest.fixture
def cpu() -> ComputeSettings:
    return ComputeSettings(accelerator="cpu")


@pytest.fixture
def make_data() -> Callable[..., DataSet]:
    """Make grey levels to draw binary images from, bright on the left or on the right."""

    def make(train: int, validation: int, test: int) -> DataSet:
        left = torch.rand(train + validation + test, 1, 1, 1) < 0.5
        bright = left == (torch.arange(4) < 2)
        levels = torch.where(bright, 0.9, 0.1).expand(-1, 1, 4, 4)
        return from_arrays(*levels.split([train, validation, test]), pixels="binary")

    return make


@pytest.fixture
def data(make_data: Callable[..., DataSet]) -> DataSet:
    return make_data(50, 16, 8)


@pytest.fixture
def make_vae() -> Callable[..., VAE]:
    """Build a small model whose initial weights are always the same."""

    def make(flow: str = "planar", latent_dim: int = 2, **options: Any) -> VAE:
        reseed(1)
        encoder = MLPEncoder(SHAPE, hidden_dims=(8,), context_dim=6)
        posterior = AmortizedPosterior(latent_dim, 6, flow=flow, **options)
        return VAE(encoder, MLPDecoder(latent_dim, SHAPE, hidden_dims=(8,)), posterior, BernoulliLikelihood())

    return make


@pytest.fixture
def fit(cpu: ComputeSettings, data: DataSet) -> Callable[..., TrainingResult]:
    """Train on the CPU without bars; takes changes of the settings and the options of `train`."""

    def run(
        vae: VAE, data: DataSet = data, *, folder: Path | None = None, resume: bool = False, **options: Any
    ) -> TrainingResult:
        compute, progress = options.pop("compute", cpu), options.pop("progress", False)
        called = {name: options.pop(name, ()) for name in ("callbacks", "loggers_beside")}
        settings = replace(SETTINGS, **options)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The warm-up of β takes")  # of parts of a run
            return train(
                vae,
                data,
                settings,
                folder=folder,
                compute=compute,
                resume=resume,
                progress=progress,
                callbacks=called["callbacks"],
                loggers=called["loggers_beside"],
            )

    return run


@pytest.fixture
def same_weights() -> Callable[[VAE, VAE], bool]:
    def same(first: VAE, second: VAE) -> bool:
        other = second.state_dict()
        return all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())

    return same


@pytest.fixture
def spoil_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[VAE, int, Callable[[ELBO], ELBO]], None]:
    """Let a training step, counted from 1 over all epochs, meet something else than the ELBO."""

    def spoil_step(vae: VAE, number: int, spoil: Callable[[ELBO], ELBO]) -> None:
        steps = 0

        def spoiled(original: Callable[..., ELBO], x: Tensor, *arguments: Any) -> ELBO:
            nonlocal steps
            steps += vae.training
            terms = original(x, *arguments)
            return spoil(terms) if vae.training and steps == number else terms

        for bound in ("elbo", "renyi_terms"):
            monkeypatch.setattr(vae, bound, partial(spoiled, getattr(vae, bound)))

    return spoil_step


@pytest.fixture
def worsen_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[VAE, int], None]:
    """Let validation find the model worse after so many training steps."""

    def worsen_after(vae: VAE, last_good: int) -> None:
        original, steps = vae.elbo, 0

        def elbo(x: Tensor, *arguments: Any) -> ELBO:
            nonlocal steps
            steps += vae.training
            terms = original(x, *arguments)
            return terms if vae.training or steps <= last_good else replace(terms, kl=terms.kl + 100)

        monkeypatch.setattr(vae, "elbo", elbo)

    return worsen_after
