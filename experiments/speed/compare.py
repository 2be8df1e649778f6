"""The whole comparison: which tasks there are, and their results put together."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from experiments.environment import describe_commit, describe_hardware, describe_versions
from experiments.settings import from_plain
from experiments.speed.competitors import BASELINE, PUBLISHED, entries_for
from experiments.speed.problems import INTEGRATION_TIME, SIZES, TINY_SIZES, TOLERANCE, Size
from experiments.speed.records import Comparison, Measurement, Products, ScalingPoint, SizeResult, StepsPoint
from experiments.speed.scaling import SCALING_THREADS
from experiments.speed.steps import METHOD, MODES
from experiments.speed.worker import WorkerError, run_task

__all__ = ["FULL", "QUICK", "Plan", "compare"]

PEERS = ("zuko", "jax", "jaxlib", "diffrax")
_TASK_SECONDS = 900.0

_Found = TypeVar("_Found")
RunTask = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Plan:
    """What is measured, and how often.

    Arguments:
        sizes: Sizes at which the competitors meet.
        rounds: Interleaved rounds at each size.
        memory_of: Competitors whose memory is measured; `None` for all.
        dims: D at which the cost of one evaluation is measured.
        hidden_dims: Hidden layers for that.
        batch: Examples for that.
        scaling_rounds: Rounds for that.
        products_size: Size at which products with the Jacobian are measured.
        products_rounds: Rounds for that.
        steps_size: Size at which the gradient modes are measured against the number of steps.
        steps: Those numbers.
        steps_rounds: Rounds for that.
    """

    sizes: tuple[Size, ...]
    rounds: int
    memory_of: tuple[str, ...] | None
    dims: tuple[int, ...]
    hidden_dims: tuple[int, ...]
    batch: int
    scaling_rounds: int
    products_size: Size
    products_rounds: int
    steps_size: Size
    steps: tuple[int, ...]
    steps_rounds: int


FULL = Plan(
    sizes=SIZES,
    rounds=9,
    memory_of=None,
    dims=(16, 32, 64, 128, 256, 512, 1024),
    hidden_dims=(512, 512),
    batch=32,
    scaling_rounds=3,
    products_size=Size((512, 512), "bias"),
    products_rounds=100,
    steps_size=Size((512, 512), "bias"),
    steps=(4, 16, 64),
    steps_rounds=3,
)
QUICK = Plan(
    sizes=TINY_SIZES,
    rounds=2,
    memory_of=(BASELINE, PUBLISHED),
    dims=(4, 8),
    hidden_dims=(16, 16),
    batch=4,
    scaling_rounds=1,
    products_size=TINY_SIZES[0],
    products_rounds=2,
    steps_size=TINY_SIZES[1],
    steps=(2, 4),
    steps_rounds=1,
)


def compare(plan: Plan, *, threads: int | None = None, say: Callable[[str], None] = print) -> Comparison:
    """Measure everything in a plan; what fails is told in the results and does not stop the rest.

    Arguments:
        plan: What to measure.
        threads: Threads of PyTorch and XLA; by default all cores.
        say: Told what begins.
    """
    threads = threads or os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as cache:

        def run(task: Mapping[str, Any]) -> Any:
            of_task = task.get("threads", threads)
            return run_task(task, threads=of_task, seconds=_TASK_SECONDS, cache=Path(cache))

        failures: list[str] = []

        def attempt(what: str, measure: Callable[[], _Found], otherwise: _Found) -> _Found:
            say(what)
            try:
                return measure()
            except WorkerError as error:
                failures.append(f"{what}: {error}")
                say(failures[-1])
                return otherwise

        sizes = tuple(_measure_size(plan, size, run, say) for size in plan.sizes)
        steps = [
            point
            for count in plan.steps
            for point in attempt(f"gradient modes over {count} steps", partial(_measure_steps, plan, count, run), [])
        ]
        scaling = {"hidden_dims": plan.hidden_dims, "batch": plan.batch, "rounds": plan.scaling_rounds}
        scaling["threads"] = SCALING_THREADS
        points = [
            from_plain(ScalingPoint, point)
            for dim in plan.dims
            for point in attempt(f"cost at D = {dim}", partial(run, {"kind": "scaling", "dim": dim, **scaling}), [])
        ]
        task = {"kind": "products", "size": plan.products_size.name, "rounds": plan.products_rounds}
        products = attempt("products with the Jacobian", partial(run, task), None)
    return Comparison(
        settings={
            "tolerance": TOLERANCE,
            "integration_time": INTEGRATION_TIME,
            "rounds": plan.rounds,
            "threads": threads,
            "precision": "float32",
            "scaling": scaling,
            "steps": {"size": plan.steps_size.name, "method": METHOD, "rounds": plan.steps_rounds},
        },
        versions=describe_versions() | {package: _version(package) for package in PEERS},
        hardware=describe_hardware(),
        commit=describe_commit(),
        sizes=sizes,
        steps=tuple(steps),
        scaling=tuple(points),
        products=None if products is None else from_plain(Products, products),
        failures=tuple(failures),
    )


def _measure_size(plan: Plan, size: Size, run: RunTask, say: Callable[[str], None]) -> SizeResult:
    names = list(entries_for(size))
    say(f"{size.name}: time of {', '.join(names)}")
    try:
        result = _restore(run({"kind": "time", "size": size.name, "rounds": plan.rounds}))
    except WorkerError as error:
        result = SizeResult(size.name, tuple(Measurement(name, f"failed: {error}") for name in names))
    say(f"{size.name}: memory")
    measured = tuple(
        _with_memory(entry, size, run)
        if not entry.absent and (plan.memory_of is None or entry.competitor in plan.memory_of)
        else entry
        for entry in result.measurements
    )
    return replace(result, measurements=measured)


def _measure_steps(plan: Plan, count: int, run: RunTask) -> list[StepsPoint]:
    """Measure all gradient modes over `count` steps."""
    task = {"size": plan.steps_size.name, "steps": count}
    seconds = run({"kind": "steps time", **task, "rounds": plan.steps_rounds})
    memory = {mode: run({"kind": "steps memory", **task, "mode": mode}) for mode in MODES}
    return [StepsPoint(mode, count, seconds[mode], memory[mode]) for mode in MODES]


def _with_memory(entry: Measurement, size: Size, run: RunTask) -> Measurement:
    try:
        plain = run({"kind": "memory", "size": size.name, "competitor": entry.competitor})
    except WorkerError as error:
        return replace(entry, absent=f"memory failed: {error}")
    memory = from_plain(Measurement, plain)
    return replace(entry, step_bytes=memory.step_bytes, process_bytes=memory.process_bytes)


def _restore(plain: Mapping[str, Any]) -> SizeResult:
    measurements = tuple(from_plain(Measurement, entry) for entry in plain["measurements"])
    return replace(from_plain(SizeResult, {**plain, "measurements": ()}), measurements=measurements)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
