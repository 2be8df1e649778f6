"""The whole comparison: what is measured, each in a process of its own, and the results put together."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from experiments.speed.competitors.discrete import DISCRETE_FLOWS, discrete_meeting
from experiments.speed.competitors.roster import BASELINE, METHOD, PEER_PACKAGES, PUBLISHED
from experiments.speed.meeting import Meeting, measure_memory, meeting_at, modes_at, time_meeting
from experiments.speed.one_evaluation import SCALING_THREADS, time_dimension, time_products
from experiments.speed.problems import BIAS, INTEGRATION_TIME, SIZES, TINY_CONCAT, TINY_LOW_RANK, TOLERANCE, Size
from experiments.speed.speed_records import Comparison, Measurement, SizeResult, StepsPoint
from experiments.speed.worker import WorkerError, call_apart
from vae_flows.runs.provenance import describe_commit, describe_hardware, describe_versions

__all__ = ["FULL", "QUICK", "Plan", "compare"]

_CALL_SECONDS = 900.0

Run = Callable[..., Any]
"""`call_apart` with its settings."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and how often; every part in a number of interleaved rounds."""

    meetings: tuple[Meeting, ...] = (*map(meeting_at, SIZES), *map(discrete_meeting, DISCRETE_FLOWS))
    rounds: int = 9
    memory_of: tuple[str, ...] | None = None  # competitors whose memory is measured; `None` for all
    dims: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)  # at which the cost of one evaluation is measured
    hidden_dims: tuple[int, ...] = (512, 512)
    batch: int = 32
    scaling_rounds: int = 3
    products_size: Size = BIAS  # at which products with the Jacobian are measured
    products_rounds: int = 100
    steps_size: Size = BIAS  # at which the gradient modes are measured against the number of steps
    steps: tuple[int, ...] = (4, 16, 64)
    steps_rounds: int = 3


FULL = Plan()
QUICK = Plan(
    meetings=(
        meeting_at(TINY_LOW_RANK),
        meeting_at(TINY_CONCAT),
        *(discrete_meeting(name, latent_dim=8, context_dim=8, batch=5) for name in DISCRETE_FLOWS),
    ),
    rounds=2,
    memory_of=(BASELINE, PUBLISHED),
    dims=(4, 8),
    hidden_dims=(16, 16),
    batch=4,
    scaling_rounds=1,
    products_size=TINY_LOW_RANK,
    products_rounds=2,
    steps_size=TINY_CONCAT,
    steps=(2, 4),
    steps_rounds=1,
)


def compare(
    plan: Plan, *, threads: int | None = None, device: str = "cpu", say: Callable[[str], None] = print
) -> Comparison:
    """Measure everything in a plan; what fails is told in the results and does not stop the rest.

    Arguments:
        plan: What to measure.
        threads: Threads of PyTorch and XLA; by default all cores.
        device: On which PyTorch computes.
        say: Told what begins.
    """
    threads = threads or os.cpu_count() or 1
    scaling: dict[str, Any] = {"hidden_dims": plan.hidden_dims, "batch": plan.batch, "rounds": plan.scaling_rounds}
    steps, failures = [], []

    with tempfile.TemporaryDirectory() as cache:
        run = partial(call_apart, threads=threads, seconds=_CALL_SECONDS, cache=Path(cache), device=device)

        def attempt(what: str, call: Callable[[], Any], **options: Any) -> Any:
            say(what)
            try:
                return run(call, **options)
            except WorkerError as error:
                failures.append(f"{what}: {error}")
                say(failures[-1])

        sizes = [_measure(meeting, plan.rounds, plan.memory_of, run, say) for meeting in plan.meetings]
        for count in plan.steps:
            result = _measure(modes_at(plan.steps_size, count), plan.steps_rounds, None, run, say)
            for entry in result.measurements:
                if entry.median is None or entry.step_bytes is None:
                    failures.append(f"{result.size}: {entry.competitor} {entry.absent}")
                else:
                    steps.append(StepsPoint(entry.competitor, count, entry.median, entry.step_bytes))
        calls = {dim: partial(time_dimension, dim, **scaling) for dim in plan.dims}
        points = [attempt(f"cost at D = {dim}", call, threads=SCALING_THREADS) for dim, call in calls.items()]
        products = attempt(
            "products with the Jacobian", partial(time_products, plan.products_size, plan.products_rounds)
        )
    return Comparison(
        settings={
            "tolerance": TOLERANCE,
            "integration_time": INTEGRATION_TIME,
            "rounds": plan.rounds,
            "threads": threads,
            "device": device,
            "precision": "float32",
            "scaling": {**scaling, "threads": SCALING_THREADS},
            "steps": {"size": plan.steps_size.name, "method": METHOD, "rounds": plan.steps_rounds},
        },
        versions=describe_versions(*PEER_PACKAGES),
        hardware=describe_hardware(),
        commit=describe_commit(),
        sizes=tuple(sizes),
        steps=tuple(steps),
        scaling=tuple(itertools.chain(*filter(None, points))),
        products=products,
        failures=tuple(failures),
    )


def _measure(
    meeting: Meeting, rounds: int, memory_of: tuple[str, ...] | None, run: Run, say: Callable[[str], None]
) -> SizeResult:
    """Measure the time of all competitors together, and the memory of each alone."""
    names = list(meeting.make_entrants())
    say(f"{meeting.name}: time of {', '.join(names)}")
    try:
        result = run(partial(time_meeting, meeting, rounds))
    except WorkerError as error:
        return SizeResult(meeting.name, tuple(Measurement(name, f"failed: {error}") for name in names))
    say(f"{meeting.name}: memory")

    def with_memory(entry: Measurement) -> Measurement:
        if entry.absent or (memory_of is not None and entry.competitor not in memory_of):
            return entry
        try:
            peak = run(partial(measure_memory, meeting, entry.competitor), keep_freed_memory=False)
        except WorkerError as error:
            return replace(entry, absent=f"memory failed: {error}")
        return replace(entry, **peak._asdict())

    return replace(result, measurements=tuple(map(with_memory, result.measurements)))
