"""Files that are replaced together are all new or all old, wherever a process is killed meanwhile."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from vae_flows.errors import FileError
from vae_flows.persistence.batches import complete_batch, write_batch

OLD = {"last.ckpt": b"epoch 1", "best.ckpt": b"epoch 1"}
NEW = {"best.ckpt": b"epoch 2", "last.ckpt": b"epoch 2", "metrics.json": b"{}"}


class Killed(BaseException):
    """Ends the process, as far as the files show."""


def read(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def calls_of(monkeypatch, fail_at: int) -> list[str]:
    """Let the call of that number to what changes the folder be the last."""
    calls: list[str] = []
    for module, name in ((os, "replace"), (os, "fsync"), (os, "rmdir"), (shutil, "rmtree"), (Path, "mkdir")):
        real = getattr(module, name)

        def counted(*arguments, real=real, name=name, **options):
            calls.append(name)
            if len(calls) == fail_at:
                raise Killed
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, counted)
    return calls


def test_a_process_that_is_killed_anywhere_leaves_all_or_none(tmp_path):
    seen = []
    for fail_at in range(1, 100):
        folder = tmp_path / str(fail_at)
        write_batch(folder, OLD)
        with pytest.MonkeyPatch.context() as patch:
            calls = calls_of(patch, fail_at)
            with contextlib.suppress(Killed):
                write_batch(folder, NEW)
        if len(calls) < fail_at:
            break
        complete_batch(folder)
        assert read(folder) in (OLD, OLD | NEW), calls
        seen.append(read(folder) == OLD)
    assert len(calls) > 8
    assert seen == sorted(seen, reverse=True)  # old ones, up to one moment
    assert set(seen) == {True, False}


def test_the_next_batch_finishes_the_last_one(tmp_path):
    write_batch(tmp_path, OLD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", lambda source, target: shutil.move(source, target) and refuse(target))
        with pytest.raises(Killed):
            write_batch(tmp_path, NEW)
    write_batch(tmp_path, {"log.txt": b"more"})
    assert read(tmp_path) == OLD | NEW | {"log.txt": b"more"}


def refuse(target) -> None:
    if Path(target).name == ".arrived":
        raise Killed


def test_a_disk_that_is_full_leaves_the_old_files(tmp_path, monkeypatch):
    write_batch(tmp_path, OLD)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left"):
        write_batch(tmp_path, NEW)
    monkeypatch.undo()
    complete_batch(tmp_path)
    assert read(tmp_path) == OLD
