"""The engine of this machine: a process for each run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vae_flows.benchmark.engine import RUN, RunExit, RunHandle, check_counts, describe_exit, package_root
from vae_flows.benchmark.process import ParentPipe, RunProcess, run_environment
from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.persistence.files import file_errors
from vae_flows.runs.folder import LOG

__all__ = ["LocalEngine"]


class LocalEngine:
    """Trains every run in a process of its own on this machine, what it prints going to `log.txt` in its folder.

    Arguments:
        workers: Runs at once; `None` for as many as there are GPUs for, or without a GPU as the cores allow.
        threads: Threads of each run; `None` to share the cores among the workers.
        gpus_each: GPUs that a run uses where there are any; 0 for runs that use none.
        command: Arguments of Python that, with a folder after them, work on the run there.

    Raises:
        InvalidInputError: A number is less than one.
    """

    @checked
    def __init__(
        self,
        workers: int | None = None,
        threads: int | None = None,
        gpus_each: int = 1,
        *,
        command: Sequence[str] = RUN,
    ) -> None:
        check_counts("LocalEngine", workers, threads, gpus_each)
        cores, groups = _available_cores(), _gpu_groups(gpus_each)
        self.workers = workers or len(groups) or max(1, cores // (threads or 1))
        self.threads = threads or max(1, cores // self.workers)
        self._command = tuple(command)
        self._pipe = ParentPipe()
        self._slots = [_Slot(groups[index % len(groups)] if groups else None) for index in range(self.workers)]

    @checked
    def start(self, folder: Path) -> RunHandle:
        """Start a process for the run, on GPUs that no other run uses if there are enough of them."""
        slot = next((slot for slot in self._slots if slot.process is None or slot.process.poll() is not None), None)
        if slot is None:
            raise InvalidInputError(complaint("runs at once", f"at most {self.workers}", self.workers + 1))
        with file_errors(folder / LOG, "a file that can be written"):
            environment = self._environment(slot.gpus)
            command = [sys.executable, *self._command, str(folder)]
            slot.process = RunProcess(command, str(folder / LOG), environment, self._pipe)
        return _LocalRun(folder, slot.process)

    def _environment(self, gpus: str | None) -> dict[str, str]:
        environment = run_environment(str(package_root()), self.threads)
        return environment if gpus is None else environment | {"CUDA_VISIBLE_DEVICES": gpus}


@dataclass
class _Slot:
    gpus: str | None
    process: RunProcess | None = None


class _LocalRun:
    begun = True

    def __init__(self, folder: Path, process: RunProcess) -> None:
        self._folder = folder
        self._process = process

    def poll(self) -> RunExit | None:
        code = self._process.poll()
        return None if code is None else describe_exit(self._folder, code)

    def stop(self) -> None:
        self._process.stop()


def _gpu_groups(size: int) -> list[str]:
    """Share the GPUs that this process may use out in groups, each a value of `CUDA_VISIBLE_DEVICES`."""
    count = torch.cuda.device_count() if size else 0
    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    if len(names) < count:
        names = [str(index) for index in range(count)]
    return [",".join(names[start : start + size]) for start in range(0, count - size + 1, size)] if count else []


def _available_cores() -> int:
    """Return the cores that this process may use, fewer than the machine's under a batch system or in a container."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
