"""One valid call of every public callable of `vae_flows.benchmark`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.valid_calls.parts import folder
from tests.valid_calls.runs import SMALL, settings, trained
from tests.wrong_values import ValidCall
from vae_flows import reporting, runs, training
from vae_flows.benchmark.engine import RunExit
from vae_flows.benchmark.grid import GridRun, RunOutcome, grid_settings, plan_grid, run_grid
from vae_flows.benchmark.local import LocalEngine
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
