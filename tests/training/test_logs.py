from __future__ import annotations

import csv
import errno
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from vae_flows.errors import FileError
from vae_flows.training.logs import RunLogs
from vae_flows.training.records import EpochRecord


def record(epoch: int, value: float) -> EpochRecord:
    return EpochRecord(epoch, 0.5, value, 1.0, value, None, None, 10.0, 0.1)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def events(folder: Path, name: str) -> list[tuple[int, float]]:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(name)]


def test_the_table_has_a_row_for_each_epoch(tmp_path: Path):
    history = [record(1, 3.0), record(2, 2.0)]
    with RunLogs(tmp_path, 0) as logs:
        logs.write(history[:1])
        assert len(rows(tmp_path)) == 1
        logs.write(history)
    expected = [{name: "" if value is None else str(value) for name, value in asdict(r).items()} for r in history]
    assert rows(tmp_path) == expected
    assert events(tmp_path, "validation_negative_elbo") == [(1, 3.0), (2, 2.0)]


def test_a_run_that_goes_on_neither_loses_nor_repeats_epochs(tmp_path: Path):
    with RunLogs(tmp_path, 0) as logs:
        for epoch in (1, 2, 3):
            logs.write([record(number, float(number)) for number in range(1, epoch + 1)])
    # Epoch 3 was logged, but the interruption came before its checkpoint.
    with RunLogs(tmp_path, 2) as logs:
        for epoch in (3, 4):
            logs.write([record(number, 10.0 * number) for number in range(1, epoch + 1)])
    assert [row["epoch"] for row in rows(tmp_path)] == ["1", "2", "3", "4"]
    assert events(tmp_path, "train_negative_elbo") == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0)]


def test_a_folder_that_takes_no_events_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"file/run: expected a folder that TensorBoard's events can be written to"):
        RunLogs(tmp_path / "file" / "run", 0)

    def full(writer: SummaryWriter) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with RunLogs(tmp_path, 0) as logs, monkeypatch.context() as patch:
        patch.setattr(SummaryWriter, "flush", full)
        with pytest.raises(FileError, match=r"events can be written to, got .*No space.* Free some space"):
            logs.write([record(1, 3.0)])
