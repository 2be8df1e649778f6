"""Settings survive JSON, tell their differences, and take changes."""

import json
from dataclasses import replace

import pytest

from vae_flows.benchmark.presets import PRESETS
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.persistence.records import differences, from_plain, to_plain
from vae_flows.runs.settings import NetworkSettings, RunSettings, with_changes
from vae_flows.training import ComputeSettings, TrainingSettings

SETTINGS = RunSettings(
    data="frey-faces",
    posterior="ffjord",
    posterior_options={"hidden_dims": (128, 64), "solver": {"rtol": 1e-3, "options": {"safety": [0.9]}}},
    latent_dim=8,
    variance_bounds=(0.01, 7.0),
    network=NetworkSettings("mlp", (30, 20), 16),
    training=TrainingSettings(max_epochs=3, seed=5, max_gradient_norm=2.0),
    compute=ComputeSettings(accelerator="cpu"),
    split_seed=123,
    max_images=50,
)


def through_json(settings: RunSettings) -> RunSettings:
    return from_plain(RunSettings, json.loads(json.dumps(to_plain(settings))))


def test_settings_are_equal_after_json():
    assert through_json(SETTINGS) == SETTINGS
    assert through_json(SETTINGS).posterior_options["solver"]["options"]["safety"] == (0.9,)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_json(name):
    preset = PRESETS[name]
    for data in preset.data:
        for posterior in preset.posteriors:
            settings = preset.settings(data, posterior, seed=1)
            assert through_json(settings) == settings


def test_absent_fields_take_defaults():
    assert from_plain(RunSettings, {"data": "omniglot", "posterior": "none"}) == RunSettings("omniglot", "none")


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"data": "omniglot"}, "all of its required fields.*posterior"),
        ({"data": "omniglot", "posterior": "none", "latents": 3}, "got latents. Was it written by another version"),
        ({"data": "omniglot", "posterior": "none", "network": {"depth": 3}}, "NetworkSettings.*got depth"),
        ({"data": "omniglot", "posterior": "none", "network": [3]}, r"NetworkSettings: expected a mapping.*\[3\]"),
        ([], "RunSettings: expected a mapping"),
    ],
)
def test_damaged_settings_are_refused(plain, message):
    with pytest.raises(InvalidInputError, match=message):
        from_plain(RunSettings, plain)


def test_differences_name_both_values():
    other = replace(SETTINGS, latent_dim=64, posterior_options={}, training=replace(SETTINGS.training, batch_size=10))
    assert differences(SETTINGS, other) == {
        "posterior_options.hidden_dims": ([128, 64], None),
        "posterior_options.solver.rtol": (1e-3, None),
        "posterior_options.solver.options.safety": ([0.9], None),
        "latent_dim": (8, 64),
        "training.batch_size": (100, 10),
    }
    assert differences(SETTINGS, through_json(SETTINGS)) == {}


def test_changes_are_made_by_dotted_name():
    changed = with_changes(
        SETTINGS,
        {
            "training.max_epochs": 7,
            "network.kind": "conv",
            "variance_bounds": None,
            "posterior_options.activation": "tanh",
        },
    )
    assert changed.training == replace(SETTINGS.training, max_epochs=7)
    assert changed.network.kind == "conv"
    assert changed.variance_bounds is None
    assert changed.posterior_options == {**SETTINGS.posterior_options, "activation": "tanh"}
    assert with_changes(SETTINGS, {"posterior_options.solver.rtol": 0.1}).posterior_options["solver"]["rtol"] == 0.1
    fresh = replace(SETTINGS, posterior_options={})
    assert with_changes(fresh, {"posterior_options.solver.rtol": 0.1}).posterior_options == {"solver": {"rtol": 0.1}}


@pytest.mark.parametrize("name", ["latent_dims", "training.epochs", "latent_dim.size", "nothing.at.all"])
def test_an_unknown_setting_is_named_with_its_neighbours(name):
    with pytest.raises(UnknownNameError, match=r"setting: expected one of .*latent_dim.*got"):
        with_changes(SETTINGS, {name: 3})


def test_options_do_not_outlive_what_they_belong_to():
    assert with_changes(SETTINGS, {"posterior": "iaf"}).posterior_options == {}
    assert with_changes(SETTINGS, {"posterior": "ffjord"}) == SETTINGS
    options = {"iaf": {"num_layers": 2}, "ffjord": {"rank": 3}, "planar": {"num_layers": 1}}
    assert with_changes(SETTINGS, {"posterior": "iaf"}, options).posterior_options == {"num_layers": 2}
    assert with_changes(SETTINGS, {}, options).posterior_options == {**SETTINGS.posterior_options, "rank": 3}
    heavy = with_changes(SETTINGS, {"likelihood": "student-t", "likelihood_options.degrees_of_freedom": 3.0})
    assert heavy.likelihood_options == {"degrees_of_freedom": 3.0}
    assert with_changes(heavy, {"likelihood": None}).likelihood_options == {}


def test_values_are_checked_by_their_record():
    with pytest.raises(InvalidInputError, match="max_epochs"):
        with_changes(SETTINGS, {"training.max_epochs": -1})
