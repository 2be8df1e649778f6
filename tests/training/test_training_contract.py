"""What every optimiser, schedule and objective promises, one row each."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
import torch
from torch import Tensor
from torch.optim import lr_scheduler

from tests.training.small_settings import SETTINGS
from vae_flows.cli.parsing import parse
from vae_flows.cli.run_flags import NO_CHANGES, changes_flags
from vae_flows.data import DataSet
from vae_flows.errors import CheckpointError
from vae_flows.modules import in_mode
from vae_flows.persistence.records import from_plain, to_plain
from vae_flows.randomness import derive_seed, seeded
from vae_flows.runs.settings import RunSettings, with_changes
from vae_flows.training import TrainingResult, TrainingSettings, load_weights
from vae_flows.training.entries import NOT_NEGATIVE
from vae_flows.training.objectives import OBJECTIVES, ObjectiveName
from vae_flows.training.optimizers import available_optimizers
from vae_flows.training.schedules import SCHEDULES, ScheduleName
from vae_flows.vae import ELBO, VAE

MakeVAE = Callable[..., VAE]
Fit = Callable[..., TrainingResult]
SameWeights = Callable[[VAE, VAE], bool]
SpoilStep = Callable[[VAE, int, Callable[[ELBO], ELBO]], None]

BATCHES = 3  # of 20, 20 and 10 images
EPOCHS = SETTINGS.max_epochs


class Row(NamedTuple):
    settings: dict[str, Any]
    rates: Callable[[torch.optim.Optimizer], Any] | None = None
    """The scheduler of PyTorch that gives the learning rates of the epochs, where they change."""


OPTIMIZERS = {
    "ASGD": Row({"optimizer_options": {"t0": 2.0}}),
    "Adadelta": Row({}),
    "Adafactor": Row({}),
    "Adagrad": Row({}),
    "Adam": Row({"optimizer_options": {"amsgrad": True}}),
    "AdamW": Row({"optimizer_options": {"weight_decay": 0.1}}),
    "Adamax": Row({}),
    "NAdam": Row({}),
    "RAdam": Row({}),
    "RMSprop": Row({"optimizer_options": {"momentum": 0.9, "centered": True}}),
    "Rprop": Row({}),
    "SGD": Row({"learning_rate": 1e-3, "optimizer_options": {"momentum": 0.9, "nesterov": True}}),
}
NEEDS_MATRICES = "Muon"
SCHEDULE_ROWS = {
    "constant": Row({}),
    "cosine": Row({}, lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)),
    "step": Row(
        {"schedule_options": {"epochs": 2, "factor": 0.5}}, lambda optimizer: lr_scheduler.StepLR(optimizer, 2, 0.5)
    ),
    "plateau": Row(
        {"schedule_options": {"patience": 0, "factor": 0.5}, "warmup_epochs": 0},
        lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.0),
    ),
}
OBJECTIVE_ROWS = {
    "elbo": Row({"num_particles": 2, "gradient": "path"}),
    "beta": Row({"objective_options": {"beta": 4.0}, "num_particles": 2, "gradient": "path"}),
    "importance_weighted": Row({"num_particles": 3, "gradient": "path"}),
    "renyi": Row({"objective_options": {"alpha": 0.5}, "num_particles": 3}),
}
ROWS = {
    **{
        f"optimizer {name}": row._replace(settings={"optimizer": name, **row.settings})
        for name, row in OPTIMIZERS.items()
    },
    **{
        f"schedule {name}": row._replace(settings={"schedule": name, **row.settings})
        for name, row in SCHEDULE_ROWS.items()
    },
    **{
        f"objective {name}": row._replace(settings={"objective": name, **row.settings})
        for name, row in OBJECTIVE_ROWS.items()
    },
    "EMA": Row({"ema_decay": 0.9}),
    "accumulation": Row({"accumulate_batches": 2}),
    "warm-up": Row(
        {"learning_rate_warmup_epochs": 3},
        lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda index: min((index + 1) / 3, 1.0)),
    ),
}


def settings_of(row: Row) -> TrainingSettings:
    """Return what the fixture `fit` makes of a row."""
    return replace(SETTINGS, **row.settings)


each_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


def interrupt(terms: ELBO) -> ELBO:
    raise KeyboardInterrupt


def plain_loop(vae: VAE, data: DataSet, settings: TrainingSettings, row: Row, bounds: Iterator[float]) -> list[float]:
    """Train with PyTorch alone, on the random numbers of the library; return the learning rates."""
    epsilon = {"eps": 1e-7} if settings.optimizer == "Adamax" else {}
    kind = getattr(torch.optim, settings.optimizer)
    optimizer = kind(vae.parameters(), lr=settings.learning_rate, **epsilon, **settings.optimizer_options)
    scheduler = row.rates(optimizer) if row.rates else None
    averages, steps, size = (
        [parameter.detach().clone() for parameter in vae.parameters()],
        0,
        settings.accumulate_batches,
    )
    rates = []
    for epoch in range(1, settings.max_epochs + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        shuffle = torch.Generator().manual_seed(derive_seed(settings.seed, epoch, "order"))
        batches = torch.randperm(len(data.train), generator=shuffle).split(settings.batch_size)
        cpu = torch.device("cpu")
        with in_mode(vae, training=True), seeded(cpu, settings.seed, epoch, 0, "train") as generator:
            for number, x in enumerate(data.train.batches(list(batches), generator=generator, dtype=torch.float32)):
                group = batches[number - number % size :][:size]
                if number % size == 0:
                    optimizer.zero_grad()
                beta = min(epoch / settings.warmup_epochs, 1.0) if settings.warmup_epochs else 1.0
                (-bound_of(vae, x, settings, beta).sum() / sum(map(len, group))).backward()
                if number % size < len(group) - 1:
                    continue
                optimizer.step()
                steps += 1
                decay = min(settings.ema_decay, (1 + steps) / (10 + steps)) if settings.ema_decay else 0.0
                if settings.ema_decay and steps > 8:
                    decay = decay**4 if steps % 4 == 0 else 1.0
                for average, parameter in zip(averages, vae.parameters(), strict=True):
                    average.lerp_(parameter.detach(), 1 - decay)
        bound = next(bounds)
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            scheduler.step(bound)
        elif scheduler:
            scheduler.step()
    for average, parameter in zip(averages, vae.parameters(), strict=True):
        parameter.data = average
    return rates


def bound_of(vae: VAE, x: Tensor, settings: TrainingSettings, beta: float) -> Tensor:
    options, objective = settings.objective_options, settings.objective
    if objective in ("elbo", "beta"):
        return vae.elbo(x, settings.num_particles, options.get("beta", 1.0) * beta, settings.gradient).elbo
    alpha = options.get("alpha", 0.0)
    return vae.renyi_terms(x, alpha, settings.num_particles, beta, settings.gradient).elbo


def test_every_name_has_a_row():
    assert set(available_optimizers()) - {NEEDS_MATRICES} == OPTIMIZERS.keys()
    assert SCHEDULES.keys() == SCHEDULE_ROWS.keys() == set(get_args(ScheduleName))
    assert OBJECTIVES.keys() == OBJECTIVE_ROWS.keys() == set(get_args(ObjectiveName))


@each_row
def test_training_is_the_plain_loop_of_pytorch_bit_for_bit(
    make_vae: MakeVAE, data: DataSet, fit: Fit, same_weights: SameWeights, tmp_path: Path, row: Row
):
    trained, expected = make_vae(), make_vae()
    result = fit(trained, folder=tmp_path, **row.settings)
    load_weights(trained, tmp_path / "last.ckpt")
    bounds = iter([record.validation_negative_elbo for record in result.history])
    rates = plain_loop(expected, data, settings_of(row), row, bounds)
    assert [record.learning_rate for record in result.history] == rates
    assert same_weights(trained, expected)
    assert all(math.isfinite(record.validation_negative_elbo) for record in result.history)


@each_row
@pytest.mark.parametrize("step", [1 + 2 * BATCHES, 2 + 3 * BATCHES])
def test_a_resumed_run_is_the_uninterrupted_run_bit_for_bit(
    make_vae: MakeVAE, fit: Fit, same_weights: SameWeights, spoil_step: SpoilStep, tmp_path: Path, row: Row, step: int
):
    whole, interrupted, resumed = make_vae(), make_vae(), make_vae()
    expected = fit(whole, folder=tmp_path / "whole", **row.settings)
    spoil_step(interrupted, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, folder=tmp_path / "parts", **row.settings)
    torch.nn.init.zeros_(resumed.posterior.gaussian.weight)  # what a fresh model holds does not matter
    assert fit(resumed, folder=tmp_path / "parts", resume=True, **row.settings) == expected
    assert same_weights(resumed, whole)
    whole_state, parts_state = (
        torch.load(tmp_path / part / "last.ckpt", weights_only=True)["runner"] for part in ("whole", "parts")
    )
    assert identical(whole_state, parts_state)


def identical(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(identical(first[name], second[name]) for name in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(identical, first, second))
    if isinstance(first, Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    return first == second


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if settings_of(row) != settings_of(Row({}))])
def test_a_run_is_not_continued_as_another(make_vae: MakeVAE, fit: Fit, tmp_path: Path, name: str):
    fit(make_vae(), max_epochs=1, folder=tmp_path)
    settings, default = settings_of(ROWS[name]), settings_of(Row({}))
    changed = next(option for option in ROWS[name].settings if getattr(settings, option) != getattr(default, option))
    with pytest.raises(CheckpointError, match=rf"run in .*: expected .*{changed} = .*, got .*{changed} = "):
        fit(make_vae(), folder=tmp_path, resume=True, **ROWS[name].settings)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_damaged_state_of_an_optimizer_is_refused(make_vae: MakeVAE, fit: Fit, tmp_path: Path, name: str):
    options = ROWS[f"optimizer {name}"].settings
    fit(make_vae(), max_epochs=1, folder=tmp_path, **options)
    whole = torch.load(tmp_path / "last.ckpt", weights_only=True)
    entries = whole["runner"]["optimizer"]["state"][0]
    assert entries
    for entry, value in entries.items():
        wrong = (None, torch.zeros(7, 7), torch.full_like(value, math.nan), *([-value] if (value > 0).all() else []))
        for changed in wrong[: None if entry in NOT_NEGATIVE or entry == "step" else 3]:
            content = copy.deepcopy(whole)
            content["runner"]["optimizer"]["state"][0][entry] = changed
            torch.save(content, tmp_path / "last.ckpt")
            with pytest.raises(CheckpointError, match=f"{entry} in state 0 of the optimizer of checkpoint"):
                fit(make_vae(), folder=tmp_path, resume=True, **options)


@each_row
def test_python_settings_files_and_the_command_line_say_the_same(row: Row):
    common = {"max_epochs": 36, "patience": 20, "warmup_epochs": 10}
    training = TrainingSettings(**{**common, **row.settings})
    settings = RunSettings("mnist-static", "planar", training=training)
    assert from_plain(RunSettings, json.loads(json.dumps(to_plain(settings)))) == settings
    start = RunSettings("mnist-static", "planar", training=TrainingSettings(**common))
    words = list(chain.from_iterable(map(flag, row.settings, row.settings.values())))
    assert (
        with_changes(start, *parse([changes_flags([start], words)], words, "train").get("changes", NO_CHANGES))
        == settings
    )


def flag(name: str, value: Any) -> list[str]:
    values = chain.from_iterable(value.items()) if isinstance(value, dict) else [value]
    return [f"--training.{name.replace('_', '-')}", *map(str, values)]
