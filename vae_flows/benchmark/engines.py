"""The engines by name, and what a user says of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from vae_flows.benchmark.engine import Engine
from vae_flows.benchmark.local import LocalEngine
from vae_flows.errors import InvalidInputError, complaint, refuse_unused, require_number, require_positive, unknown_name
from vae_flows.training import ComputeSettings

__all__ = ["ENGINES", "EngineSettings", "open_engine"]

ENGINES = ("local", "ray")
RETRIES = 3


@dataclass(frozen=True)
class EngineSettings:
    """Where the runs of a benchmark take place, and what each takes of it.

    Arguments:
        engine: local: processes of this machine; ray: a Ray cluster.
        workers: Runs at once; by default one a GPU, or as many as there are cores; on a cluster, as many as it has room
            for.
        threads: Threads of each run; by default the cores are shared among the workers; on a cluster, as many as the
            run has CPUs.
        address: Of the Ray cluster, HOST:PORT; by default the one that this machine belongs to, or else one of this
            machine alone that ends with the command.
        cpus_per_run: CPUs that each run takes on a cluster, by default 1.
        gpus_per_run: GPUs that each run takes on a cluster, a part of one to share it; by default none with
            accelerator=cpu and else what devices says where there are GPUs.
        retries: How often a run goes on from its last checkpoint after its node or worker died, by default 3.
        bring_back: Let runs work in folders of their nodes, and bring their files back through Ray, even where the
            nodes share the benchmark's folder; spares slow storage.
    """

    engine: Literal["local", "ray"] = "local"
    workers: int | None = None
    threads: int | None = None
    address: str | None = None
    cpus_per_run: float | None = None
    gpus_per_run: float | None = None
    retries: int | None = None
    bring_back: bool = False

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise unknown_name("engine", self.engine, ENGINES)
        for name in ("workers", "threads"):
            if getattr(self, name) is not None:
                require_positive("EngineSettings", **{name: getattr(self, name)})
        if self.cpus_per_run is not None:
            require_number("EngineSettings", "cpus_per_run", self.cpus_per_run, above=0.0)
        if self.gpus_per_run is not None:
            require_number("EngineSettings", "gpus_per_run", self.gpus_per_run, least=0.0)
        retries = self.retries
        if retries is not None and (not isinstance(retries, int) or isinstance(retries, bool) or retries < 0):
            raise InvalidInputError(complaint("EngineSettings retries", "an integer of at least 0", repr(retries)))
        if self.engine == "local":
            names = ("address", "cpus_per_run", "gpus_per_run", "retries")
            given = {name: getattr(self, name) for name in names} | {"bring_back": self.bring_back or None}
            refuse_unused("EngineSettings", "engine='local'", **given)


@contextmanager
def open_engine(settings: EngineSettings, compute: ComputeSettings) -> Iterator[Engine]:
    """Return the engine that settings ask for, which ends with the block.

    Arguments:
        settings: Where runs take place.
        compute: What the runs compute on: how many GPUs each takes where that is not said.

    Raises:
        MissingPackageError: The engine's package is not installed.
        InvalidInputError: There is no such cluster, or it has no node with what a run takes.
    """
    devices = 0 if compute.accelerator == "cpu" else compute.devices
    if settings.engine == "local":
        yield LocalEngine(settings.workers, settings.threads, gpus_each=devices)
        return
    from vae_flows.benchmark.ray_engine import RayEngine

    with RayEngine(
        settings.address,
        workers=settings.workers,
        threads=settings.threads,
        cpus_per_run=settings.cpus_per_run or 1.0,
        gpus_per_run=settings.gpus_per_run,
        gpus_each=devices,
        retries=RETRIES if settings.retries is None else settings.retries,
        shared=not settings.bring_back,
    ) as engine:
        yield engine
