"""Weights & Biases and MLflow are told the same as TensorBoard: without network, into files that are read back."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import vae_flows as vf
from tests.seeds import numpy_generator
from vae_flows.benchmark.presets import PRESETS
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import prepare
from vae_flows.runs.settings import with_changes
from vae_flows.training import TrainingResult
from vae_flows.vae import VAE

MakeVAE = Callable[..., VAE]
Fit = Callable[..., TrainingResult]

PICTURES = {"samples/originals", "samples/reconstructions", "samples/samples"}
SERVICES = ("wandb", "mlflow")
# SQLAlchemy's and others' own, which mlflow and wandb meet.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


class Told(NamedTuple):
    """What a service knows of one run."""

    parameters: dict[str, Any]
    metrics: dict[str, list[tuple[int, float]]]
    """Steps and values by tag."""
    pictures: set[str]
    ended_well: bool


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    pytest.importorskip("pytorch_lightning", reason=f"needs the extra {request.param}")
    pytest.importorskip(request.param, reason=f"needs the extra {request.param}")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return request.param


def told(service: str, folder: Path) -> list[Told]:
    """Return what a service knows of the runs that were logged in a folder, by their names."""
    return list((_told_wandb if service == "wandb" else _told_mlflow)(folder).values())


def _told_mlflow(folder: Path) -> dict[str, Told]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = {}
    for run in client.search_runs(experiments):
        name = run.info.run_id
        history = {tag: client.get_metric_history(name, tag) for tag in run.data.metrics}
        metrics = {tag: [(point.step, point.value) for point in points] for tag, points in history.items()}
        pictures = {Path(file.path).with_suffix("").as_posix() for file in client.list_artifacts(name, "samples")}
        assert all((folder / "mlflow" / name / "artifacts" / f"{picture}.png").exists() for picture in pictures)
        found[name] = Told(run.data.params, metrics, pictures, run.info.status == "FINISHED")
    return found


def _told_wandb(folder: Path) -> dict[str, Told]:
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # its process has written all then
    found: dict[str, Told] = {}
    for file in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        name = file.stem.removeprefix("run-")
        parameters, metrics, pictures, _ = found.get(name, Told({}, {}, set(), ended_well=False))
        ended_well = False
        for content in _records(file.read_bytes()):
            record = Record.FromString(content)
            for item in record.config.update:
                parameters[item.key or item.nested_key[0]] = json.loads(item.value_json)
            values = {tuple(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            step = values.get(("trainer/global_step",), 0)
            for (tag, *inner), value in values.items():
                if inner == ["filenames"]:
                    assert all((file.parent / "files" / picture).exists() for picture in value)
                    pictures.add(tag)
                elif not inner and not tag.startswith(("_", "trainer/")):
                    metrics.setdefault(tag, []).append((step, value))
            if record.HasField("exit"):
                ended_well = record.exit.exit_code == 0
        found[name] = Told(parameters, metrics, pictures, ended_well)
    return found


def _records(content: bytes) -> Iterator[bytes]:
    """Read a log of LevelDB's format: blocks of 32 KiB, parts of records with checksum, length and kind."""
    place, parts, block = 7, b"", 2**15
    while place + 7 <= len(content):
        if block - place % block < 7:
            place += block - place % block
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def test_parameters_epochs_test_and_pictures_of_a_run_are_logged(service: str, tmp_path: Path):
    np.savez(tmp_path / "grey.npz", images=numpy_generator(0).integers(0, 256, (60, 6, 5), dtype=np.uint8))
    changes = {"training.batch_size": 20, "training.loggers": ("csv", service), "evaluation.importance_samples": 2}
    settings = PRESETS["smoke"].settings(str(tmp_path / "grey.npz"), "planar", 3)
    folder = tmp_path / "run"
    prepare(folder, with_changes(settings, {**changes, "compute.accelerator": "cpu"}))
    execute(folder)
    run = vf.Run(folder)
    metrics = run.metrics
    assert metrics is not None
    (known,) = told(service, folder)
    assert known.ended_well
    assert known.pictures == PICTURES
    expected = {"optimizer": "Adamax", "posterior": "planar", "batch_size": 20, "model.posterior.num_layers": 4}
    assert {name: str(known.parameters[name]) for name in expected} == {k: str(v) for k, v in expected.items()}
    bounds = [(epoch.epoch, epoch.validation_negative_elbo) for epoch in run.history]
    assert known.metrics["validation/negative_elbo"] == [(step, pytest.approx(value)) for step, value in bounds]
    tested = [(metrics.best_epoch, pytest.approx(metrics.test.negative_elbo))]
    assert known.metrics["test/negative_elbo"] == tested
    assert {tag.partition("/")[0] for tag in known.metrics} == {"train", "validation", "test"}


def test_a_run_that_goes_on_is_one_run_and_the_next_another(service: str, make_vae: MakeVAE, fit: Fit, tmp_path: Path):
    for name in ("one", "other"):
        fit(make_vae(), folder=tmp_path / name, max_epochs=2, loggers=(service,))
    fit(make_vae(), folder=tmp_path / "one", max_epochs=4, loggers=(service,), resume=True)
    for name, epochs in (("one", [1, 2, 3, 4]), ("other", [1, 2])):
        (known,) = told(service, tmp_path / name)
        assert [step for step, _ in known.metrics["train/kl"]] == epochs
        assert known.ended_well


def test_a_training_that_fails_is_a_run_that_failed(service: str, make_vae: MakeVAE, fit: Fit, tmp_path: Path):
    class Broken:
        def on_epoch_end(self, state: vf.training.TrainingState) -> None:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fit(make_vae(), folder=tmp_path, loggers=(service,), callbacks=[Broken()])
    (known,) = told(service, tmp_path)
    assert not known.ended_well


def test_a_run_of_the_callers_own_stays_as_it_is(make_vae: MakeVAE, fit: Fit, service: str, tmp_path: Path):
    if service != "wandb":
        pytest.skip("MLflow has no run that is open for a whole process")
    import wandb

    own = wandb.init(project="mine", dir=str(tmp_path))
    fit(make_vae(), folder=tmp_path / "run", max_epochs=1, loggers=("wandb",))
    assert wandb.run is own
    own.log({"after": 1.0})
    own.finish()
    assert told(service, tmp_path)[0].metrics == {"after": [(0, 1.0)]}
    assert set(told(service, tmp_path / "run")[0].metrics) >= {"train/kl", "validation/negative_elbo"}
