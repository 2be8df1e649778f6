"""What the processes of a Ray cluster do for a grid: a task attends to a run, and an actor keeps the folders of runs.

Nodes get this module by value, and it imports neither PyTorch nor, before a folder has to be kept, the library: a task
only starts the process that works on its run, and waits for it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from filelock import lock_descriptor

from vae_flows.benchmark.process import ParentPipe, RunProcess, run_environment

__all__ = ["FolderKeeper", "Identity", "RunTask", "attend", "identify"]

POLL_SECONDS = 0.05
BRING_SECONDS = 1.0
"""Least pause between two times that a run's files are brought back."""
BRING_SHARE = 20
"""That pause in times of what bringing them takes: a node spends no more than a twentieth of its time on it."""
TRIES = 50
"""How often files are read again that changed meanwhile."""
EVENTS = "events."
"""How the names of TensorBoard's files begin."""
SCRATCH, OWNER = "vae-flows-", ".owner"


class Identity(NamedTuple):
    """What tells a file from all others, on every machine that sees it on storage that they share."""

    inode: int
    size: int
    changed: int


@dataclass(frozen=True)
class RunTask:
    """A run as its node sees it.

    Arguments:
        folder: Its folder on the machine of the driver, which nodes may share.
        identity: Of its settings there, by which a node that shares it knows it; `None` to have the files brought back
            in any case.
        settings: Name of the file of its settings.
        log: Name of the file that takes what it prints.
        result: Name of the file with which it is finished.
        command: Arguments of Python that work on a run.
        root: Folder that holds the package, where it is not installed.
        working_folder: Where the driver works, to which paths of data may be relative.
        threads: Threads of the run.
        in_use: Exit status of a run whose folder another process works in.
    """

    folder: str
    identity: Identity | None
    settings: str
    log: str
    result: str
    command: tuple[str, ...]
    root: str
    working_folder: str
    threads: int
    in_use: int


def identify(path: str) -> Identity | None:
    """Return what tells this file from others; `None` where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return Identity(status.st_ino, status.st_size, status.st_mtime_ns)


def attend(task: RunTask, keeper: Any) -> int:
    """Work on a run, in its own folder or in one of this node whose files are brought back, and return its exit status.

    Arguments:
        task: The run.
        keeper: A handle of the `FolderKeeper`.
    """
    if task.identity is not None and identify(os.path.join(task.folder, task.settings)) == task.identity:
        _answer(keeper.tell_begun.remote(task.folder))
        if os.path.exists(os.path.join(task.folder, task.result)):  # by an attempt that could not say so any more
            return 0
        process = _start(task, task.folder)
        while (code := process.poll()) is None:
            time.sleep(POLL_SECONDS)
        return code
    lent = _answer(keeper.lend.remote(task.folder))
    if lent is None:
        return task.in_use
    attempt, files = lent
    if task.result in files:
        return 0
    with _scratch() as folder:
        for name, content in files.items():
            with open(os.path.join(folder, name), "wb") as file:
                file.write(content)
        return _attend_away(task, folder, attempt, keeper)


def _answer(call: Any) -> Any:
    """Wait for what an actor answers.

    Not by `ray.get`: Ray takes the task for idle then, and begins another on its processors.
    """
    return call.future().result()


def _attend_away(task: RunTask, folder: str, attempt: int, keeper: Any) -> int:
    """Work on a run in a folder of this node, bringing back the files that change."""
    brought = _identities(folder)
    process = _start(task, folder)
    try:
        due = time.monotonic() + BRING_SECONDS
        while True:
            code = process.poll()  # before the files are read, which then are the last ones
            if code is not None or time.monotonic() >= due:
                start = time.monotonic()
                found = _read_changed(folder, brought, (task.log, EVENTS), to_the_end=code is not None)
                if found is not None:
                    names, contents = found
                    if contents and not _answer(keeper.bring.remote(task.folder, attempt, contents)):
                        return task.in_use  # another node has the run now
                    brought = names
                if code is not None:
                    return code
                due = time.monotonic() + max(BRING_SECONDS, BRING_SHARE * (time.monotonic() - start))
            time.sleep(POLL_SECONDS)
    finally:
        process.stop()


def _start(task: RunTask, folder: str) -> RunProcess:
    working_folder = task.working_folder if os.path.isdir(task.working_folder) else None
    command = [sys.executable, *task.command, folder]
    environment = run_environment(task.root, task.threads)
    return RunProcess(command, os.path.join(folder, task.log), environment, ParentPipe(), working_folder)


def _identities(folder: str) -> dict[str, Identity]:
    """Return the files that a run has left, in the order of their changes, but none that are hidden."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file()]
    found = {name: identity for name in names if (identity := identify(os.path.join(folder, name)))}
    return dict(sorted(found.items(), key=lambda item: item[1].changed))


def _read_changed(
    folder: str, brought: Mapping[str, Identity], appended: tuple[str, ...], *, to_the_end: bool
) -> tuple[dict[str, Identity], dict[str, bytes]] | None:
    """Read the files that have changed, as they were at one moment, at which the run could as well have been killed.

    Arguments:
        folder: The folder.
        brought: The files as they were read last.
        appended: How the names of those begin that grow, which need not be of the same moment; others are replaced.
        to_the_end: Whether nothing changes them any more.

    Returns:
        All files and the contents of those that changed, or `None` where they change faster than they are read.
    """
    tries = 0
    while to_the_end or tries < TRIES:
        tries += 1
        before = _identities(folder)
        contents = {}
        with contextlib.suppress(FileNotFoundError):
            for name, identity in before.items():
                if brought.get(name) != identity:
                    with open(os.path.join(folder, name), "rb") as file:
                        contents[name] = file.read()
            if _without(_identities(folder), appended) == _without(before, appended):
                return before, contents
    return None


def _without(files: Mapping[str, Identity], beginnings: tuple[str, ...]) -> dict[str, Identity]:
    return {name: identity for name, identity in files.items() if not name.startswith(beginnings)}


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    """Make a folder on this node for as long as the block lasts; those that killed tasks have left are removed."""
    parent = tempfile.gettempdir()
    for name in os.listdir(parent):
        if name.startswith(SCRATCH):
            _remove_if_abandoned(os.path.join(parent, name))
    while True:
        folder = tempfile.mkdtemp(prefix=SCRATCH)
        with contextlib.suppress(FileNotFoundError):  # another task took it for abandoned before it was locked
            owner = os.open(os.path.join(folder, OWNER), os.O_RDWR | os.O_CREAT, 0o600)
            if lock_descriptor(owner, blocking=False) and os.path.exists(folder):
                break
            os.close(owner)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(owner)


def _remove_if_abandoned(folder: str) -> None:
    with contextlib.suppress(OSError):  # it is gone, or another user's
        owner = os.open(os.path.join(folder, OWNER), os.O_RDWR)
        try:
            if lock_descriptor(owner, blocking=False):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(owner)


@dataclass
class _Kept:
    """A run's folder that is lent: the number of the latest attempt, and the lock while there is one."""

    mutex: threading.Lock
    attempt: int = 0
    lock: contextlib.ExitStack | None = None


class FolderKeeper:
    """Keeps the folders of runs whose nodes do not share them, on the machine of the driver; it ends with the driver.

    It locks them, so that no other driver's run works in them, and takes files from the latest attempt at a run alone:
    a node that was given up may still be at work.

    Arguments:
        root: Folder that holds the driver's package.
    """

    def __init__(self, root: str) -> None:
        sys.path.insert(0, root)  # of the driver's path, Ray's processes may know less
        self._mutex = threading.Lock()
        self._begun: list[str] = []
        self._kept: dict[str, _Kept] = {}

    def tell_begun(self, folder: str) -> None:
        """Note that a node has taken a run up."""
        with self._mutex:
            self._begun.append(folder)

    def begun(self) -> list[str]:
        """Return the runs that were taken up since this was last asked."""
        with self._mutex:
            begun, self._begun = self._begun, []
        return begun

    def lend(self, folder: str) -> tuple[int, dict[str, bytes]] | None:
        """Return the number of the attempt and the files to begin with, `None` where another driver has it."""
        from vae_flows.errors import FolderInUseError
        from vae_flows.persistence.batches import complete_batch
        from vae_flows.persistence.files import exclusive, sweep
        from vae_flows.runs.folder import FAILURE, LOCK_SECONDS

        path = Path(folder)
        self.tell_begun(folder)
        with self._mutex:
            kept = self._kept.setdefault(folder, _Kept(threading.Lock()))
        with kept.mutex:
            if kept.lock is None:
                lock = contextlib.ExitStack()
                try:
                    lock.enter_context(exclusive(path, wait=LOCK_SECONDS))
                except FolderInUseError:
                    return None
                kept.lock = lock
            kept.attempt += 1
            sweep(path)
            complete_batch(path)
            (path / FAILURE).unlink(missing_ok=True)
            return kept.attempt, {name: (path / name).read_bytes() for name in _identities(folder)}

    def bring(self, folder: str, attempt: int, contents: dict[str, bytes]) -> bool:
        """Put files into a run's folder, all or none, and tell whether this attempt is still the latest."""
        from vae_flows.persistence.batches import write_batch

        kept = self._kept[folder]
        with kept.mutex:
            if kept.lock is None or kept.attempt != attempt:
                return False
            write_batch(Path(folder), contents)
            return True

    def release(self, folder: str) -> None:
        """Leave a run's folder, for which no more files are taken."""
        with self._mutex:
            kept = self._kept.get(folder)
        if kept is None:
            return
        with kept.mutex:
            if kept.lock is not None:
                kept.lock.close()
                kept.lock = None
