from __future__ import annotations

import csv
import errno
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning_fabric.loggers import CSVLogger
from lightning_fabric.loggers import TensorBoardLogger as LightningTensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from vae_flows.errors import FileError, InvalidInputError, MissingPackageError, UnknownNameError
from vae_flows.training import TrainingResult, TrainingSettings
from vae_flows.training.logs import RunLogs
from vae_flows.training.records import EpochRecord
from vae_flows.vae import VAE

MakeVAE = Callable[..., VAE]
Fit = Callable[..., TrainingResult]


def record(epoch: int, value: float) -> EpochRecord:
    return EpochRecord(epoch, 0.5, value, 1.0, value, None, None, 10.0, 0.1)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def events(folder: Path, name: str) -> list[tuple[int, float]]:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(name)]


def open_logs(folder: Path, epochs_done: int, *others: Any) -> RunLogs:
    return RunLogs(folder, epochs_done, ("csv", "tensorboard"), others)


def test_the_table_has_a_row_for_each_epoch(tmp_path: Path):
    history = [record(1, 3.0), record(2, 2.0)]
    with open_logs(tmp_path, 0) as logs:
        logs.write(history[:1])
        assert len(rows(tmp_path)) == 1
        logs.write(history)
    expected = [{name: "" if value is None else str(value) for name, value in asdict(r).items()} for r in history]
    assert rows(tmp_path) == expected
    assert events(tmp_path, "validation/negative_elbo") == [(1, 3.0), (2, 2.0)]


def test_a_run_that_goes_on_neither_loses_nor_repeats_epochs(tmp_path: Path):
    with open_logs(tmp_path, 0) as logs:
        for epoch in (1, 2, 3):
            logs.write([record(number, float(number)) for number in range(1, epoch + 1)])
    # Epoch 3 was logged, but the interruption came before its checkpoint.
    with open_logs(tmp_path, 2) as logs:
        for epoch in (3, 4):
            logs.write([record(number, 10.0 * number) for number in range(1, epoch + 1)])
    assert [row["epoch"] for row in rows(tmp_path)] == ["1", "2", "3", "4"]
    assert events(tmp_path, "train/negative_elbo") == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0)]


def test_a_folder_that_takes_no_events_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"file/run: expected a folder that TensorBoard's events can be written to"):
        open_logs(tmp_path / "file" / "run", 0)

    def full(writer: SummaryWriter) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with open_logs(tmp_path, 0) as logs, monkeypatch.context() as patch:
        patch.setattr(SummaryWriter, "flush", full)
        with pytest.raises(FileError, match=r"events can be written to, got .*No space.* Free some space"):
            logs.write([record(1, 3.0)])


class Memory:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.metrics: list[tuple[int | None, dict[str, float]]] = []
        self.parameters: list[dict[str, Any]] = []
        self.ended = False

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.metrics.append((step, metrics))

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        self.parameters.append(params)

    def finalize(self, status: str) -> None:
        self.ended = True


def test_a_logger_is_told_hyper_parameters_and_each_epoch_by_grouped_tags(make_vae: MakeVAE, fit: Fit, tmp_path: Path):
    memory = Memory()
    result = fit(make_vae(), folder=tmp_path, max_epochs=3, optimizer="AdamW", loggers_beside=[memory])
    assert [step for step, _ in memory.metrics] == [1, 2, 3]
    assert all(tag.startswith(("train/", "validation/")) for _, metrics in memory.metrics for tag in metrics)
    told = [metrics["validation/negative_elbo"] for _, metrics in memory.metrics]
    assert told == [record.validation_negative_elbo for record in result.history]
    (parameters,) = memory.parameters
    assert (parameters["optimizer"], parameters["max_epochs"], parameters["posterior"]) == ("AdamW", 3, "planar")
    assert parameters["model.posterior.num_layers"] == 4
    assert not memory.ended
    # A run that goes on has told its hyper-parameters already.
    fit(make_vae(), folder=tmp_path, max_epochs=4, optimizer="AdamW", loggers_beside=[memory], resume=True)
    assert [step for step, _ in memory.metrics] == [1, 2, 3, 4]
    assert len(memory.parameters) == 1


def test_loggers_change_no_number(make_vae: MakeVAE, fit: Fit, tmp_path: Path):
    expected = fit(make_vae())
    assert fit(make_vae(), folder=tmp_path / "logged", loggers_beside=[Memory()]) == expected
    assert fit(make_vae(), folder=tmp_path / "bare", loggers=()) == expected
    assert {file.name for file in (tmp_path / "bare").iterdir()} == {
        "last.ckpt",
        "config.json",
        "model.safetensors",
        "training.json",
    }
    memory = Memory()
    fit(make_vae(), loggers_beside=[memory])
    assert len(memory.metrics) == 5


def test_a_run_may_go_on_with_other_loggers(make_vae: MakeVAE, fit: Fit, tmp_path: Path):
    fit(make_vae(), folder=tmp_path, max_epochs=2, loggers=())
    assert fit(make_vae(), folder=tmp_path, resume=True, loggers=("csv",)) == fit(make_vae())
    assert len(rows(tmp_path)) == 5


@pytest.mark.parametrize("kind", [CSVLogger, LightningTensorBoardLogger])
def test_loggers_of_lightning_are_loggers(make_vae: MakeVAE, fit: Fit, tmp_path: Path, kind: Any):
    logger = kind(root_dir=tmp_path)
    fit(make_vae(), max_epochs=2, loggers_beside=[logger])
    if kind is CSVLogger:
        logger.save()
        with (Path(logger.log_dir) / "metrics.csv").open() as file:
            assert [row["step"] for row in csv.DictReader(file)] == ["1", "2"]
    else:
        logger.finalize("success")
        assert [step for step, _ in events(Path(logger.log_dir), "train/kl")] == [1, 2]


def test_tensorboard_has_hyper_parameters_test_and_pictures(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 4, 5), dtype=np.uint8)  # noqa: TID251 - any pixels
    with open_logs(tmp_path, 0) as logs:
        logs.begin({"seed": 0, "options": {"rank": 2}, "folder": None})
        logs.write([record(1, 3.0)])
    with open_logs(tmp_path, 1) as logs:
        logs.write_test({"negative_elbo": 2.5, "negative_log_likelihood": None}, 1)
        logs.write_images({"originals": images, "samples": images}, 1)
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    tags = accumulator.Tags()
    assert {"train/kl", "validation/negative_elbo", "test/negative_elbo"} <= set(tags["scalars"])
    assert "test/negative_log_likelihood" not in tags["scalars"]
    assert set(tags["images"]) == {"samples/originals", "samples/samples"}
    picture = accumulator.Images("samples/originals")[0]
    assert (picture.height, picture.width) == (4, 15)
    assert "_hparams_/experiment" in accumulator.summary_metadata


@pytest.mark.parametrize("name", ["tensorbord", "", None, 3])
def test_an_unknown_logger_is_refused(name: Any):
    with pytest.raises(UnknownNameError, match="logger: expected one of csv, mlflow, tensorboard, wandb, got"):
        TrainingSettings(loggers=(name,))


@pytest.mark.parametrize("names", ["csv", None, 3, ("csv", "csv")])
def test_names_of_loggers_are_a_sequence(names: Any):
    with pytest.raises(InvalidInputError, match="TrainingSettings loggers: expected a sequence of different names"):
        TrainingSettings(loggers=names)


@pytest.mark.parametrize("wrong", [3, "csv", [3], ["wandb"], [Memory], [print]])
def test_what_is_no_logger_is_refused(make_vae: MakeVAE, fit: Fit, wrong: Any):
    with pytest.raises(
        InvalidInputError, match=r"loggers? .*of train: expected (an object with|a sequence of loggers)"
    ):
        fit(make_vae(), loggers_beside=wrong)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_whose_package_is_missing_is_told_with_the_line_to_type(
    make_vae: MakeVAE, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    with pytest.raises(MissingPackageError, match=rf"package {name}: .*Try: pip install 'vae-flows\[{name}\]'"):
        fit(make_vae(), folder=tmp_path, loggers=(name,))
