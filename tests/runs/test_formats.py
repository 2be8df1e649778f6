"""Run folders say their format: earlier ones are read and continued, later ones refused, and each is a model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.benchmark.presets import PRESETS
from vae_flows.persistence.json_files import read_json, write_json
from vae_flows.persistence.records import to_plain
from vae_flows.runs import RunSettings
from vae_flows.runs.evaluations import evaluate_run
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import METRICS, SCORES, SETTINGS, load_settings, prepare
from vae_flows.runs.settings import FORMAT, with_changes
from vae_flows.runs.settings_files import read_settings
from vae_flows.training import ComputeSettings, TrainingSettings, load_weights, train
from vae_flows.training.checkpoint import load_checkpoint, save_checkpoint

TINY = {"max_images": 60, "training.batch_size": 30, "evaluation.importance_samples": 2, "compute.accelerator": "cpu"}
SHAPE = (1, 4, 4)


def tiny(changes: Mapping[str, object] | None = None) -> RunSettings:
    return with_changes(PRESETS["smoke"].settings("caltech101-silhouettes", "planar", 3), {**TINY, **(changes or {})})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    prepare(folder, tiny())
    execute(folder)
    return folder


def to_first_format(folder: Path, without: tuple[str, ...] = ()) -> None:
    """Lay a folder out as releases did that wrote no format: best weights in best.ckpt, later settings absent."""
    plain = to_plain(load_settings(folder))
    for name in without:
        *outer, last = name.split(".")
        record = plain
        for key in outer:
            record = record[key]
        del record[last]
    write_json(folder / SETTINGS, plain)
    config = read_json(folder / "config.json")
    weights = vf.VAE.from_pretrained(folder).state_dict()
    description = load_checkpoint(folder / "last.ckpt")["run"]
    save_checkpoint(folder / "best.ckpt", {"run": description, "weights": weights, "epoch": config["epoch"]})
    (folder / "config.json").unlink()
    (folder / "model.safetensors").unlink()


def test_settings_say_the_format_and_who_wrote_it(finished: Path) -> None:
    plain = read_json(finished / SETTINGS)
    assert (plain["format"], plain["version"]) == (FORMAT, vf.__version__)
    assert vf.Run(finished).settings == tiny()


@pytest.mark.parametrize("written", [FORMAT + 1, 0, -1, 2.0, "2", None, True, [2]])
def test_a_later_format_is_refused_with_the_release_to_install(finished: Path, tmp_path: Path, written: Any) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    write_json(folder / SETTINGS, read_json(folder / SETTINGS) | {"format": written, "version": "7.8.9"})
    pattern = rf"{SETTINGS}: expected a run of format {FORMAT} or earlier, got .* Install vae-flows 7\.8\.9"
    for use in (
        lambda: vf.Run(folder).settings,
        lambda: vf.compare([folder]),
        lambda: execute(folder),
        lambda: read_settings(folder),
    ):
        with pytest.raises(vf.DataError, match=pattern):
            use()


def test_a_run_of_the_first_format_is_read_compared_and_tested(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    later = ("likelihood", "likelihood_options", "standardize", "label_column", "network.max_parameters")
    to_first_format(folder, without=(*later, "training.ema_decay", "training.objective"))
    run = vf.Run(folder)
    assert run.settings == tiny()
    assert run.status == "finished"
    assert vf.compare([folder, finished]).rows[0][0].text == "planar"
    assert [row[2].text for row in vf.compare([folder, finished]).rows] == ["2"]  # one row: nothing differs
    model, other = run.load_model(), vf.Run(finished).load_model()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    (folder / SCORES).unlink()
    assert run.scores is None  # of folders of that time
    assert evaluate_run(folder, 3).bounds == evaluate_run(finished, 3).bounds


def test_an_unfinished_run_of_the_first_format_goes_on_as_a_saved_model(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    prepare(whole, tiny({"training.max_epochs": 3}))
    prepare(parts, tiny({"training.max_epochs": 2}))
    execute(whole)
    execute(parts)
    (parts / METRICS).unlink()
    write_json(parts / SETTINGS, read_json(whole / SETTINGS))
    to_first_format(parts)
    execute(parts)
    assert not (parts / "best.ckpt").exists()
    resumed, expected = (read_json(folder / METRICS) for folder in (parts, whole))
    assert resumed["best_epoch"] == expected["best_epoch"]
    assert resumed["test"]["negative_elbo"] == expected["test"]["negative_elbo"]
    ours, theirs = (vf.VAE.from_pretrained(folder).state_dict() for folder in (parts, whole))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def make_vae(encoder: nn.Module | None = None) -> vf.VAE:
    reseed(0)
    encoder = encoder or vf.networks.MLPEncoder(SHAPE, (5,), 6)
    decoder = vf.networks.MLPDecoder(2, SHAPE, (5,))
    return vf.VAE(encoder, decoder, vf.AmortizedPosterior(2, 6, "planar"), vf.likelihoods.BernoulliLikelihood())


def fit(vae: vf.VAE, folder: Path, epochs: int = 2, **options: Any) -> None:
    reseed(1)
    settings = TrainingSettings(max_epochs=epochs, batch_size=10, warmup_epochs=1)
    compute = ComputeSettings(accelerator="cpu")
    train(vae, torch.rand(50, *SHAPE), settings, folder=folder, compute=compute, progress=False, **options)


def test_a_folder_is_a_saved_model_while_it_is_trained(tmp_path: Path) -> None:
    seen = []

    class Look:
        def on_epoch_end(self, state: Any) -> None:
            opened = vf.VAE.from_pretrained(tmp_path / "run")
            best = state.best.epoch == state.epoch
            same = all(torch.equal(a, b) for a, b in zip(opened.parameters(), state.model.parameters(), strict=True))
            seen.append((best, same, len(vf.Run(tmp_path / "run").history)))

    fit(make_vae(), tmp_path / "run", callbacks=[Look()])
    assert [number for *_, number in seen] == [1, 2]
    assert all(same for best, same, _ in seen if best)


def test_a_training_in_python_is_a_run(tmp_path: Path) -> None:
    vae = make_vae()
    fit(vae, tmp_path)
    run = vf.Run(tmp_path)
    assert run.status == "unfinished"
    assert run.metrics is None
    assert run.settings.training.max_epochs == 2
    assert (run.settings.posterior, run.settings.seed) == ("planar", 0)
    assert [record.epoch for record in run.history] == [1, 2]
    assert "planar on data" in repr(run)
    model = run.load_model()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), vae.parameters(), strict=True))
    last = run.load_model("last").state_dict()
    weights = load_checkpoint(tmp_path / "last.ckpt")["weights"]
    assert all(torch.equal(tensor, weights[name]) for name, tensor in last.items())
    with pytest.raises(vf.DataError, match=r"data of run .*: expected one that is named"):
        run.load_data()
    assert vf.compare([tmp_path]).rows[0][0].text == "planar"
    fit(make_vae(), tmp_path, epochs=3, resume=True)
    assert vf.Run(tmp_path).settings.training.max_epochs == 3


def test_a_part_of_ones_own_is_passed_when_the_model_is_loaded(tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x.flatten(1))

    vae = make_vae(Own())
    fit(vae, tmp_path)
    run = vf.Run(tmp_path)
    with pytest.raises(vf.CheckpointError, match=r"expected encoder=…"):
        run.load_model()
    model = run.load_model(encoder=Own())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), vae.parameters(), strict=True))
    load_weights(make_vae(Own()), tmp_path)


def test_a_saved_model_is_not_trained_over(tmp_path: Path) -> None:
    make_vae().save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(vf.CheckpointError, match=r"none of an earlier run, got config\.json, model\.safetensors"):
        fit(make_vae(), tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "change", [{"format": 9}, {"format": None}, {"training": 3}, {"data": 1}, {"model": []}, {"x": 1}]
)
def test_a_damaged_description_of_a_training_is_told(tmp_path: Path, change: dict[str, Any]) -> None:
    fit(make_vae(), tmp_path)
    path = tmp_path / "training.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(vf.DataError, match=r"training\.json"):
        _ = vf.Run(tmp_path).settings


def test_a_model_that_cannot_be_saved_is_told_before_it_is_trained(tmp_path: Path) -> None:
    class Own(nn.Module):
        def get_extra_state(self) -> Any:
            return {"not": "a tensor"}

        def set_extra_state(self, state: Any) -> None: ...

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError("it was trained")

    with pytest.raises(vf.InvalidInputError, match="tensors alone"):
        fit(make_vae(Own()), tmp_path)
