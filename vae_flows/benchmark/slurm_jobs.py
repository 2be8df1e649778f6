"""What a job of a SLURM cluster does for a grid: it starts the process that works on a run, and waits for it.

Nodes get this module by value, and it does not import the library.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

import submitit
from submitit.helpers import DelayedSubmission

from vae_flows.benchmark.process import ParentPipe, RunProcess, run_environment

__all__ = ["RunJob"]

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class RunJob:
    """A run as its job sees it; called, it works on the run and leaves its exit status in a file.

    Arguments:
        folder: The run's folder.
        jobs: Folder in it of what concerns its jobs.
        log: Name of the file that takes what it prints.
        result: Name of the file with which it is finished.
        in_use: Exit status of a run whose folder another process works in.
        working_folder: Where the driver works, to which paths of data may be relative.
        command: Arguments of Python that work on a run.
        root: Folder that holds the package, where it is not installed.
        threads: Threads of the run.
    """

    folder: str
    jobs: str
    log: str
    result: str
    in_use: int
    working_folder: str
    command: tuple[str, ...]
    root: str
    threads: int

    def __call__(self) -> None:
        """Work on the run."""
        self._leave("begun", "")
        code = 0 if os.path.exists(os.path.join(self.folder, self.result)) else self._work()
        self._leave("exit", str(code))

    def checkpoint(self) -> DelayedSubmission:
        """Return what goes on when the time is over or the node is wanted: the same, from the last checkpoint."""
        return DelayedSubmission(self)

    def _work(self) -> int:
        working_folder = self.working_folder if os.path.isdir(self.working_folder) else None
        command = [sys.executable, *self.command, self.folder]
        log = os.path.join(self.folder, self.log)
        process = RunProcess(command, log, run_environment(self.root, self.threads), ParentPipe(), working_folder)
        try:
            while (code := process.poll()) is None:
                time.sleep(POLL_SECONDS)
            return code
        finally:
            process.stop()

    def _leave(self, name: str, text: str) -> None:
        """Leave a file, whole, for the driver."""
        path = os.path.join(self.folder, self.jobs, f"{submitit.JobEnvironment().job_id}_{name}")
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".new", path)
