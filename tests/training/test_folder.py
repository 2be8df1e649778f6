from __future__ import annotations

import csv
import errno
import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import vae_flows
from vae_flows.data import DataSet
from vae_flows.errors import CheckpointError, FileError, FolderInUseError
from vae_flows.training import ComputeSettings, TrainingResult, load_weights
from vae_flows.training.checkpoint import load_checkpoint, save_checkpoint
from vae_flows.vae import ELBO, VAE

MakeVAE = Callable[..., VAE]
Fit = Callable[..., TrainingResult]
SameWeights = Callable[[VAE, VAE], bool]
WorsenAfter = Callable[[VAE, int], None]
SpoilStep = Callable[[VAE, int, Callable[[ELBO], ELBO]], None]

BATCHES = 3  # of 20, 20 and 10 images


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def interrupt(terms: ELBO) -> ELBO:
    raise KeyboardInterrupt


def test_a_folder_holds_checkpoints_and_logs(make_vae: MakeVAE, fit: Fit, tmp_path: Path):
    vae = make_vae()
    result = fit(vae, folder=tmp_path / "new" / "run")
    folder = tmp_path / "new" / "run"
    names = {file.name for file in folder.iterdir()}
    assert {"last.ckpt", "config.json", "model.safetensors", "metrics.csv", "training.json"} < names
    assert [name for name in names if "events" in name]
    assert not [name for name in names if name.startswith(".")]
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = [str(record.validation_negative_elbo) for record in result.history]
    assert [row["validation_negative_elbo"] for row in rows] == expected


@pytest.mark.parametrize("flow", ["planar", "ffjord"])
@pytest.mark.parametrize("interruption", ["between epochs", "within an epoch"])
def test_a_resumed_run_is_the_uninterrupted_run_bit_for_bit(
    make_vae: MakeVAE,
    fit: Fit,
    same_weights: SameWeights,
    spoil_step: SpoilStep,
    tmp_path: Path,
    flow: str,
    interruption: str,
):
    options = {"hidden_dims": (8,), "rank": 2} if flow == "ffjord" else {}
    whole = make_vae(flow, **options)
    expected = fit(whole, folder=tmp_path / "whole")

    if interruption == "between epochs":
        fit(make_vae(flow, **options), max_epochs=2, folder=tmp_path / "parts")
    else:
        interrupted = make_vae(flow, **options)
        spoil_step(interrupted, 2 * BATCHES + 2, interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(interrupted, folder=tmp_path / "parts")
    torch.rand(11)
    resumed = make_vae(flow, **options)
    torch.nn.init.zeros_(resumed.posterior.gaussian.weight)  # what a fresh model holds does not matter
    result = fit(resumed, folder=tmp_path / "parts", resume=True)

    assert result == expected
    assert same_weights(resumed, whole)
    first, second = (load_checkpoint(tmp_path / part / "last.ckpt") for part in ("whole", "parts"))
    assert all(torch.equal(tensor, second["weights"][name]) for name, tensor in first["weights"].items())
    for number, moments in first["runner"]["optimizer"]["state"].items():
        others = second["runner"]["optimizer"]["state"][number]
        assert all(torch.equal(moment, others[name]) for name, moment in moments.items())


def test_resuming_a_complete_run_returns_its_result(
    make_vae: MakeVAE,
    fit: Fit,
    same_weights: SameWeights,
    spoil_step: SpoilStep,
    worsen_after: WorsenAfter,
    tmp_path: Path,
):
    vae, again = make_vae(), make_vae()
    worsen_after(vae, 3 * BATCHES)
    result = fit(vae, folder=tmp_path)
    assert result.best_epoch <= 3
    before = files(tmp_path)
    spoil_step(again, 1, interrupt)
    repeated = fit(again, folder=tmp_path, resume=True)
    assert repeated == result
    assert repeated.seconds == result.seconds
    assert same_weights(again, vae)
    assert files(tmp_path) == before


def test_resume_starts_a_run_where_there_is_none(make_vae: MakeVAE, fit: Fit, tmp_path: Path):
    assert fit(make_vae(), folder=tmp_path, resume=True) == fit(make_vae())


def test_an_earlier_run_is_not_overwritten(make_vae: MakeVAE, fit: Fit, tmp_path: Path):
    fit(make_vae(), folder=tmp_path)
    before = files(tmp_path)
    with pytest.raises(CheckpointError, match=r"expected none of an earlier run, got last.ckpt, .* Pass resume=True"):
        fit(make_vae(), folder=tmp_path)
    assert files(tmp_path) == before
    (tmp_path / "last.ckpt").unlink()
    with pytest.raises(CheckpointError, match=r"got config.json, model.safetensors. Choose another folder"):
        fit(make_vae(), folder=tmp_path, resume=True)


def test_an_interruption_between_the_two_checkpoints_does_no_harm(
    make_vae: MakeVAE, fit: Fit, same_weights: SameWeights, tmp_path: Path
):
    vae, again = make_vae(), make_vae()
    fit(vae, max_epochs=1, folder=tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"of an earlier epoch")
    fit(again, max_epochs=1, folder=tmp_path, resume=True)
    load_weights(again, tmp_path)
    assert same_weights(vae, again)


def test_a_run_continues_only_as_what_it_was(make_vae: MakeVAE, data: DataSet, fit: Fit, tmp_path: Path):
    fit(make_vae(), folder=tmp_path)
    before = files(tmp_path)

    def refused(pattern: str, vae: VAE, *arguments: DataSet, **changes: Any) -> None:
        with pytest.raises(CheckpointError, match=pattern):
            fit(vae, *arguments, folder=tmp_path, resume=True, **changes)
        assert files(tmp_path) == before

    pattern = r"expected learning_rate = 0.005, seed = 0, got learning_rate = 0.1, seed = 4\."
    refused(pattern, make_vae(), learning_rate=0.1, seed=4)
    refused("max_epochs of the run in .*: expected at least 5, got 3", make_vae(), max_epochs=3)
    fewer = replace(data, train=data.train.take(49))
    refused("expected training images = '50 of .*, got training images = '49 of", make_vae(), fewer)
    refused("expected validation images = '16 of .*, got .* '8 of", make_vae(), replace(data, validation=data.test))
    refused("expected data set = 'arrays', got data set = 'other'", make_vae(), replace(data, name="other"))
    refused("expected posterior = 'planar', got posterior = 'none'", make_vae("none"))
    refused("expected model.posterior.num_layers = 4, got model.posterior.num_layers = 6", make_vae(num_layers=6))
    refused("expected dtype = 'torch.float32', got dtype = 'torch.float64'", make_vae().double())
    compute = ComputeSettings(accelerator="cpu", precision="bf16-mixed")
    refused("expected precision = '32-true', got precision = 'bf16-mixed'", make_vae(), compute=compute)


def test_a_damaged_checkpoint_is_not_continued(make_vae: MakeVAE, fit: Fit, tmp_path: Path):
    fit(make_vae(), folder=tmp_path)
    (tmp_path / "last.ckpt").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"last.ckpt: expected a readable file, got damage"):
        fit(make_vae(), folder=tmp_path, resume=True)


def test_an_older_run_goes_on_and_is_described_in_full(
    make_vae: MakeVAE, fit: Fit, same_weights: SameWeights, tmp_path: Path
):
    whole = make_vae()
    expected = fit(whole, max_epochs=4)
    fit(make_vae(), max_epochs=2, folder=tmp_path)
    content = load_checkpoint(tmp_path / "last.ckpt")
    del content["run"]["model"]
    save_checkpoint(tmp_path / "last.ckpt", content)
    with pytest.raises(CheckpointError, match=r"got of another shape: posterior\.flow"):
        fit(make_vae(num_layers=6), max_epochs=4, folder=tmp_path, resume=True)
    resumed = make_vae()
    assert fit(resumed, max_epochs=4, folder=tmp_path, resume=True) == expected
    assert same_weights(resumed, whole)
    assert load_checkpoint(tmp_path / "last.ckpt")["run"]["model"]["posterior"]["num_layers"] == 4


def test_parameters_without_gradients_do_not_hinder_a_resumed_run(make_vae: MakeVAE, fit: Fit, tmp_path: Path):
    def make() -> VAE:
        vae = make_vae()
        vae.encoder.unused = torch.nn.Parameter(torch.ones(2))
        return vae

    fit(make(), max_epochs=2, folder=tmp_path)
    assert fit(make(), max_epochs=4, folder=tmp_path, resume=True) == fit(make(), max_epochs=4)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_is_removed_during_training_ends_it(
    make_vae: MakeVAE, fit: Fit, spoil_step: SpoilStep, tmp_path: Path, replaced: bool
):
    folder, vae = tmp_path / "run", make_vae()

    def remove(terms: ELBO) -> ELBO:
        shutil.rmtree(folder)
        if replaced:
            folder.mkdir()
        return terms

    spoil_step(vae, BATCHES + 2, remove)
    with pytest.raises(FileError, match=r"run: expected the folder as it was, got one that was removed or replaced"):
        fit(vae, folder=folder)
    assert not folder.exists() or not list(folder.iterdir())


def test_what_a_killed_run_left_is_swept(make_vae: MakeVAE, fit: Fit, tmp_path: Path):
    fit(make_vae(), max_epochs=1, folder=tmp_path)
    for name in ("last.ckpt", "config.json", "metrics.csv"):
        (tmp_path / f".{name}.{uuid.uuid4().hex}").write_bytes(b"half")
    fit(make_vae(), max_epochs=2, folder=tmp_path, resume=True)
    assert not [file.name for file in tmp_path.iterdir() if file.name.startswith(".")]


@pytest.mark.parametrize("kind", ["file", "link", "long", "below a file"])
def test_a_folder_that_cannot_be_is_told_in_one_line(make_vae: MakeVAE, fit: Fit, tmp_path: Path, kind: str):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    name = {"file": "file", "link": "link", "long": "n" * 300, "below a file": "file/run"}[kind]
    with pytest.raises(FileError, match=r"expected a folder that can be written to, got an error \(.*\)\. ") as caught:
        fit(make_vae(), folder=tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("name", ["last.ckpt", "config.json", "training.json", "metrics.csv"])
def test_files_that_cannot_be_written_are_told(
    make_vae: MakeVAE, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    def full(source: Path, target: Path) -> None:
        if target.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace_file(source, target)

    replace_file = os.replace
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FileError, match=rf"{name}: .*No space.* Free some space"):
        fit(make_vae(), folder=tmp_path)
    assert not [file.name for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_a_full_disk_is_told_and_the_run_goes_on_afterwards(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(FULL_DISK)
    command = [sys.executable, str(script), str(tmp_path / "run")]
    environment = os.environ | {"PYTHONPATH": str(Path(vae_flows.__file__).parents[1])}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
import vae_flows as vf
from vae_flows.data import from_arrays
from vae_flows.networks import MLPDecoder, MLPEncoder
from vae_flows.training import ComputeSettings, TrainingSettings, train

torch.manual_seed(0)
images = (torch.rand(60, 8, 8) > 0.5).numpy()
data = from_arrays(images[:40], images[40:50], images[50:])
shape = (1, 8, 8)

def fit():
    torch.manual_seed(1)
    posterior = vf.AmortizedPosterior(2, 6, flow="planar")
    likelihood = vf.likelihoods.BernoulliLikelihood()
    vae = vf.VAE(MLPEncoder(shape, (64,), 6), MLPDecoder(2, shape, (64,)), posterior, likelihood)
    settings, cpu = TrainingSettings(max_epochs=2, batch_size=20), ComputeSettings("cpu")
    return train(vae, data, settings, folder=Path(sys.argv[1]), compute=cpu, resume=True, progress=False)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    fit()
except vf.FileError as error:
    assert "last.ckpt: expected a file that can be written, got an error (File too large)" in str(error), error
    assert len(str(error).splitlines()) == 1
else:
    raise SystemExit("no error")
assert not [file for file in Path(sys.argv[1]).iterdir() if file.name.startswith(".")]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert len(fit().history) == 2
"""


def test_two_runs_do_not_share_a_folder(make_vae: MakeVAE, fit: Fit, spoil_step: SpoilStep, tmp_path: Path):
    vae, errors = make_vae(), []

    def begin_another(terms: ELBO) -> ELBO:
        def begin() -> None:
            try:
                fit(make_vae(), folder=tmp_path, resume=True)
            except FolderInUseError as error:
                errors.append(str(error))

        thread = threading.Thread(target=begin)
        thread.start()
        thread.join()
        return terms

    spoil_step(vae, 2, begin_another)
    fit(vae, folder=tmp_path)
    assert len(errors) == 1
    assert "expected a folder of its own, got one that another process works in" in errors[0]
