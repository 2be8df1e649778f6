"""The engines by name, and what a user says of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from vae_flows.benchmark.engine import Engine
from vae_flows.benchmark.local import LocalEngine
from vae_flows.checks import checked
from vae_flows.errors import refuse_unused, require_number, require_positive
from vae_flows.training import ComputeSettings

__all__ = ["EngineSettings", "open_engine"]

RETRIES = 3
MINUTES = 24 * 60
ONLY = {
    ("ray", "slurm"): ("cpus_per_run", "gpus_per_run", "retries"),
    ("ray",): ("address", "bring_back"),
    ("slurm",): ("minutes", "sbatch"),
}
"""Options that some engines alone have."""


@checked
@dataclass(frozen=True)
class EngineSettings:
    """Where the runs of a benchmark take place, and what each takes of it.

    Arguments:
        engine: local: processes of this machine; ray: a Ray cluster; slurm: jobs of a SLURM cluster.
        workers: Runs at once; by default one a GPU, or as many as there are cores; on a cluster, as many as it has room
            for.
        threads: Threads of each run; by default the cores are shared among the workers; on a cluster, as many as the
            run has CPUs.
        address: Of the Ray cluster, HOST:PORT; by default the one that this machine belongs to, or else one of this
            machine alone that ends with the command.
        cpus_per_run: CPUs that each run takes on a cluster, by default 1.
        gpus_per_run: GPUs that each run takes on a cluster, on Ray also a part of one to share it; by default none with
            accelerator=cpu and else what devices says, where Ray has GPUs, and always on SLURM with accelerator=gpu.
        retries: How often a run goes on from its last checkpoint after its node or worker died, by default 3.
        minutes: Time limit of each SLURM job, after which its run goes on in the next; by default a day.
        sbatch: Further options of SLURM's jobs, NAME VALUE ..., such as partition gpu.
        bring_back: Let runs work in folders of their nodes, and bring their files back through Ray, even where the
            nodes share the benchmark's folder; spares slow storage.
    """

    engine: Literal["local", "ray", "slurm"] = "local"
    workers: int | None = None
    threads: int | None = None
    address: str | None = None
    cpus_per_run: float | None = None
    gpus_per_run: float | None = None
    retries: int | None = None
    bring_back: bool = False
    minutes: int | None = None
    sbatch: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("workers", "threads", "minutes"):
            if getattr(self, name) is not None:
                require_positive("EngineSettings", **{name: getattr(self, name)})
        if self.cpus_per_run is not None:
            require_number("EngineSettings", "cpus_per_run", self.cpus_per_run, above=0.0)
        if self.gpus_per_run is not None:
            require_number("EngineSettings", "gpus_per_run", self.gpus_per_run, least=0.0)
        if self.retries is not None:
            require_number("EngineSettings", "retries", self.retries, least=0.0)
        given = {name: getattr(self, name) or None for names in ONLY.values() for name in names}
        beside = {name: value for name, value in given.items() if self.engine not in _engines_of(name)}
        refuse_unused("EngineSettings", f"engine={self.engine!r}", **beside)


def _engines_of(option: str) -> tuple[str, ...]:
    return next(engines for engines, names in ONLY.items() if option in names)


@checked
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
    common: dict[str, Any] = {
        "workers": settings.workers,
        "threads": settings.threads,
        "cpus_per_run": settings.cpus_per_run or 1.0,
        "gpus_per_run": settings.gpus_per_run,
        "gpus_each": devices,
        "retries": RETRIES if settings.retries is None else settings.retries,
    }
    if settings.engine == "ray":
        from vae_flows.benchmark.ray_engine import RayEngine

        cluster = RayEngine(settings.address, shared=not settings.bring_back, **common)
    else:
        from vae_flows.benchmark.slurm_engine import SlurmEngine

        if compute.accelerator not in ("gpu", "cuda"):  # nodes are not seen before a job runs there
            common["gpus_each"] = 0
        cluster = SlurmEngine(minutes=settings.minutes or MINUTES, options=settings.sbatch, **common)
    with cluster as engine:
        yield engine
