"""What has a name in a registry is had by it from Python, from a settings file and from the command line alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

import vae_flows as vf
from vae_flows.cli.main import main
from vae_flows.likelihoods import Likelihood, available_likelihoods, make_likelihood
from vae_flows.objectives import GradientEstimator
from vae_flows.persistence.records import from_plain
from vae_flows.runs.settings import RunSettings
from vae_flows.training.objectives import OBJECTIVES
from vae_flows.training.optimizers import available_optimizers, make_optimizer
from vae_flows.training.schedules import SCHEDULES
from vae_flows.training.settings import LoggerName, TrainingSettings

DATA = "caltech101-silhouettes"
NEEDED: Mapping[str, Mapping[str, Any]] = {
    "step": {"schedule_options": {"epochs": 3}},
    "beta": {"objective_options": {"beta": 2.0}},
    "renyi": {"objective_options": {"alpha": 0.5}, "num_particles": 2},
    "importance_weighted": {"num_particles": 2},
}
"""What a name cannot be without."""
TRAINING = {
    "optimizer": available_optimizers(),
    "schedule": tuple(SCHEDULES),
    "objective": tuple(OBJECTIVES),
    "gradient": get_args(GradientEstimator),
}
NAMES = [(setting, name) for setting, names in TRAINING.items() for name in names]


def settings_of(setting: str, name: str) -> dict[str, Any]:
    """Return a settings file that says this name and no more than it needs."""
    if setting == "likelihood":
        return {"data": DATA, "posterior": "planar", "likelihood": name}
    value = [name] if setting == "loggers" else name
    return {"data": DATA, "posterior": "planar", "training": {setting: value, **NEEDED.get(name, {})}}


def flags_of(setting: str, name: str) -> list[str]:
    if setting == "likelihood":
        return ["--likelihood", name]
    words = [f"--training.{setting}", name]
    for option, value in NEEDED.get(name, {}).items():
        values = [str(part) for pair in value.items() for part in pair] if isinstance(value, dict) else [str(value)]
        words += [f"--training.{option.replace('_', '-')}", *values]
    return words


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["train", *words, "--print-settings"]) == 0
    return json.loads(capsys.readouterr().out)


def as_toml(plain: Mapping[str, Any]) -> str:
    """Write flat values first and one table after the other: JSON's values are TOML's."""
    flat = [f"{name} = {json.dumps(value)}" for name, value in plain.items() if not isinstance(value, dict)]
    tables: list[str] = []
    for name, value in plain.items():
        if isinstance(value, dict):
            inner = {f"{name}.{key}": part for key, part in value.items() if isinstance(part, dict)}
            here = {key: part for key, part in value.items() if not isinstance(part, dict)}
            tables += [f"[{name}]", as_toml(here), *(f"[{key}]\n{as_toml(part)}" for key, part in inner.items())]
    return "\n".join([*flat, *tables]) + "\n"


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        *NAMES,
        *(("likelihood", name) for name in available_likelihoods() if not name.startswith("my-")),
        *(("loggers", name) for name in get_args(LoggerName)),
    ],
)
def test_a_name_is_the_same_in_python_in_files_and_as_a_flag(
    setting: str, name: str, capsys: pytest.CaptureFixture[str], no_colour: Path
):
    plain = settings_of(setting, name)
    (no_colour / "mine.json").write_text(json.dumps(plain))
    (no_colour / "mine.toml").write_text(as_toml(plain))
    training = TrainingSettings(**plain.get("training", {}))
    python = RunSettings(DATA, "planar", training=training, likelihood=plain.get("likelihood"))
    # The command has a preset's settings, to which the name is added; a file has what is not said by default.
    from_files = [printed(capsys, "--settings", file) for file in ("mine.json", "mine.toml")]
    for found in from_files:
        assert from_plain(RunSettings, {k: v for k, v in found.items() if k not in ("format", "version")}) == python
    start = {"data": DATA, "posterior": "planar"}
    (no_colour / "start.json").write_text(json.dumps(start))
    assert printed(capsys, "--settings", "start.json", *flags_of(setting, name)) == from_files[0]


def test_what_a_registry_has_is_made_by_its_name():
    for name in available_likelihoods():
        assert isinstance(make_likelihood(name), Likelihood)
    weight = vf.AmortizedPosterior(2, 3, flow="none").gaussian.weight
    for name in available_optimizers():
        assert type(make_optimizer(name, [weight], 1e-3, {})).__name__ == name


@pytest.mark.parametrize("setting", ["likelihood", *TRAINING, "loggers"])
def test_a_name_that_no_registry_has_is_told_with_those_that_it_has(
    setting: str, capsys: pytest.CaptureFixture[str], no_colour: Path
):
    (no_colour / "mine.json").write_text(json.dumps(settings_of(setting, "nothing-like-it")))
    words = settings_of(setting, "nothing-like-it")
    with pytest.raises(vf.UnknownNameError) as told:
        make_likelihood(words["likelihood"]) if setting == "likelihood" else TrainingSettings(**words["training"])
    assert "expected one of" in str(told.value)
    for given in (["--settings", "mine.json"], ["--data", DATA, *flags_of(setting, "nothing-like-it")]):
        assert main(["train", *given, "--folder", "out"]) != 0
        assert "nothing-like-it" in capsys.readouterr().err
    assert not (no_colour / "out").exists()
