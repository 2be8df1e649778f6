from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.training import TrainingResult, TrainingSettings
from vae_flows.training.optimizers import UNFIT, available_optimizers
from vae_flows.vae import VAE

MakeVAE = Callable[..., VAE]
Fit = Callable[..., TrainingResult]


@pytest.mark.parametrize("name", UNFIT)
def test_what_cannot_train_is_refused_with_the_reason(name: str):
    with pytest.raises(InvalidInputError, match=f"expected one that takes a step from one gradient, got '{name}'. It "):
        TrainingSettings(optimizer=name)


@pytest.mark.parametrize("name", ["adam", "Adamw", "", "Optimizer", None, 3, ["Adam"]])
def test_an_unknown_optimizer_is_refused(name: Any):
    with pytest.raises(UnknownNameError, match="optimizer: expected one of ASGD"):
        TrainingSettings(optimizer=name)


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"optimizer": "SGD", "optimizer_options": {"momentun": 0.9}}, r"got 'momentun'\. Did you mean 'momentum'"),
        ({"optimizer": "SGD", "optimizer_options": {"lr": 0.9}}, r"got 'lr'\. Set learning_rate"),
        ({"optimizer": "Adam", "optimizer_options": {"maximize": True}}, "Training minimises the loss"),
        ({"optimizer": "Adam", "optimizer_options": {3: True}}, "options of Adam among betas"),
        ({"optimizer": "Adam", "optimizer_options": [("betas", 3)]}, "expected a mapping of options by name"),
        ({"optimizer": "Adam", "optimizer_epsilon": 1e-6}, "optimizer_epsilon: expected none for Adam, got 1e-06"),
        ({"optimizer_options": {"eps": 1e-6}}, r"eps: expected none for Adamax, got 1e-06. Set optimizer_epsilon"),
    ],
)
def test_options_that_it_does_not_take_are_refused(settings: dict[str, Any], pattern: str):
    with pytest.raises(InvalidInputError, match=pattern):
        TrainingSettings(**settings)


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"momentum": -1.0}, "Invalid momentum"),
        ({"weight_decay": "much"}, "optimizer SGD with .*: expected one that fit"),
    ],
)
def test_values_that_pytorch_refuses_are_told(make_vae: MakeVAE, fit: Fit, options: dict[str, Any], pattern: str):
    with pytest.raises(InvalidInputError, match=pattern):
        fit(make_vae(), optimizer="SGD", optimizer_options=options)


@pytest.mark.skipif("Muon" not in available_optimizers(), reason="this release of PyTorch has no Muon")
def test_an_optimizer_that_does_not_fit_the_model_is_told(make_vae: MakeVAE, fit: Fit):
    with pytest.raises(InvalidInputError, match=r"optimizer Muon .*: expected one that fits this model, got .*2D"):
        fit(make_vae(), optimizer="Muon")


def test_a_model_without_parameters_to_train_is_told(make_vae: MakeVAE, fit: Fit):
    with pytest.raises(InvalidInputError, match="parameters of the model: expected one that can be trained, or more"):
        fit(make_vae().requires_grad_(False))
