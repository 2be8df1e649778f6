"""The engine of a SLURM cluster, by submitit: a job for each run, which goes on elsewhere when its node dies."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from vae_flows.benchmark import process
from vae_flows.benchmark.engine import (
    IN_USE,
    RUN,
    RunExit,
    RunHandle,
    check_counts,
    describe_exit,
    last_lines,
    package_root,
)
from vae_flows.checks import checked
from vae_flows.errors import DataError, FileError, InvalidInputError, complaint, require_number, require_positive
from vae_flows.extras import needing
from vae_flows.persistence.json_files import read_json, write_json
from vae_flows.runs.folder import LOG, METRICS

with needing("slurm"):
    import cloudpickle
    import submitit

    from vae_flows.benchmark import slurm_jobs
    from vae_flows.benchmark.slurm_jobs import RunJob

__all__ = ["SlurmEngine"]

JOBS = ".slurm"
"""Folder in a run's folder of all that submitit writes; it is removed when the run has ended by itself."""
ALIVE = ("PENDING", "RUNNING", "REQUEUED", "COMPLETING", "CONFIGURING", "SUSPENDED", "READY")
LOOK_SECONDS = 1.0
"""Least pause between two looks at a job's files, on storage that all nodes share."""
STOP_SECONDS = 5.0


class SlurmEngine:
    """Submits every run as a job, within a block; the nodes share the folder of the benchmark.

    A job whose node dies, or whose time is over, goes on from its last checkpoint. Jobs outlive a driver that is
    killed: the next one goes on with them. An interrupt cancels them.

    Arguments:
        workers: Runs at once; `None` to submit all of them.
        threads: Threads of each run; `None` for as many as it has CPUs.
        cpus_per_run: CPUs of each job, rounded up.
        gpus_per_run: GPUs of each job, whole ones; `None` for `gpus_each`.
        gpus_each: GPUs that a run uses.
        minutes: Time limit of a job, after which it is queued again.
        retries: How often a run goes on after its job died or its time was over.
        options: Further options of `sbatch` by name, such as `{"partition": "gpu"}`.
        cluster: `"local"` for processes of this machine instead of SLURM.
        command: Arguments of Python that, with a folder after them, work on the run there.

    Raises:
        MissingPackageError: submitit is not installed.
        InvalidInputError: GPUs are to be shared, which SLURM does not do, or there is no SLURM here.
    """

    @checked
    def __init__(
        self,
        *,
        workers: int | None = None,
        threads: int | None = None,
        cpus_per_run: float = 1.0,
        gpus_per_run: float | None = None,
        gpus_each: int = 0,
        minutes: int = 24 * 60,
        retries: int = 3,
        options: Mapping[str, str] | None = None,
        cluster: Literal["slurm", "local"] = "slurm",
        command: Sequence[str] = RUN,
    ) -> None:
        check_counts("SlurmEngine", workers, threads, gpus_each, retries)
        require_positive("SlurmEngine", minutes=minutes)
        require_number("SlurmEngine", "cpus_per_run", cpus_per_run, above=0.0)
        gpus = gpus_each if gpus_per_run is None else gpus_per_run
        require_number("SlurmEngine", "gpus_per_run", gpus, least=0.0)
        if gpus != int(gpus):
            remedy = "Let a Ray cluster share them: --engine ray."
            raise InvalidInputError(complaint("gpus_per_run", "whole GPUs on a SLURM cluster", gpus, remedy))
        if cluster == "slurm" and shutil.which("sbatch") is None:
            remedy = "Start the command on a node from which jobs are submitted."
            raise InvalidInputError(complaint("SLURM", "the command sbatch", "none", remedy))
        cpus = math.ceil(cpus_per_run)
        self.workers = workers or sys.maxsize
        self.cluster = cluster
        self.retries = retries
        self._job = {"command": tuple(command), "root": str(package_root()), "threads": threads or cpus}
        self._parameters: dict[str, Any] = {
            "name": "vae-flows",
            "timeout_min": minutes,
            "cpus_per_task": cpus,
            "gpus_per_node": int(gpus),
            "slurm_additional_parameters": {"requeue": True, **(options or {})},
        }

    def __enter__(self) -> Self:
        for module in (process, slurm_jobs):  # nodes need not import the library only to start a process
            cloudpickle.register_pickle_by_value(module)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for module in (process, slurm_jobs):
            with suppress(ValueError):
                cloudpickle.unregister_pickle_by_value(module)

    @checked
    def start(self, folder: Path) -> RunHandle:
        """Submit a job for the run, or go on with the one that an earlier driver submitted."""
        return _SlurmRun(self, folder.resolve())

    @checked
    def submit(self, place: Path) -> Any:
        """Submit a job for the run in a folder.

        Raises:
            FileError: The queue, or the folder, does not take it.
        """
        job = RunJob(str(place), JOBS, LOG, METRICS, IN_USE, str(Path.cwd()), **self._job)
        try:
            executor = submitit.AutoExecutor(place / JOBS, cluster=self.cluster, slurm_max_num_timeout=self.retries)
            executor.update_parameters(**self._parameters)
            submitted = executor.submit(job)
        except (OSError, RuntimeError, ValueError) as error:
            told = " ".join(str(error).split())
            raise FileError(complaint(f"job for {place}", "one that SLURM takes", told)) from error
        write_json(place / JOBS / "job.json", {"job": submitted.job_id})
        return submitted

    @checked
    def find(self, place: Path) -> Any:
        """Return the job that an earlier driver submitted for a run, `None` where none is left."""
        try:
            number = read_json(place / JOBS / "job.json")["job"]
        except (DataError, KeyError, TypeError):
            return None
        if self.cluster != "slurm" or not isinstance(number, str):
            return None
        job = submitit.SlurmJob(place / JOBS, number)
        return job if job.watcher.get_state(number, mode="force").upper().startswith(ALIVE) else None


class _SlurmRun:
    """Jobs, one after the other, that work on a run."""

    def __init__(self, engine: SlurmEngine, place: Path) -> None:
        self._engine = engine
        self._place = place
        self._job = engine.find(place) or engine.submit(place)
        self._retries = engine.retries
        self._looked = -math.inf
        self._exit: RunExit | None = None
        self.begun = False

    def poll(self) -> RunExit | None:
        now = time.monotonic()
        if self._exit is None and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._exit = self._look()
        return self._exit

    def _look(self) -> RunExit | None:
        done = self._job.done()  # before the file of the exit status is looked for
        self.begun = self.begun or self._file("begun").exists()
        if not done:
            return None
        try:
            code = int(self._file("exit").read_text())
        except (OSError, ValueError):
            return self._go_on()
        shutil.rmtree(self._place / JOBS, ignore_errors=True)
        return describe_exit(self._place, code)

    def _go_on(self) -> RunExit | None:
        """Submit the next job after one that died, unless it was cancelled or that happened too often."""
        state = self._job.state
        if self._retries and not state.upper().startswith("CANCELLED"):
            self._retries -= 1
            self._job.cancel(check=False)  # or SLURM may queue it again, too
            try:
                self._job = self._engine.submit(self._place)
            except FileError as error:
                return RunExit(f"its job died, and another could not be submitted: {error}")
            return None
        lines = last_lines(self._job.paths.stderr)
        return RunExit("\n".join([f"its job {self._job.job_id} ended as {state}", *lines]))

    def stop(self) -> None:
        self._job.cancel(check=False)
        deadline = time.monotonic() + STOP_SECONDS
        while not self._job.done() and time.monotonic() < deadline:  # SLURM itself may take longer
            time.sleep(0.05)

    def _file(self, name: str) -> Path:
        return self._place / JOBS / f"{self._job.job_id}_{name}"
