"""One valid call of every public callable of `vae_flows.benchmark`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from tests.valid_calls.parts import folder
from tests.valid_calls.runs import SMALL, settings, trained
from tests.wrong_values import ValidCall
from vae_flows import reporting, runs, training
from vae_flows.benchmark.engine import RunExit, check_counts, describe_exit, last_lines, package_root
from vae_flows.benchmark.engines import EngineSettings, open_engine
from vae_flows.benchmark.forecast import GridForecast
from vae_flows.benchmark.grid import GridRun, RunOutcome, grid_settings, plan_grid, run_grid
from vae_flows.benchmark.local import LocalEngine
from vae_flows.benchmark.monitor import LinesMonitor, LiveMonitor, open_monitor
from vae_flows.benchmark.presets import Preset, find_preset, register_preset
from vae_flows.benchmark.published import Published, register_published
from vae_flows.benchmark.report import Results, collect_results, render_tables, write_report

__all__ = ["CALLS"]


class Ended:
    """A run that ends at once."""

    begun = True

    def poll(self) -> RunExit:
        return RunExit()

    def stop(self) -> None:
        pass


class Engine:
    """An engine that runs nothing."""

    workers = 1

    def start(self, folder: Path) -> Ended:
        del folder
        return Ended()


class Monitor:
    """A monitor that tells nothing."""

    def started(self, run: GridRun) -> None: ...

    def ended(self, outcome: RunOutcome) -> None: ...

    def elsewhere(self, run: GridRun) -> None: ...

    def running(self, runs: Sequence[GridRun]) -> None: ...


def preset() -> Preset:
    return Preset(
        "a small one",
        ("frey-faces",),
        (0,),
        2,
        SMALL["network"],
        SMALL["training"],
        runs.EvaluationSettings(),
        ("none",),
    )


def grid_run() -> GridRun:
    return GridRun(folder() / "run", settings())


def forecast() -> GridForecast:
    return GridForecast([grid_run()], 1)


def ray_engine(**options: Any) -> Any:
    from vae_flows.benchmark.ray_engine import RayEngine

    return RayEngine(**options)


def slurm_engine(**options: Any) -> Any:
    from vae_flows.benchmark.slurm_engine import SlurmEngine

    return SlurmEngine(**options)


def local_slurm() -> Any:
    return slurm_engine(cluster="local", command=("-c", "pass"))


def end(job: Any) -> None:
    job.cancel(check=False)
    while not job.done():
        time.sleep(0.02)


CLUSTER = {"workers": 1, "threads": 1, "cpus_per_run": 1.0, "gpus_per_run": 0.0, "gpus_each": 0, "retries": 0}


def grid() -> Path:
    return trained().parents[2]


CALLS: dict[str, Callable[[], ValidCall]] = {
    "benchmark.GridRun": lambda: ValidCall(
        GridRun, {"folder": folder() / "run", "settings": settings()}, lambda run: run.label
    ),
    "benchmark.plan_grid": lambda: ValidCall(
        plan_grid,
        {
            "source": preset(),
            "root": folder(),
            "posteriors": ("planar",),
            "data": ("frey-faces",),
            "seeds": (1,),
            "changes": {"latent_dim": 3},
            "flow_options": {"planar": {"num_layers": 2}},
        },
    ),
    "benchmark.grid_settings": lambda: ValidCall(
        grid_settings, {"source": [settings()], "posteriors": ("planar",), "data": ("frey-faces",), "seeds": (1,)}
    ),
    "benchmark.run_grid": lambda: ValidCall(
        run_grid, {"runs": [GridRun(folder() / "run", settings())], "runner": Engine(), "monitor": Monitor()}
    ),
    "benchmark.LocalEngine": lambda: ValidCall(
        LocalEngine, {"workers": 1, "threads": 1, "gpus_each": 1, "command": ("-m", "vae_flows", "run")}
    ),
    "benchmark.LocalEngine.start": lambda: ValidCall(
        LocalEngine(1, 1, command=("-c", "pass")).start, {"folder": folder()}, lambda run: run.stop()
    ),
    "benchmark.RayEngine": lambda: ValidCall(
        ray_engine, {"address": None, "shared": True, "command": ("-c", "pass"), **CLUSTER}
    ),
    "benchmark.SlurmEngine": lambda: ValidCall(
        slurm_engine,
        {"minutes": 5, "options": {"partition": "a"}, "cluster": "local", "command": ("-c", "pass"), **CLUSTER},
    ),
    "benchmark.SlurmEngine.start": lambda: ValidCall(local_slurm().start, {"folder": folder()}, lambda run: run.stop()),
    "benchmark.SlurmEngine.submit": lambda: ValidCall(local_slurm().submit, {"place": folder()}, end),
    "benchmark.SlurmEngine.left": lambda: ValidCall(local_slurm().left, {"place": folder()}),
    "benchmark.SlurmEngine.find": lambda: ValidCall(local_slurm().find, {"place": folder()}),
    "benchmark.EngineSettings": lambda: ValidCall(
        EngineSettings,
        {
            "engine": "slurm",
            "workers": 1,
            "threads": 1,
            "cpus_per_run": 1.0,
            "gpus_per_run": 0.0,
            "retries": 0,
            "minutes": 5,
            "sbatch": {"partition": "a"},
        },
    ),
    "benchmark.EngineSettings of Ray": lambda: ValidCall(
        EngineSettings, {"engine": "ray", "address": "auto", "bring_back": True}
    ),
    "benchmark.open_engine": lambda: ValidCall(
        open_engine,
        {"settings": EngineSettings(workers=1), "compute": training.ComputeSettings("cpu")},
        lambda block: block.__enter__(),
    ),
    "benchmark.check_counts": lambda: ValidCall(
        check_counts, {"engine": "Engine", "workers": 1, "threads": None, "gpus_each": 0, "retries": 1}
    ),
    "benchmark.describe_exit": lambda: ValidCall(describe_exit, {"folder": folder(), "code": -9}),
    "benchmark.last_lines": lambda: ValidCall(last_lines, {"path": folder() / "log.txt", "count": 2, "reach": 100}),
    "benchmark.package_root": lambda: ValidCall(package_root),
    "benchmark.LinesMonitor": lambda: ValidCall(
        LinesMonitor, {"console": Console(quiet=True), "forecast": forecast(), "clock": time.monotonic}
    ),
    "benchmark.LiveMonitor": lambda: ValidCall(
        LiveMonitor, {"console": Console(quiet=True), "forecast": forecast(), "live": Live(console=Console(quiet=True))}
    ),
    "benchmark.open_monitor": lambda: ValidCall(
        open_monitor,
        {"console": Console(quiet=True), "runs": [grid_run()], "workers": 1},
        lambda block: block.__enter__(),
    ),
    "benchmark.find_preset": lambda: ValidCall(find_preset, {"name": "smoke"}),
    "benchmark.register_preset": lambda: ValidCall(register_preset, {"name": "valid-call", "preset": preset()}),
    "benchmark.Preset": lambda: ValidCall(
        Preset,
        {
            "description": "a small one",
            "data": ("frey-faces",),
            "seeds": (0,),
            "latent_dim": 2,
            "network": SMALL["network"],
            "training": SMALL["training"],
            "evaluation": runs.EvaluationSettings(),
            "posteriors": ("none",),
            "flow_options": {},
            "flow_options_on": {},
            "training_on": {},
            "network_on": {},
            "variance_bounds_on": {},
            "split_seeds_on": {},
            "max_images": 4,
        },
        lambda made: made.settings("frey-faces", "none", 0),
    ),
    "benchmark.Preset.settings": lambda: ValidCall(
        preset().settings,
        {"data": "frey-faces", "posterior": "planar", "seed": 0, "compute": training.ComputeSettings("cpu")},
    ),
    "benchmark.Published": lambda: ValidCall(
        Published, {"reference": reporting.Reference("a paper", {}), "preset": preset()}
    ),
    "benchmark.register_published": lambda: ValidCall(
        register_published,
        {"data": "valid-call", "published": Published(reporting.Reference("a paper", {}), preset())},
    ),
    "benchmark.collect_results": lambda: ValidCall(collect_results, {"root": grid()}),
    "benchmark.render_tables": lambda: ValidCall(render_tables, {"results": collect_results(grid())}),
    "benchmark.write_report": lambda: ValidCall(write_report, {"root": grid(), "destination": folder() / "report"}),
    "benchmark.Results.read": lambda: ValidCall(Results.read, {"path": write_report(grid(), folder())[1][0]}),
    "benchmark.Results.runs": lambda: ValidCall(collect_results(grid()).runs),
    "benchmark.Results.to_json": lambda: ValidCall(collect_results(grid()).to_json),
}
