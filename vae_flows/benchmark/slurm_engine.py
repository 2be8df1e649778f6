"""The engine of a SLURM cluster, by submitit: a job for each run, which goes on elsewhere when its node dies."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
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
from vae_flows.persistence.files import exclusive
from vae_flows.persistence.json_files import read_json, write_json
from vae_flows.runs.folder import LOG, METRICS

with needing("slurm"):
    import cloudpickle
    import submitit

    from vae_flows.benchmark import slurm_jobs
    from vae_flows.benchmark.slurm_jobs import RunJob
    from vae_flows.benchmark.slurm_states import StateWatcher

__all__ = ["SlurmEngine"]

JOBS = ".slurm"
"""Folder in a run's folder of all that submitit writes; it is removed when the run has ended by itself."""
LOOK_SECONDS = 1.0
"""Least pause between two looks at a job's files, on storage that all nodes share."""
STOP_SECONDS = 5.0
REFUSED_SECONDS = 5.0
"""Pause after SLURM refused a job; it doubles with each refusal after the other."""
MOST_DOUBLINGS = 4


class SlurmEngine:
    """Submits every run as a job, within a block; the nodes share the folder of the benchmark.

    A job whose node dies, or whose time is over, goes on from its last checkpoint. Jobs outlive a driver that is
    killed: the next one goes on with them. An interrupt cancels them. A job that SLURM refuses, as it does above the
    limit of jobs of a user, is submitted again after a pause, as long as others are under way.

    Arguments:
        workers: Runs at once; `None` to submit all of them.
        threads: Threads of each run; `None` for as many as it has CPUs.
        cpus_per_run: CPUs of each job, rounded up.
        gpus_per_run: GPUs of each job, whole ones; `None` for `gpus_each`.
        gpus_each: GPUs that a run uses.
        minutes: Time limit of a job, after which it is queued again.
        retries: How often a run goes on after its job died or its time was over, and how often one that SLURM refuses
            is submitted again when no other job is under way.
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
        self._watcher = StateWatcher()
        self._under_way: set[Path] = set()
        self._refusals, self._refused_until = 0, -math.inf
        self._job = {"command": tuple(command), "root": str(package_root()), "threads": threads or cpus}
        self._parameters: dict[str, Any] = {
            "name": "vae-flows",
            "timeout_min": minutes,
            "cpus_per_task": cpus,
            "gpus_per_node": int(gpus),
            "slurm_additional_parameters": {"requeue": True, **(options or {})},
        }

    def __enter__(self) -> Self:
        _allow_many_open_files()
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
        """Submit a job for the run, or go on with the one that an earlier driver submitted.

        Raises:
            FolderInUseError: Another driver follows the run.
            FileError: The queue, or the folder, does not take it.
        """
        return _SlurmRun(self, folder.resolve())

    @checked
    def submit(self, place: Path) -> Any:
        """Submit a job for the run in a folder, and return `None` where that is to be tried again later.

        Raises:
            FileError: The queue, or the folder, does not take it, and has not done so too often.
        """
        if time.monotonic() < self._refused_until:
            return None
        try:
            job = self._submit(place)
        except FileError:
            self._refusals += 1
            if self._refusals > self.retries and not self._under_way:
                raise
            self._refused_until = time.monotonic() + REFUSED_SECONDS * 2 ** min(self._refusals - 1, MOST_DOUBLINGS)
            return None
        self._refusals = 0
        return self._followed(job, place)

    def _submit(self, place: Path) -> Any:
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
        job = self._followed(submitit.SlurmJob(place / JOBS, number), place)
        if self._watcher.is_alive(number):
            return job
        self.left(place)
        return None

    @checked
    def left(self, place: Path) -> None:
        """Count the run in a folder no longer among those that have a job."""
        self._under_way.discard(place)

    def _followed(self, job: Any, place: Path) -> Any:
        self._under_way.add(place)
        if self.cluster == "slurm":
            job.watcher = self._watcher
        return job


class _SlurmRun:
    """Jobs, one after the other, that work on a run."""

    def __init__(self, engine: SlurmEngine, place: Path) -> None:
        self._engine = engine
        self._place = place
        self._retries = engine.retries
        self._looked = -math.inf
        self._exit: RunExit | None = None
        self.begun = False
        with ExitStack() as stack:
            stack.enter_context(exclusive(place / JOBS))  # against other drivers, until the run is left
            stack.callback(engine.left, place)
            self._job = engine.find(place) or engine.submit(place)
            self._left = stack.pop_all()

    def poll(self) -> RunExit | None:
        now = time.monotonic()
        if self._exit is None and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._exit = self._look() if self._job else self._submit()
            if self._exit is not None:
                self._left.close()
        return self._exit

    def _submit(self) -> RunExit | None:
        try:
            self._job = self._engine.submit(self._place)
        except FileError as error:
            return RunExit(f"no job could be submitted: {error}")
        return None

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
        self._job.cancel(check=False)  # or SLURM may queue it again, too
        self._engine.left(self._place)
        if (self._place / METRICS).exists():
            return RunExit()
        if self._retries and not state.upper().startswith("CANCELLED"):
            self._retries -= 1
            return self._submit()
        lines = last_lines(self._job.paths.stderr)
        return RunExit("\n".join([f"its job {self._job.job_id} ended as {state}", *lines]))

    def stop(self) -> None:
        with self._left:
            if self._job is None:
                return
            self._job.cancel(check=False)
            deadline = time.monotonic() + STOP_SECONDS
            while not self._job.done() and time.monotonic() < deadline:  # SLURM itself may take longer
                time.sleep(0.05)

    def _file(self, name: str) -> Path:
        return self._place / JOBS / f"{self._job.job_id}_{name}"


def _allow_many_open_files() -> None:
    """Take all the open files that the system allows: a driver holds one for each run that it follows."""
    try:
        import resource
    except ImportError:  # of a system without such a limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
