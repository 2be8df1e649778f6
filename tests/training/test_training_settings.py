from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.persistence.configuration import settled
from vae_flows.training import ComputeSettings, TrainingSettings


def test_defaults_are_the_benchmarks():
    settings = TrainingSettings()
    assert (settings.max_epochs, settings.batch_size, settings.num_particles) == (2000, 100, 1)
    assert (settings.learning_rate, settings.optimizer_epsilon) == (5e-4, 1e-7)
    assert (settings.warmup_epochs, settings.patience) == (100, 35)


def test_beta_rises_linearly_from_the_first_epoch():
    settings = TrainingSettings(warmup_epochs=4)
    assert [settings.beta(epoch) for epoch in range(1, 7)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert TrainingSettings(warmup_epochs=0).beta(1) == 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_epochs", 0),
        ("batch_size", 1.5),
        ("patience", 0),
        ("num_particles", 0),
        ("num_particles", -1),
        ("evaluation_batch_size", 0),
        ("warmup_epochs", -1),
        ("seed", -1),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("optimizer_epsilon", math.inf),
        ("max_gradient_norm", 0.0),
        ("max_gradient_norm", "1"),
        ("max_gradient_norm", True),
        ("max_epochs", True),
        ("max_epochs", "32"),
        ("max_epochs", None),
        ("max_epochs", -3),
        ("batch_size", False),
        ("warmup_epochs", 1.0),
        ("warmup_epochs", math.nan),
        ("seed", "x"),
        ("seed", None),
        ("seed", True),
        ("learning_rate", True),
        ("learning_rate", "0.1"),
        ("learning_rate", 10**400),
        ("optimizer_epsilon", None),
        ("optimizer_epsilon", 1j),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: Any):
    with pytest.raises(InvalidInputError, match=f"TrainingSettings {name}: expected .*, got {re.escape(repr(value))}"):
        TrainingSettings(**{name: value})


def test_numbers_of_numpy_become_pythons():
    settings = TrainingSettings(learning_rate=np.float64(0.25))
    assert type(settings.learning_rate) is float
    for number in (np.float64(0.25), np.float32(0.25), np.int64(3), np.bool_(True)):
        for options in ({"a": number}, {"a": (0.5, number)}, {"a": [{"b": [number]}]}):
            (found,) = settled(options).values()
            while isinstance(found, tuple | dict):
                found = found["b"] if isinstance(found, dict) else found[-1]
            assert type(found) in (float, int, bool)
            assert found == number


@pytest.mark.parametrize("epoch", [0, -1, 1.5, True, "1"])
def test_only_epochs_have_a_weight(epoch: Any):
    with pytest.raises(InvalidInputError, match=r"TrainingSettings\.beta epoch: expected a positive integer"):
        TrainingSettings().beta(epoch)


def test_an_unknown_gradient_is_refused():
    wrong: Any = "pathwise"
    with pytest.raises(UnknownNameError, match=r"gradient: expected one of .*Did you mean 'path'"):
        TrainingSettings(gradient=wrong)


def test_compute_settings_are_checked():
    with pytest.raises(InvalidInputError, match="ComputeSettings devices: expected an integer of at least 1, got 0"):
        ComputeSettings(devices=0)
    wrong: Any = "bf16mixed"
    with pytest.raises(UnknownNameError, match=r"precision: expected one of .*Did you mean 'bf16-mixed'"):
        ComputeSettings(precision=wrong)
    with pytest.raises(UnknownNameError, match="strategy: expected one of auto, ddp"):
        ComputeSettings(strategy=wrong)


@pytest.mark.parametrize("value", [0, -1, 1.0, "2", True, None])
def test_devices_are_counted(value: Any):
    with pytest.raises(InvalidInputError, match="ComputeSettings devices: expected an integer of at least 1"):
        ComputeSettings(devices=value)


@pytest.mark.parametrize("name", ["precision", "strategy"])
@pytest.mark.parametrize("value", [32, None, "", ["ddp"]])
def test_choices_are_names(name: str, value: Any):
    with pytest.raises(UnknownNameError, match=f"{name}: expected one of"):
        ComputeSettings(**{name: value})


@pytest.mark.parametrize("value", [None, "", 3])
def test_an_accelerator_is_a_name(value: Any):
    with pytest.raises(InvalidInputError, match="ComputeSettings accelerator: expected a name"):
        ComputeSettings(accelerator=value)
