"""What a large grid costs beside its runs: a thousand runs of no work on simulated nodes of a Ray cluster.

    python -m experiments.scaling --nodes 64 --runs 1000

Every node is Ray's processes of a node, on this machine. The page `docs/scaling.md` has figures.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tyro

from experiments.speed.measuring import peak_bytes
from vae_flows.benchmark.engine import Engine
from vae_flows.benchmark.grid import GridRun, RunOutcome, plan_grid, run_grid
from vae_flows.benchmark.local import LocalEngine
from vae_flows.benchmark.presets import PRESETS
from vae_flows.benchmark.report import write_report

__all__ = ["measure"]

OBJECT_STORE = 80 * 2**20
# A run of no work: it leaves the results that a report is made of.
NO_WORK = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
settings = json.loads((folder / "settings.json").read_text())
settings = {name: value for name, value in settings.items() if name not in ("format", "version")}
metrics = {
    "data": settings["data"], "posterior": settings["posterior"], "seed": settings["training"]["seed"], "unit": "nats",
    "nats_per_unit": 1.0, "parameters": 1, "settings": settings, "commit": None, "dirty": False, "has_images": False,
    "test": {"negative_elbo": 1.0, "negative_log_likelihood": 1.0, "evaluations_per_solve": None},
    "history": {"validation_negative_elbo": [2.0, 1.0], "seconds": [1.0, 1.0]},
}
(folder / "metrics.json").write_text(json.dumps(metrics))
"""


class _Deaf:
    """Wants to know nothing."""

    def started(self, run: GridRun) -> None: ...

    def ended(self, outcome: RunOutcome) -> None: ...

    def elsewhere(self, run: GridRun) -> None: ...

    def running(self, runs: Sequence[GridRun]) -> None: ...


def measure(nodes: int = 8, runs: int = 1000, bring_back: bool = False) -> None:
    """Measure a grid of runs of no work, and print the figures as JSON.

    Arguments:
        nodes: Simulated nodes of one processor each; 0 for the engine of this machine with two workers.
        runs: Runs.
        bring_back: Let files come back through Ray's object store.
    """
    figures: dict[str, Any] = {"nodes": nodes, "runs": runs, "bring_back": bring_back, "cores": os.cpu_count()}
    figures["load_before"] = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder, contextlib.ExitStack() as stack:
        preset, root = PRESETS["smoke"], Path(folder)
        seeds = range(-(-runs // len(preset.posteriors)))
        planned, figures["seconds_to_plan"] = _timed(lambda: plan_grid(preset, root, seeds=tuple(seeds))[:runs])
        engine = stack.enter_context(_opened(nodes, bring_back, figures))
        figures["driver_mb_before"] = _own_mb()
        monitor, cpu = _Deaf(), time.process_time()
        outcomes, seconds = _timed(lambda: run_grid(planned, engine, monitor))
        figures["driver_cpu_ms_per_run"] = 1000 * (time.process_time() - cpu) / runs
        figures["driver_mb_at_most"] = peak_bytes() / 2**20
        figures["seconds"], figures["ms_per_run"] = seconds, 1000 * seconds / runs
        figures["finished"] = sum(outcome.status == "finished" for outcome in outcomes)
        figures["errors"] = sorted({outcome.error for outcome in outcomes if outcome.error})[:3]
        _, figures["seconds_to_resume"] = _timed(lambda: run_grid(planned, engine, monitor))
        _, figures["seconds_to_report"] = _timed(lambda: write_report(root))
    figures["load_after"] = os.getloadavg()[0]
    print(json.dumps(figures, indent=2))


@contextlib.contextmanager
def _opened(nodes: int, bring_back: bool, figures: dict[str, Any]) -> Iterator[Engine]:
    """Open the engine, on a cluster that is started for it and ends with the block."""
    command = ("-c", NO_WORK)
    if nodes == 0:
        yield LocalEngine(2, 1, gpus_each=0, command=command)
        return
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_memory_monitor_refresh_ms": "0"}
    from ray.cluster_utils import Cluster

    from vae_flows.benchmark.ray_engine import RayEngine

    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        options: dict[str, Any] = {"object_store_memory": OBJECT_STORE}
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": folder}
        cluster = Cluster(initialize_head=True, head_node_args=options | head)
        try:
            _, figures["seconds_to_start_nodes"] = _timed(
                lambda: [cluster.add_node(num_cpus=1, **options) for _ in range(nodes)]
            )
            with RayEngine(cluster.address, shared=not bring_back, command=command) as engine:
                yield engine
                figures["mb_of_all_processes_of_ray"] = _mb_of(folder)
        finally:
            cluster.shutdown()


def _timed(act: Callable[[], Any]) -> tuple[Any, float]:
    start = time.monotonic()
    return act(), time.monotonic() - start


def _own_mb() -> float:
    return _proportional_mb(Path("/proc/self"))


def _mb_of(text: str) -> float:
    """Return the memory of all processes whose command line, or their parent's, names a folder."""
    chosen: set[int] = set()
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if text.encode() in (entry / "cmdline").read_bytes():
                    chosen.add(int(entry.name))
    chosen |= {process for process, parent in parents.items() if parent in chosen}
    return sum(_proportional_mb(Path(f"/proc/{process}")) for process in chosen)


def _proportional_mb(entry: Path) -> float:
    """Return a process's memory in which pages that others share count in part."""
    with contextlib.suppress(OSError):
        for line in (entry / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    tyro.cli(measure)
