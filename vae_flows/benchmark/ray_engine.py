"""The engine of a Ray cluster: a task for each run, which goes on elsewhere when its node or worker dies."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vae_flows.benchmark import process
from vae_flows.benchmark.engine import IN_USE, RUN, RunExit, RunHandle, check_counts, describe_exit, package_root
from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint, require_number
from vae_flows.extras import needing
from vae_flows.runs.folder import LOG, METRICS, SETTINGS

with needing("ray"):
    import ray
    from ray import cloudpickle
    from ray.exceptions import RayError, RayTaskError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from vae_flows.benchmark import ray_tasks
    from vae_flows.benchmark.ray_tasks import FolderKeeper, RunTask, attend, identify

__all__ = ["RayEngine"]

STOP_SECONDS = 30.0
KEEPER_THREADS = 16
LEAST_PART = 1e-4
"""Of a CPU or GPU that Ray shares out."""


class RayEngine:
    """Trains every run as a task of a Ray cluster, within a block.

    A run works in its own folder where its node shares that with this machine. Where it does not, it works in one of
    the node's, and its files come back through Ray's object store whenever a checkpoint is new, so that the folder here
    is the same in both cases. A run whose node or worker dies goes on elsewhere from its last checkpoint.

    Arguments:
        address: Of the cluster, such as `"10.0.0.1:6379"` or `"auto"`; `None` for the one that `RAY_ADDRESS` names, or
            else for one of this machine alone that ends with the block.
        workers: Runs at once; `None` to give Ray all of them, which begins as many as there is room for.
        threads: Threads of each run; `None` for as many as it has CPUs.
        cpus_per_run: CPUs that a run takes of its node.
        gpus_per_run: GPUs that it takes, a part of one to share it; `None` for `gpus_each` where nodes have GPUs.
        gpus_each: GPUs that a run uses where there are any; 0 for runs that use none.
        retries: How often a run goes on after its node or worker died.
        shared: `False` to have files brought back even from nodes that share the folder, which spares slow storage.
        command: Arguments of Python that, with a folder after them, work on the run there.

    Raises:
        MissingPackageError: Ray is not installed.
        InvalidInputError: A number is out of range; there is no cluster at the address, or no node of it has what a
            run takes.
    """

    @checked
    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        threads: int | None = None,
        cpus_per_run: float = 1.0,
        gpus_per_run: float | None = None,
        gpus_each: int = 1,
        retries: int = 3,
        shared: bool = True,
        command: Sequence[str] = RUN,
    ) -> None:
        check_counts("RayEngine", workers, threads, gpus_each, retries)
        require_number("RayEngine", "cpus_per_run", cpus_per_run, least=LEAST_PART)
        if gpus_per_run:  # 0 for runs that take none
            require_number("RayEngine", "gpus_per_run", gpus_per_run, least=LEAST_PART)
            if gpus_per_run > 1 and gpus_per_run != int(gpus_per_run):
                expected = "whole GPUs, or a part of one"
                raise InvalidInputError(complaint("RayEngine gpus_per_run", expected, gpus_per_run))
        if address is not None and address.startswith("ray://"):
            remedy = "Start the command on a node of the cluster, with --address auto."
            raise InvalidInputError(complaint("address", "HOST:PORT of a cluster, or auto", repr(address), remedy))
        self.workers = workers or sys.maxsize
        self._address = address
        self._threads = threads or max(1, int(cpus_per_run))
        self._cpus, self._gpus, self._gpus_each = float(cpus_per_run), gpus_per_run, gpus_each
        self._retries = retries
        self._shared = shared
        self._command = tuple(command)
        self._keeper: Any = None
        self._begun: set[str] = set()
        self._asked: Any = None

    def __enter__(self) -> Self:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or Ray would tell its makers of the cluster
        before = signal.getsignal(signal.SIGTERM)
        try:
            options = {"log_to_driver": False, "logging_level": logging.ERROR}
            ray.init(self._address, configure_logging=True, **options)
        except (RayError, ConnectionError, ValueError, RuntimeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            remedy = "Is it running? Try: ray status"
            subject = f"Ray cluster {self._address or os.environ.get('RAY_ADDRESS', 'of this machine')}"
            raise InvalidInputError(complaint(subject, "one to connect to", reason, remedy)) from error
        finally:
            signal.signal(signal.SIGTERM, before)  # Ray's handler would end the command with another status
        try:
            self._gpus = self._find_room(self._gpus)
            for module in (process, ray_tasks):  # nodes need not import the library only to start a process
                cloudpickle.register_pickle_by_value(module)
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            keeper = ray.remote(FolderKeeper)
            options = {"num_cpus": 0, "max_concurrency": KEEPER_THREADS}
            self._keeper = keeper.options(**options, scheduling_strategy=here).remote(str(package_root()))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._keeper = None
        ray.shutdown()
        for module in (process, ray_tasks):
            with suppress(ValueError):
                cloudpickle.unregister_pickle_by_value(module)

    @checked
    def start(self, folder: Path) -> RunHandle:
        """Give Ray the run as a task.

        Raises:
            InvalidInputError: The engine's block has not begun.
        """
        self._require_open()
        place = folder.resolve()
        task = RunTask(
            folder=str(place),
            identity=identify(str(place / SETTINGS)) if self._shared else None,
            settings=SETTINGS,
            log=LOG,
            result=METRICS,
            command=self._command,
            root=str(package_root()),
            working_folder=str(Path.cwd()),
            threads=self._threads,
            in_use=IN_USE,
        )
        options = {"num_cpus": self._cpus, "num_gpus": self._gpus, "max_retries": self._retries}
        named = ray.remote(attend).options(**options, name=str(folder))
        self._begun.discard(str(place))
        return _RayRun(self, place, named.remote(task, self._keeper))

    @checked
    def has_begun(self, place: Path) -> bool:
        """Tell whether a node has taken the run up, as far as is known without waiting."""
        self._require_open()
        if self._asked is not None and self._asked.done():
            with suppress(RayError):
                self._begun.update(self._asked.result())
            self._asked = None
        if self._asked is None:
            self._asked = self._keeper.begun.remote().future()
        return str(place) in self._begun

    @checked
    def release(self, place: Path) -> None:
        """Let others work in the run's folder."""
        self._require_open()
        with suppress(RayError):
            ray.get(self._keeper.release.remote(str(place)), timeout=STOP_SECONDS)

    def _require_open(self) -> None:
        if self._keeper is None:
            remedy = "Write: with RayEngine(…) as engine."
            raise InvalidInputError(complaint("RayEngine", "a use within its block", "one outside", remedy))

    def _find_room(self, gpus: float | None) -> float:
        """Return how many GPUs a run takes, having seen that a node has what it takes: else it would never begin."""
        nodes = [(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)) for node in _living_nodes()]
        if gpus is None:
            gpus = float(self._gpus_each) if any(has > 0 for _, has in nodes) else 0.0
        if not any(cpus >= self._cpus and has >= gpus for cpus, has in nodes):
            told = "; ".join(sorted({f"{cpus:g} CPUs and {has:g} GPUs" for cpus, has in nodes}))
            expected = f"a node with {self._cpus:g} CPUs and {gpus:g} GPUs"
            remedy = "Ask for less by --cpus-per-run and --gpus-per-run."
            raise InvalidInputError(complaint("Ray cluster", expected, f"nodes with {told}", remedy))
        return gpus


def _living_nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


class _RayRun:
    """A task of Ray that works on a run."""

    def __init__(self, engine: RayEngine, place: Path, task: Any) -> None:
        self._engine = engine
        self._place = place
        self._task = task
        self._future = task.future()
        self._exit: RunExit | None = None

    @property
    def begun(self) -> bool:
        return self._engine.has_begun(self._place)

    def poll(self) -> RunExit | None:
        if self._exit is None and self._future.done():
            self._engine.release(self._place)
            self._exit = self._conclude()
        return self._exit

    def _conclude(self) -> RunExit:
        try:
            return describe_exit(self._place, self._future.result())
        except RayTaskError as error:  # of the machinery around the run
            return RunExit(f"its task failed: {_last_line(error)}")
        except RayError as error:
            return RunExit(f"its node or worker died too often: {_last_line(error)}")

    def stop(self) -> None:
        with suppress(RayError):
            ray.cancel(self._task, force=True)
            ray.wait([self._task], timeout=STOP_SECONDS)
        self._engine.release(self._place)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
