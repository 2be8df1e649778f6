"""Files that are whole or absent, folders with one worker at a time, and the system's errors in one line each."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import lock_descriptor

from vae_flows.errors import FileError, FolderInUseError, InvalidInputError, complaint

__all__ = [
    "FolderLock",
    "checked_path",
    "exclusive",
    "file_errors",
    "read_file",
    "sweep",
    "sync_folder",
    "written_whole",
]

LOCK_FILE = ".lock"
_WINDOWS = sys.platform == "win32"
WAIT_SECONDS = 0.05
"""Pause between two tries to lock a folder."""

_ELSEWHERE = "Choose another place, or change its permissions."
_REMEDIES = {
    errno.EACCES: _ELSEWHERE,
    errno.EPERM: _ELSEWHERE,
    errno.EROFS: _ELSEWHERE,
    errno.ENOSPC: "Free some space, or choose another disk.",
    errno.EDQUOT: "Free some space, or choose another disk.",
    errno.EFBIG: "Choose a place where larger files are allowed.",
    errno.EEXIST: "Remove or rename what is in the way, or choose another name.",
    errno.EISDIR: "Remove or rename the folder in the way, or choose another name.",
    errno.ENOTDIR: "Remove or rename the file in the way, or choose another folder.",
    errno.ENOENT: "Check the name: a folder is missing, or a link leads nowhere.",
    errno.ELOOP: "Replace the link by what it stands for.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}", flags=re.DOTALL)


def checked_path(value: str | os.PathLike[str], subject: str) -> Path:
    """Return a path that a user gave.

    Arguments:
        value: The path.
        subject: What it is the path of, for the message.

    Raises:
        InvalidInputError: It is no path, empty, or has characters that no file's name can have.

    Example:
        >>> checked_path("", "folder of a saved model")
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: folder of a saved model: expected a path, got ''.
    """
    try:
        text = os.fspath(value)
        if isinstance(text, str) and text and b"\0" not in os.fsencode(text):
            return Path(text)
    except (TypeError, UnicodeEncodeError):
        pass
    raise InvalidInputError(complaint(subject, "a path", repr(value)))


@contextmanager
def file_errors(path: Path, expected: str) -> Iterator[None]:
    """Turn an error of the system into one line that names the path and what to do.

    Arguments:
        path: What the block works on.
        expected: What it should have been, such as "a file that can be written".

    Raises:
        FileError: The block raised an `OSError`.

    Example:
        >>> with file_errors(Path("/proc/folder"), "a folder that can be made"):
        ...     Path("/proc/folder").mkdir()
        Traceback (most recent call last):
        vae_flows.errors.FileError: /proc/folder: expected a folder that can be made, got an error (No such file or
        directory). Check the name: a folder is missing, or a link leads nowhere.
    """
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        reason = error.strerror or next(iter(str(error).splitlines()), type(error).__name__)
        remedy = _REMEDIES.get(error.errno or 0, "Check the path and its disk.")
        message = complaint(_shown(path), expected, f"an error ({reason})", remedy)
        raise FileError(message, error.errno) from error


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing which appears at `path` when the block ends, and not at all when it fails.

    What appears is on the disk, with its name: it outlives a loss of power. A process that is killed leaves a temporary
    file behind, for `sweep` to remove.

    Raises:
        FileError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with written_whole(folder / "note.txt") as file:
        ...     _ = file.write(b"whole")
        >>> [entry.name for entry in folder.iterdir()]
        ['note.txt']
    """
    with file_errors(path, "a file that can be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, file = _open_temporary(path)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if not _WINDOWS:  # while it is locked, so that no sweep comes between
                    os.replace(temporary, path)
            if _WINDOWS:  # which renames no open file
                os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)


def read_file(path: Path, *, limit: int | None = None) -> bytes:
    """Return what a regular file holds.

    Arguments:
        path: The file, or a link to it.
        limit: Bytes at most.

    Raises:
        FileError: There is none, it cannot be read, is a pipe, a device or a folder, or is larger than the limit.

    Example:
        >>> read_file(Path("/dev/zero"))
        Traceback (most recent call last):
        vae_flows.errors.FileError: /dev/zero: expected a regular file, got a folder, a pipe or a device.
    """
    with file_errors(path, "a file that can be read"):
        # Without O_NONBLOCK a pipe would be waited for.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FileError(complaint(_shown(path), "a regular file", "a folder, a pipe or a device"))
            if limit is not None and status.st_size > limit:
                message = complaint(_shown(path), f"at most {limit:,} bytes", f"{status.st_size:,}")
                raise FileError(message, errno.EFBIG)
            return file.read()


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk, as far as the system can."""
    with suppress(OSError):  # some file systems, and Windows, cannot, and files are whole all the same
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove the temporary files that `written_whole` left in a folder when its process was killed.

    Those of processes that live are locked, and stay.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> left = folder / f".last.ckpt.{uuid.uuid4().hex}"
        >>> left.touch()
        >>> sweep(folder)
        >>> left.exists()
        False
    """
    with file_errors(folder, "a folder that can be read"):
        entries = [entry for entry in os.scandir(folder) if _TEMPORARY.fullmatch(entry.name)]
    for entry in entries:
        if entry.is_file(follow_symlinks=False):
            with suppress(OSError):  # it is gone, another user's, or its writer lives
                _remove_if_abandoned(entry.path)


class FolderLock:
    """A lock on a folder that this thread holds.

    Arguments:
        path: The lock's file.
        descriptor: The open file.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def require(self) -> None:
        """Check that the folder is still the one that was locked.

        Raises:
            FileError: It was removed or replaced meanwhile.
        """
        if not _names(self.path, self._descriptor):
            expected, remedy = "the folder as it was", "Begin again, and leave the folder alone meanwhile."
            got = "one that was removed or replaced while it was in use"
            raise FileError(complaint(_shown(self.path.parent), expected, got, remedy), errno.ENOENT)


_held: dict[tuple[int, int, str], FolderLock] = {}
"""Locks by process, thread and resolved path: a forked process has its own."""


@contextmanager
def exclusive(folder: Path, *, wait: float = 0.0, again: bool = False) -> Iterator[FolderLock]:
    """Keep other processes and threads out of a folder, which is made where it is missing.

    The system lifts the lock when the process ends, in any way.

    Arguments:
        folder: The folder.
        wait: Seconds to wait for another process to leave it.
        again: Whether this thread may hold the folder already.

    Raises:
        FolderInUseError: Another process or thread is at work in the folder.
        FileError: The folder cannot be made or locked.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with exclusive(folder), exclusive(folder, again=True) as lock:
        ...     lock.require()
        >>> list(folder.iterdir())
        []
    """
    with file_errors(folder, "a folder that can be written to"):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder.resolve() / LOCK_FILE
    key = (os.getpid(), threading.get_ident(), str(path))
    if key in _held:
        if not again:
            raise _in_use(folder)
        yield _held[key]
        return
    with file_errors(path, "a lock of this library, which is a file of its own"):
        descriptor = _acquire(path, wait)
    lock = _held[key] = FolderLock(path, descriptor)
    try:
        yield lock
    finally:
        del _held[key]
        with suppress(OSError):
            if _names(path, descriptor):
                path.unlink()
        os.close(descriptor)


def _acquire(path: Path, wait: float) -> int:
    """Return the descriptor of a locked file that bears the name `path`."""
    deadline = time.monotonic() + wait
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    while True:
        descriptor = os.open(path, flags, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EEXIST, "a pipe or device is in the way")
            free = lock_descriptor(descriptor, blocking=False)
            if free and _names(path, descriptor):  # otherwise its last holder has removed it meanwhile
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not free:
            if time.monotonic() >= deadline:
                raise _in_use(path.parent)
            time.sleep(WAIT_SECONDS)


def _in_use(folder: Path) -> FolderInUseError:
    expected, got = "a folder of its own", "one that another process works in"
    return FolderInUseError(complaint(_shown(folder), expected, got, "Wait for it, or end it."), errno.EWOULDBLOCK)


def _open_temporary(path: Path) -> tuple[Path, IO[bytes]]:
    """Open a new file beside `path`, locked so that it is not swept."""
    while True:
        # Not mkstemp, whose files only their owner may read.
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        file = temporary.open("xb")
        try:
            kept = lock_descriptor(file.fileno(), blocking=False) and _names(temporary, file.fileno())
        except OSError:
            kept = True  # the file system has no locks, and nothing is swept
        if kept:
            return temporary, file
        file.close()


def _remove_if_abandoned(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        abandoned = lock_descriptor(descriptor, blocking=False)
        if abandoned and not _WINDOWS:
            os.unlink(path)
    finally:
        os.close(descriptor)
    if abandoned and _WINDOWS:
        os.unlink(path)  # fails where the file is open, as a locked one is


def _names(path: Path, descriptor: int) -> bool:
    """Say whether `path` is the name of the open file."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _shown(path: Path) -> str:
    text = str(path)
    return text if text.isprintable() else repr(text)
