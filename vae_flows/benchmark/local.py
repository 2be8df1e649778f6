"""The engine of this machine: a process for each run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch

from vae_flows.benchmark.engine import RunExit, RunHandle
from vae_flows.benchmark.parent import PIPE
from vae_flows.data.images import is_integer
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.persistence.files import file_errors
from vae_flows.runs.folder import LOG

__all__ = ["IN_USE", "LocalEngine"]

INHERITS_DESCRIPTORS = sys.platform != "win32"
"""Whether workers are given the pipe by which they end with their parent."""
LOG_LINES = 5
GRACE_SECONDS = 2.0
IN_USE = 75
"""Exit status of a cell whose folder another process works in (EX_TEMPFAIL: try again later)."""


class LocalEngine:
    """Runs every cell in a process of its own on this machine, what it prints going to `log.txt` in its folder.

    Arguments:
        workers: Cells at once; `None` for as many as there are GPUs for, or without a GPU as the cores allow.
        threads: Threads of each cell; `None` to share the cores among the workers.
        gpus_each: GPUs that a cell uses where there are any; 0 for cells that use none.

    Raises:
        InvalidInputError: A number is less than one.
    """

    def __init__(self, workers: int | None = None, threads: int | None = None, gpus_each: int = 1) -> None:
        for name, number in (("workers", workers), ("threads", threads)):
            if number is not None and (not is_integer(number) or number < 1):
                raise InvalidInputError(complaint(name, "a positive number", repr(number)))
        cores, groups = _available_cores(), _gpu_groups(gpus_each)
        self.workers = workers or len(groups) or max(1, cores // (threads or 1))
        self.threads = threads or max(1, cores // self.workers)
        self._pipe = _ParentPipe()
        self._slots = [_Slot(groups[index % len(groups)] if groups else None) for index in range(self.workers)]

    def start(self, folder: Path) -> RunHandle:
        """Start a process for the cell, on GPUs that no other cell uses if there are enough of them."""
        slot = next((slot for slot in self._slots if slot.process is None or slot.process.ended), None)
        if slot is None:
            raise InvalidInputError(complaint("cells at once", f"at most {self.workers}", self.workers + 1))
        slot.process = _RunProcess(folder, self._environment(slot.gpus), self._pipe)
        return slot.process

    def _environment(self, gpus: str | None) -> dict[str, str]:
        root = str(Path(__file__).resolve().parents[1])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
        if INHERITS_DESCRIPTORS:
            environment[PIPE] = str(self._pipe.reading)
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self.threads))
        return environment if gpus is None else environment | {"CUDA_VISIBLE_DEVICES": gpus}


@dataclass
class _Slot:
    gpus: str | None
    process: _RunProcess | None = None


class _ParentPipe:
    """Workers hold the reading end, and end when the writing one is closed, which this process alone has."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        weakref.finalize(self, _close, self.reading, writing)


class _RunProcess:
    def __init__(self, folder: Path, environment: dict[str, str], pipe: _ParentPipe) -> None:
        self._folder = folder
        self._pipe = pipe  # which lasts as long as the process is wanted
        command = [sys.executable, "-m", "vae_flows", "run", str(folder)]
        with file_errors(folder / LOG, "a file that can be written"), (folder / LOG).open("ab") as log:
            # A session of its own keeps the terminal's Ctrl-C away: the grid decides how its cells end.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                pass_fds=(pipe.reading,) if INHERITS_DESCRIPTORS else (),
            )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def poll(self) -> RunExit | None:
        code = self._process.poll()
        if code is None:
            return None
        if code in (0, IN_USE):
            return RunExit(in_use=code == IN_USE)
        cause = f"ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        try:
            with (self._folder / LOG).open("rb") as log:
                return RunExit("\n".join([cause, *_last_lines(log)]))
        except OSError as error:
            return RunExit(f"{cause}\nits log cannot be read: {error}")

    def stop(self) -> None:
        self._end(at_once=False)
        deadline = time.monotonic() + GRACE_SECONDS
        while not self.ended and time.monotonic() < deadline:
            time.sleep(0.01)
        self._end(at_once=True)
        self._process.wait()

    def _end(self, *, at_once: bool) -> None:
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):  # with all that it has started
                os.killpg(self._process.pid, signal.SIGKILL if at_once else signal.SIGTERM)
            elif at_once:
                self._process.kill()
            else:
                self._process.terminate()


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _last_lines(log: IO[bytes], count: int = LOG_LINES, reach: int = 8192) -> list[str]:
    """Return the last lines that are not empty, from the last `reach` bytes."""
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - reach))
    lines = log.read().decode(errors="replace").splitlines()
    return [line.rstrip() for line in lines if line.strip()][-count:]


def _gpu_groups(size: int) -> list[str]:
    """Share the GPUs that this process may use out in groups, each a value of `CUDA_VISIBLE_DEVICES`."""
    count = torch.cuda.device_count() if size else 0
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if len(names) < count:
        names = [str(index) for index in range(count)]
    return [",".join(names[start : start + size]) for start in range(0, count - size + 1, size)] if count else []


def _available_cores() -> int:
    """Return the cores that this process may use, fewer than the machine's under a batch system or in a container."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
