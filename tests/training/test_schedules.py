from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.training import TrainingSettings

ROUNDING = 1e-12  # float64, some ten steps of a recursion


def rates(bounds: list[float] | None = None, **changes: Any) -> list[float]:
    settings = TrainingSettings(**{"max_epochs": 10, "learning_rate": 1.0, "warmup_epochs": 0, **changes})
    schedule, seen = settings.start_schedule(), []
    for epoch in range(settings.max_epochs):
        seen.append(schedule.rate)
        schedule.advance(bounds[epoch] if bounds else 0.0)
    return seen


def test_a_constant_rate_stays():
    assert rates() == [1.0] * 10


def test_the_rate_rises_linearly_and_then_follows_the_schedule():
    assert rates(learning_rate_warmup_epochs=4) == [0.25, 0.5, 0.75, *[1.0] * 7]
    options = {"schedule": "step", "schedule_options": {"epochs": 3, "factor": 0.5}}
    assert rates(learning_rate_warmup_epochs=4, **options) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]


@pytest.mark.parametrize(("warmup", "length"), [(0, 10), (4, 7)])
def test_a_cosine_ends_with_the_training(warmup: int, length: int):
    expected = [(1 + math.cos(math.pi * step / length)) / 2 for step in range(length)]
    seen = rates(schedule="cosine", learning_rate_warmup_epochs=warmup)[-length:]
    assert seen == pytest.approx(expected, rel=ROUNDING)


def test_a_cosine_of_its_own_length_stays_at_its_minimum():
    seen = rates(schedule="cosine", schedule_options={"epochs": 4, "minimum": 0.2})
    assert seen[4:] == pytest.approx([0.2] * 6, rel=ROUNDING)
    assert all(earlier > later for earlier, later in pairwise(seen[:5]))


def test_a_plateau_lowers_the_rate_after_epochs_without_a_better_bound():
    bounds = [9.0, 8.0, 8.0, 8.5, 8.0, 7.0, 7.0, 7.0, 7.0, 7.0]
    options = {"schedule": "plateau", "schedule_options": {"patience": 1, "factor": 0.5}}
    assert rates(bounds, **options) == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
    # Bounds may be negative, of densities, and any better one counts.
    falling = [-1e6 - 1e-3 * epoch for epoch in range(10)]
    assert rates(falling, **options) == [1.0] * 10


def test_a_plateau_does_not_count_the_warm_up_of_beta():
    options = {"schedule": "plateau", "schedule_options": {"patience": 1, "factor": 0.5}}
    assert rates([8.0] * 10, warmup_epochs=5, **options) == [*[1.0] * 7, 0.5, 0.5, 0.25]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"schedule": "cosine", "schedule_options": {"epochs": 11}}, "'cosine': expected an end within the training, at m"),
    (
        {"schedule": "cosine", "schedule_options": {"epochs": 4}},
        r"got 0 after 4 epochs. Set max_epochs=4, or a minimum",
    ),
    ({"schedule": "cosine", "schedule_options": {"epochs": 1}}, "epochs of at least 2 in which it falls"),
    ({"schedule": "cosine", "max_epochs": 1}, "training of at least 2 epochs, got max_epochs=1"),
    ({"schedule": "cosine", "schedule_options": {"minimum": 1.0}}, "minimum: expected less than learning_rate=1.0"),
    ({"schedule": "cosine", "schedule_options": {"minimum": math.nan}}, "minimum: expected a finite number"),
    ({"schedule": "step"}, "epochs: expected a positive integer, got None"),
    ({"schedule": "step", "schedule_options": {"epochs": 10}}, "'step': expected a step within 10 epochs"),
    ({"schedule": "step", "schedule_options": {"epochs": 2, "factor": 1.0}}, "factor: expected a number below 1"),
    (
        {"schedule": "step", "schedule_options": {"epochs": 2, "factor": 0.0}},
        "factor: expected a finite number above 0",
    ),
    (
        {"schedule": "plateau", "schedule_options": {"patience": 4}, "patience": 5},
        "expected a step before training sto",
    ),
    ({"schedule": "plateau", "schedule_options": {"patience": 8}}, "'plateau': expected a step within 10 epochs"),
    ({"schedule": "plateau", "schedule_options": {"patience": -1}}, "patience: expected an integer of at least 0"),
    ({"schedule": "plateau", "schedule_options": {"patience": True}}, "patience: expected an integer of at least 0"),
    ({"schedule": "step", "schedule_options": {"epoch": 2}}, r"got 'epoch'\. Did you mean 'epochs'"),
    ({"schedule_options": {"epochs": 2}}, "expected none beside 'constant', got 'epochs'"),
    ({"schedule_options": 3}, "schedule_options: expected a mapping of options by name, got 3"),
    (
        {"learning_rate_warmup_epochs": 1},
        "learning_rate_warmup_epochs: expected 0 or at least 2 epochs in which it rise",
    ),
    ({"learning_rate_warmup_epochs": 11}, "learning_rate_warmup_epochs: expected an end within the training"),
    ({"learning_rate_warmup_epochs": -1}, "learning_rate_warmup_epochs: expected an integer of at least 0"),
]


@pytest.mark.parametrize(("changes", "pattern"), REFUSED)
def test_a_schedule_that_never_ends_or_has_no_effect_is_refused(changes: dict[str, Any], pattern: str):
    with pytest.raises(InvalidInputError, match=pattern):
        rates(**changes)


@pytest.mark.parametrize("name", ["cosin", "", None, 3, ["cosine"]])
def test_an_unknown_schedule_is_refused(name: Any):
    with pytest.raises(UnknownNameError, match="schedule: expected one of constant, cosine, plateau, step"):
        TrainingSettings(schedule=name)
