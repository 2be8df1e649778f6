from __future__ import annotations

import errno
import os
import pickle
import signal
import stat
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vae_flows.errors import FileError, FolderInUseError, InvalidInputError, VAEFlowsError
from vae_flows.persistence.files import checked_path, exclusive, file_errors, read_file, sweep, written_whole

FORKS = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")  # of newer Pythons

HOLDER = """
import sys, time
from pathlib import Path
from vae_flows.persistence.files import exclusive, written_whole

folder = Path(sys.argv[1])
with exclusive(folder), written_whole(folder / "file") as file:
    file.write(b"half")
    file.flush()
    print("at work", flush=True)
    time.sleep(600)
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def write(path: Path) -> None:
    with written_whole(path) as file:
        file.write(b"new")


@contextmanager
def at_work(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that holds a folder, and is halfway through a file there; it is killed at the end."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "at work\n"
            yield process
        finally:
            process.kill()


def test_a_file_appears_when_it_is_whole(tmp_path: Path):
    with written_whole(tmp_path / "new" / "file") as file:
        file.write(b"half")
        assert "file" not in contents(tmp_path / "new")
        file.write(b" and half")
    assert contents(tmp_path / "new") == {"file": b"half and half"}


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail():
        with written_whole(path) as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert contents(tmp_path) == {"file": b"old"}


@pytest.mark.parametrize("operation", ["replace", "fsync"])
def test_a_failure_of_the_system_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, operation, refuse)
    with pytest.raises(FileError, match=r"file: expected a file that can be written, got .*No space.* Free some space"):
        write(path)
    assert contents(tmp_path) == {"file": b"old"}


def test_permissions_are_those_of_any_new_file(tmp_path: Path):
    (tmp_path / "plain").write_bytes(b"")
    with written_whole(tmp_path / "whole"):
        pass
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "whole")}
    assert len(modes) == 1


def under_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "new"


def under_a_dangling_link(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "nowhere")
    return folder / "link" / "new"


def under_a_circle_of_links(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "link")
    return folder / "link" / "new"


def in_place_of_a_folder(folder: Path) -> Path:
    (folder / "new" / "inside").mkdir(parents=True)
    return folder / "new"


def with_a_long_name(folder: Path) -> Path:
    return folder / ("n" * 300)


def in_the_systems_folder(folder: Path) -> Path:
    return Path("/proc/new")


PLACES = [
    under_a_file,
    under_a_dangling_link,
    under_a_circle_of_links,
    in_place_of_a_folder,
    with_a_long_name,
    in_the_systems_folder,
]


@pytest.mark.parametrize("place", PLACES)
def test_errors_of_the_system_are_told_in_one_line(tmp_path: Path, place: Callable[[Path], Path]):
    path = place(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileError) as caught:
        write(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: expected a file that can be written, got an error (")
    assert message.endswith(".")
    assert "\n" not in message
    assert isinstance(caught.value, VAEFlowsError)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno is not None
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_told(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match=r"Permission denied.* change its permissions"):
        write(tmp_path / "file")


def test_a_name_that_cannot_be_printed_stays_in_one_line(tmp_path: Path):
    with pytest.raises(FileError) as caught:
        write(under_a_file(tmp_path) / "two\nlines")
    assert "\n" not in str(caught.value)


def test_errors_of_other_kinds_pass(tmp_path: Path):
    with pytest.raises(ValueError, match="other"), file_errors(tmp_path, "anything"):
        raise ValueError("other")


def test_a_file_error_survives_pickling(tmp_path: Path):
    with pytest.raises(FileError) as caught:
        write(under_a_file(tmp_path))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), copy.errno) == (FileError, str(caught.value), caught.value.errno)


@pytest.mark.parametrize("value", ["", None, 3, b"bytes", "nul\0", ["folder"]])
def test_what_is_no_path_is_refused(value: object):
    with pytest.raises(InvalidInputError, match="folder: expected a path, got"):
        checked_path(value, "folder")  # pyright: ignore[reportArgumentType]


def test_only_regular_files_of_a_size_are_read(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    (tmp_path / "link").symlink_to(path)
    assert read_file(tmp_path / "link", limit=5) == b"12345"
    with pytest.raises(FileError, match="expected at most 4 bytes, got 5"):
        read_file(path, limit=4)
    os.mkfifo(tmp_path / "pipe")
    for other in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(FileError, match=r"expected a regular file|Is a directory"):
            read_file(other)
    with pytest.raises(FileError, match="No such file") as caught:
        read_file(tmp_path / "absent")
    assert caught.value.errno == errno.ENOENT


def test_a_folder_is_locked_until_its_process_ends(tmp_path: Path):
    with (
        at_work(tmp_path),
        pytest.raises(FolderInUseError, match="another process works in"),
        exclusive(tmp_path),
    ):
        pass
    with exclusive(tmp_path):
        pass


def test_a_folder_is_waited_for_on_request(tmp_path: Path):
    with at_work(tmp_path) as other:
        threading.Timer(0.3, other.send_signal, [signal.SIGKILL]).start()
        with exclusive(tmp_path, wait=60.0):
            assert other.wait(60) == -signal.SIGKILL


def test_a_thread_enters_its_own_folder_again_on_request_and_others_do_not(tmp_path: Path):
    refused: list[str] = []

    def enter() -> None:
        try:
            with exclusive(tmp_path):
                pass
        except FolderInUseError as error:
            refused.append(str(error))

    (tmp_path.parent / "link").symlink_to(tmp_path)
    with exclusive(tmp_path), exclusive(tmp_path.parent / "link", again=True):
        enter()
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert len(refused) == 2
    assert contents(tmp_path) == {}
    enter()
    assert len(refused) == 2


@FORKS
def test_a_fork_does_not_inherit_a_lock(tmp_path: Path):
    with exclusive(tmp_path):
        child = os.fork()
        if not child:  # pragma: no cover
            try:
                with exclusive(tmp_path):
                    os._exit(1)
            except FolderInUseError:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path):
    target = tmp_path / "precious"
    target.write_bytes(b"content")
    for points_to in (target, tmp_path / "absent"):
        (tmp_path / ".lock").symlink_to(points_to)
        with pytest.raises(FileError, match=r"\.lock: expected a lock of this library.* Replace the link"):
            exclusive(tmp_path).__enter__()
        (tmp_path / ".lock").unlink()
    assert contents(tmp_path) == {"precious": b"content"}


def test_a_lock_left_by_a_killed_process_is_kept_as_it_is_or_taken(tmp_path: Path):
    (tmp_path / ".lock").write_bytes(b"left")
    with exclusive(tmp_path):
        assert contents(tmp_path) == {".lock": b"left"}
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_is_removed_while_it_is_in_use_is_noticed(tmp_path: Path, replaced: bool):
    folder = tmp_path / "folder"
    with exclusive(folder) as lock:
        lock.require()
        (folder / ".lock").unlink()
        folder.rmdir()
        if replaced:
            folder.mkdir()
            (folder / ".lock").touch()
        with pytest.raises(FileError, match=r"folder: expected the folder as it was, got one that was removed"):
            lock.require()
    assert folder.exists() is replaced


def test_what_killed_writers_left_is_swept(tmp_path: Path):
    def temporaries() -> list[str]:
        return [name for name in contents(tmp_path) if name.startswith(".file.")]

    kept = [".hidden", ".other.0123", "file." + uuid.uuid4().hex]
    for name in kept:
        (tmp_path / name).touch()
    with at_work(tmp_path):
        assert len(temporaries()) == 1
        sweep(tmp_path)
        assert len(temporaries()) == 1  # its writer lives
    (tmp_path / f".last.ckpt.{uuid.uuid4().hex}").symlink_to(tmp_path / ".hidden")
    links = [name for name in contents(tmp_path) if name.startswith(".last")]
    assert len(temporaries()) == 1
    sweep(tmp_path)
    assert contents(tmp_path).keys() == {*kept, *links, ".lock"}


def test_a_sweep_leaves_writers_of_this_process_alone(tmp_path: Path):
    with written_whole(tmp_path / "file") as file:
        sweep(tmp_path)
        file.write(b"whole")
    assert contents(tmp_path) == {"file": b"whole"}
