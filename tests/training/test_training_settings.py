from __future__ import annotations

import math
from typing import Any

import pytest

from vae_flows.errors import InvalidInputError, UnknownNameError
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
        ("num_particles", -1),
        ("evaluation_batch_size", 0),
        ("warmup_epochs", -1),
        ("seed", -1),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("optimizer_epsilon", math.inf),
        ("max_gradient_norm", 0.0),
        ("max_gradient_norm", "1"),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: Any):
    with pytest.raises(InvalidInputError, match=f"TrainingSettings {name}: expected .*, got {value!r}"):
        TrainingSettings(**{name: value})


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
