"""What an average of weights, callbacks and loggers cost beside a quick epoch.

`python -m experiments.speed.training_cost` measures it. Whole epochs of equal trainings differ by as much as this.
So the average of weights is left out of every other block of four steps of one training, and the two halves of a pair
of blocks are compared; what comes once an epoch is timed by itself. All time is that of the processor
(`time.process_time`), of which other programs take none, in one thread.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from experiments.threads import torch_threads
from experiments.training_steps import TrainingSteps
from vae_flows.benchmark.presets import PRESETS
from vae_flows.persistence.json_files import write_json
from vae_flows.runs.build import build_data, build_vae
from vae_flows.runs.provenance import describe_provenance
from vae_flows.runs.settings import RunSettings
from vae_flows.training.callbacks import TrainingState, stop_is_asked
from vae_flows.training.epoch import EpochRunner
from vae_flows.training.logs import RunLogs
from vae_flows.training.progress import TrainingProgress
from vae_flows.training.records import EpochRecord

__all__ = ["Cost", "TrainingCosts", "measure_costs", "paired_share"]

RESULTS = Path(__file__).parents[1] / "results" / "training"
BLOCK = 4
"""Steps after which the average takes in the weights once."""
EXCHANGES = 3
"""Of weights in an epoch: for validation, for the best ones and for callbacks."""
CONFIDENCE = 0.95


class Cost(NamedTuple):
    """A share of an epoch's time, with an interval that holds it with 95 %."""

    share: float
    low: float
    high: float


class TrainingCosts(NamedTuple):
    """What each costs beside an epoch of the quick preset.

    Arguments:
        posterior: Name of the posterior.
        epoch: Processor seconds of an epoch without any of them, with validation.
        average: The average of weights: its updates, and the exchanges of weights for validation, for the best ones and
            for callbacks.
        loggers: `csv` and `tensorboard`, at the last epoch, whose table is the longest.
        callbacks: Three that look at the state.
    """

    posterior: str
    epoch: float
    average: Cost
    loggers: Cost
    callbacks: Cost

    @property
    def total(self) -> float:
        """All of it, as a share of the epoch."""
        return self.average.share + self.loggers.share + self.callbacks.share


class Looking:
    """A callback that looks at the state and does no more."""

    def on_epoch_end(self, state: TrainingState) -> None:
        _ = state.record.validation_negative_elbo < state.best.validation_negative_elbo


def paired_share(with_it: Sequence[float], without: Sequence[float]) -> Cost:
    """Return the median difference of paired times as a share of the median time without.

    Example:
        >>> [round(value, 3) for value in paired_share([1.1] * 9, [1.0] * 9)]
        [0.1, 0.1, 0.1]
    """
    return _median(np.subtract(with_it, without) / np.median(without))


def measure_costs(settings: RunSettings, *, pairs: int = 400, repetitions: int = 100) -> TrainingCosts:
    """Measure the costs beside an epoch of a run.

    Arguments:
        settings: The run's.
        pairs: Pairs of blocks of steps, one of which averages.
        repetitions: Of what comes once an epoch.
    """
    training = replace(settings.training, ema_decay=0.999)
    data = build_data(settings)
    with torch_threads(1):
        timed = TrainingSteps(build_vae(settings, data), data, training)
        runner = timed.runner
        with_it, without = _time_blocks(timed, pairs)
        epoch, record = _time_epoch(runner)
        steps = math.ceil(len(data.train) / training.batch_size)
        update = paired_share(with_it, without)
        in_steps = float(np.median(without)) * steps / BLOCK / epoch  # the share of training in an epoch
        exchange = _median_time(lambda: _exchange(runner), repetitions)
        loggers = _time_loggers(record, training.max_epochs, repetitions)
        state = TrainingState(1, record, (record,), record, runner.vae, None, training)
        callbacks = _times(lambda: stop_is_asked([Looking()] * 3, state), repetitions)
    average = Cost(*(share * in_steps + EXCHANGES * exchange / epoch for share in update))
    beside = (_median(np.array(seconds) / epoch) for seconds in (loggers, callbacks))
    return TrainingCosts(settings.posterior, epoch, average, *beside)


def _time_blocks(timed: TrainingSteps, pairs: int) -> tuple[list[float], list[float]]:
    """Time blocks of steps of one training, with and without the average, in the orders A B, B A, and so on."""
    runner, times = timed.runner, {True: [], False: []}
    average = runner.average
    for number in range(pairs + 5):
        for averaged in (True, False) if number % 2 else (False, True):
            runner.average = average if averaged else None
            seconds = timed.take(BLOCK)
            if number >= 5:  # the first ones warm up, and average after every step
                times[averaged].append(seconds)
    runner.average = average
    return times[True], times[False]


def _time_epoch(runner: EpochRunner, rounds: int = 3) -> tuple[float, EpochRecord]:
    """Return the median processor time of epochs without an average, and a record."""
    average, runner.average, record, times = runner.average, None, None, []
    for number in range(rounds):
        start = time.process_time()
        with TrainingProgress(rounds, 0, show=False) as bars:
            record = runner.run(number + 1, bars)
        times.append(time.process_time() - start)
    runner.average = average
    assert record is not None
    return float(np.median(times)), record


def _exchange(runner: EpochRunner) -> None:
    with runner.averaged():
        pass


def _time_loggers(record: EpochRecord, epochs: int, repetitions: int) -> list[float]:
    history = [replace(record, epoch=number) for number in range(1, epochs + 1)]
    with tempfile.TemporaryDirectory() as folder, RunLogs(Path(folder), 0, ("csv", "tensorboard")) as logs:
        return _times(lambda: logs.write(history), repetitions)


def _times(function: Callable[[], Any], repetitions: int) -> list[float]:
    function()
    found = []
    for _ in range(repetitions):
        start = time.process_time()
        function()
        found.append(time.process_time() - start)
    return found


def _median_time(function: Callable[[], Any], repetitions: int) -> float:
    return float(np.median(_times(function, repetitions)))


def _median(shares: NDArray[np.float64]) -> Cost:
    """Return the median with the interval of order statistics, which holds for any distribution."""
    ordered = np.sort(shares)
    rank = max(int(stats.binom.ppf((1 - CONFIDENCE) / 2, len(ordered), 0.5)) - 1, 0)
    return Cost(float(np.median(ordered)), float(ordered[rank]), float(ordered[-1 - rank]))


def write_costs(costs: Sequence[TrainingCosts], pairs: int, folder: Path = RESULTS) -> Path:
    """Write the costs to `cost.json`, with what they were measured on."""
    folder.mkdir(parents=True, exist_ok=True)
    measured = [{**row._asdict(), "total": row.total} for row in costs]
    names = ("average", "loggers", "callbacks")
    plain = [{name: value._asdict() if name in names else value for name, value in row.items()} for row in measured]
    write_json(folder / "cost.json", {"costs": plain, "pairs": pairs, "threads": 1, **describe_provenance()})
    return folder / "cost.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the costs beside quick epochs of two posteriors, the cheapest and a continuous one, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=400, help="pairs of blocks of four steps")
    parser.add_argument("--posteriors", nargs="+", default=["none", "ffjord"])
    parser.add_argument("--publish", action="store_true", help="write experiments/results/training/cost.json")
    given = parser.parse_args(arguments)
    quick = PRESETS["quick"]
    costs = [measure_costs(quick.settings(quick.data[0], name, 1), pairs=given.pairs) for name in given.posteriors]
    for row in costs:
        print(f"{row.posterior}: an epoch takes {row.epoch:.3f} s of a processor; {row.total:.2%} are added")
        for name in ("average", "loggers", "callbacks"):
            share, low, high = getattr(row, name)
            print(f"    {name:>9}: {share:.3%} ({low:.3%} to {high:.3%})")
    if given.publish:
        print(f"Written to {write_costs(costs, given.pairs)}.")


if __name__ == "__main__":
    main()
