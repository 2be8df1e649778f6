"""Settings go to files and come back, whole or in part, and flags beside them win."""

from __future__ import annotations

import json

import pytest

from experiments.cli import main
from vae_flows.benchmark.grid import grid_settings
from vae_flows.benchmark.presets import PRESETS
from vae_flows.errors import DataError, InvalidInputError
from vae_flows.runs.folder import prepare
from vae_flows.runs.settings import NetworkSettings, RunSettings, to_settings_json
from vae_flows.runs.settings_files import read_settings, settings_text

SMOKE = PRESETS["smoke"]


def printed(capsys, *arguments: str) -> str:
    assert main([*arguments, "--print-settings"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("posterior", ["ffjord", "planar"])
def test_what_is_printed_is_taken_back_unchanged(preset, posterior, capsys, no_colour):
    flags = [
        "--seed",
        "5",
        "--training.max-epochs",
        "9",
        f"--{posterior}.{'rank' if posterior == 'ffjord' else 'num-layers'}",
        "3",
    ]
    first = printed(capsys, "train", "--preset", preset, "--posterior", posterior, "--data", "frey-faces", *flags)
    (no_colour / "mine.json").write_text(first)
    assert printed(capsys, "train", "--settings", "mine.json") == first
    assert printed(capsys, "benchmark", "--settings", "mine.json") == first


def test_a_grid_is_taken_back_unchanged_and_extended(capsys, no_colour):
    arguments = [
        "--preset",
        "smoke",
        "--posteriors",
        "planar",
        "ffjord",
        "--seeds",
        "0",
        "1",
        "--planar.num-layers",
        "2",
    ]
    first = printed(capsys, "benchmark", *arguments)
    (no_colour / "grid.json").write_text(first)
    assert printed(capsys, "benchmark", "--settings", "grid.json") == first
    changed = json.loads(printed(capsys, "benchmark", "--settings", "grid.json", "--latent-dim", "3"))
    assert changed == [{**run, "latent_dim": 3} for run in json.loads(first)]
    assert main(["train", "--settings", "grid.json"]) == 1
    assert "grid.json: expected the settings of one run, got those of 4." in capsys.readouterr().err
    assert main(["benchmark", "--settings", "grid.json", "--posteriors", "planar"]) == 1
    assert "expected one run for each data set, posterior and seed, got two that differ" in capsys.readouterr().err


def test_flags_win_over_a_file(capsys, no_colour):
    settings = SMOKE.settings("caltech101-silhouettes", "ffjord", 4)
    (no_colour / "mine.json").write_text(settings_text([settings]))
    flags = ["--latent-dim", "9", "--ffjord.num-blocks", "2", "--seed", "7"]
    found = json.loads(printed(capsys, "train", "--settings", "mine.json", *flags))
    expected = to_settings_json(settings)
    expected |= {"latent_dim": 9, "posterior_options": {**expected["posterior_options"], "num_blocks": 2}}
    expected["training"]["seed"] = 7
    assert found == expected
    other = json.loads(printed(capsys, "train", "--settings", "mine.json", "--posterior", "planar"))
    assert (other["posterior"], other["posterior_options"], other["latent_dim"]) == ("planar", {}, 4)


def test_the_folder_of_a_run_is_a_file_of_settings(capsys, tmp_path, no_colour):
    settings = SMOKE.settings("caltech101-silhouettes", "iaf", 2)
    prepare(tmp_path / "run", settings)
    assert read_settings(tmp_path / "run") == (settings,)
    assert printed(capsys, "train", "--settings", str(tmp_path / "run")) == settings_text([settings])


def test_toml_is_read_and_absent_fields_take_their_defaults(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'posterior = "ffjord"\n[posterior_options]\nrank = 8\n[network]\nkind = "mlp"\nhidden_dims = [30]\n'
    )
    expected = RunSettings("omniglot", "ffjord", {"rank": 8}, network=NetworkSettings("mlp", (30,)))
    assert read_settings(path, {"data": "omniglot"}) == (expected,)
    with pytest.raises(InvalidInputError, match=r"mine.toml: RunSettings: .*'data'"):
        read_settings(path)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("a.toml", "x = ", DataError, "a.toml: expected a TOML file"),
        ("a.json", "{", DataError, "a.json: expected a JSON file"),
        ("a.json", "[]", InvalidInputError, "a.json: .*an empty list"),
        ("a.json", "[3]", InvalidInputError, "a.json: RunSettings: expected a mapping"),
        ("a.toml", 'data = "x"\nposterior = "y"\nlatents = 3', InvalidInputError, "a.toml: RunSettings: .*latents"),
    ],
)
def test_damaged_files_are_told_with_their_names(name, content, error, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(error, match=message):
        read_settings(tmp_path / name)


def test_a_grid_from_settings_varies_what_is_named():
    base = SMOKE.settings("caltech101-silhouettes", "ffjord", 4)
    assert grid_settings([base]) == (base,)
    runs = grid_settings([base], posteriors=["ffjord", "planar"], seeds=[4, 5])
    assert [(run.posterior, run.seed, run.posterior_options) for run in runs] == [
        ("ffjord", 4, base.posterior_options),
        ("ffjord", 5, base.posterior_options),
        ("planar", 4, {}),
        ("planar", 5, {}),
    ]
