"""What regularisers cost and save: evaluations of the dynamics against likelihood, over several seeds."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.density.plots import plot_trials
from experiments.density.report import describe_setting, without_history
from experiments.density.run import run_density
from experiments.density.settings import DensitySettings
from vae_flows.persistence.json_files import to_lines, write_files
from vae_flows.reporting import Estimate, Table
from vae_flows.reporting.plots import to_png
from vae_flows.reporting.tables import Entry, tables_to_markdown

__all__ = ["TRIALS", "Trial", "TrialResult", "regularizer_tables", "run_trials", "write_trials"]

JSON, MARKDOWN, PICTURE = "regularizers.json", "regularizers.md", "regularizers.png"
COLUMNS = (
    "regulariser",
    "test −log p(x) (nats)",
    "to none",
    "evaluations / solve",
    "times none",
    "evaluations in training",
    "processor, s",
)


@dataclass(frozen=True)
class Trial:
    """A way to regularise.

    Arguments:
        name: What it is called, with its weight.
        changes: The settings that it is made of.
    """

    name: str
    changes: Mapping[str, float]

    @property
    def folder(self) -> str:
        """Name of the folder of its runs.

        Example:
            >>> Trial("kinetic energy 0.05", {}).folder
            'kinetic-energy-0-05'
        """
        return re.sub(r"\W+", "-", self.name).strip("-")


TRIALS = (
    Trial("none", {}),
    Trial("kinetic energy 0.05", {"kinetic_energy": 0.05}),
    Trial("kinetic energy 0.2", {"kinetic_energy": 0.2}),
    Trial("Jacobian norm 0.01", {"jacobian_norm": 0.01}),
    Trial("Jacobian norm 0.05", {"jacobian_norm": 0.05}),
    Trial("both 0.05 (RNODE)", {"kinetic_energy": 0.05, "jacobian_norm": 0.05}),
    Trial("random end time ± 0.25 (STEER)", {"end_time_jitter": 0.25}),
)
"""The first is what the others are compared with."""


@dataclass(frozen=True)
class TrialResult:
    """The runs of one trial on one toy density, ordered by seed: their `metrics.json`.

    Arguments:
        trial: The trial.
        records: One entry a seed.
    """

    trial: Trial
    records: tuple[Mapping[str, Any], ...]

    @property
    def data(self) -> str:
        """Name of the toy density."""
        return self.records[0]["settings"]["data"]

    def values(self, group: str, name: str) -> list[float]:
        """Return an entry of each record, such as that called `excess` of the group `test`."""
        return [record[group][name] for record in self.records]

    @property
    def points(self) -> list[tuple[float, float]]:
        """Evaluations of a solve and excess of −log p(x) of each seed."""
        return list(zip(self.values("test", "evaluations_per_solve"), self.values("test", "excess"), strict=True))


def run_trials(
    settings: DensitySettings,
    folder: Path,
    *,
    data: Sequence[str],
    seeds: Sequence[int],
    trials: Iterable[Trial] = TRIALS,
    say: Callable[[str], None] = print,
) -> list[TrialResult]:
    """Make the runs that are not finished, one after the other, and return them all.

    Arguments:
        settings: What the runs share.
        folder: Receives a folder for each toy density, trial and seed.
        data: Toy densities.
        seeds: Seeds of each trial.
        trials: What to compare.
        say: Receives a line for each run.
    """
    results = []
    for name in data:
        for trial in trials:
            records = []
            for seed in seeds:
                chosen = replace(settings, data=name, seed=seed, **trial.changes)
                place = folder / name / trial.folder / f"seed-{seed}"
                records.append(run_density(place, chosen, draw=False))
                test = records[-1]["test"]
                told = f"{test['excess']:.3f} nats of excess, {test['evaluations_per_solve']:.0f} evaluations per solve"
                say(f"{name}, {trial.name}, seed {seed}: {told}")
            results.append(TrialResult(trial, tuple(records)))
    return results


def regularizer_tables(results: Sequence[TrialResult]) -> list[Table]:
    """Tabulate trials, one table a toy density; the first trial of each is what the others are compared with."""
    return [_table(data, group) for data, group in _by_data(results)]


def write_trials(results: Sequence[TrialResult], destination: Path) -> tuple[list[Table], tuple[Path, ...]]:
    """Write `regularizers.json`, `regularizers.md` and `regularizers.png`, and return the tables and the paths.

    Arguments:
        results: What `run_trials` returned.
        destination: Where to write.
    """
    tables = regularizer_tables(results)
    runs = [(result.trial.name, record) for result in results for record in result.records]
    points = {data: {result.trial.name: result.points for result in group} for data, group in _by_data(results)}
    files: dict[str, bytes | str] = {
        JSON: to_lines("runs", ({"trial": trial, **without_history(record)} for trial, record in runs)),
        MARKDOWN: tables_to_markdown(tables),
        PICTURE: to_png(plot_trials(points)),
    }
    return tables, write_files(destination, files)


def _by_data(results: Sequence[TrialResult]) -> list[tuple[str, list[TrialResult]]]:
    names = dict.fromkeys(result.data for result in results)
    return [(name, [result for result in results if result.data == name]) for name in names]


def _table(data: str, results: Sequence[TrialResult]) -> Table:
    plain = results[0]
    rows = tuple(_row(result, plain) for result in results)
    settings, count = plain.records[0]["settings"], len(plain.records)
    truth = Estimate.of(plain.values("test", "true_negative_log_likelihood"))
    note = (
        f"Mean ± standard error over {count} seeds; differences and ratios are those of runs with the same seed. The "
        f"true density has {truth.mean:.3f} nats. Solves of the test at tolerance {settings['test_tolerance']:g}."
    )
    return Table(f"{data}: regularisers", COLUMNS, rows, (note, describe_setting(plain.records)))


def _row(result: TrialResult, plain: TrialResult) -> tuple[Entry, ...]:
    name, solve = "negative_log_likelihood", "evaluations_per_solve"
    losses, evaluations = result.values("test", name), result.values("test", solve)
    differences = [ours - theirs for ours, theirs in zip(losses, plain.values("test", name), strict=True)]
    ratios = [ours / theirs for ours, theirs in zip(evaluations, plain.values("test", solve), strict=True)]
    texts = (
        result.trial.name,
        _mean_and_error(losses, 3),
        "" if result is plain else _mean_and_error(differences, 3),
        _mean_and_error(evaluations, 1),
        "" if result is plain else _mean_and_error(ratios, 2),
        f"{statistics.fmean(result.values('training', 'forward_evaluations')):,.0f}",
        f"{statistics.fmean(record['processor_seconds'] for record in result.records):.0f}",
    )
    return tuple(map(Entry, texts))


def _mean_and_error(values: Sequence[float], decimals: int) -> str:
    """Word mean and standard error, or the one value alone.

    Example:
        >>> _mean_and_error([1.0, 2.0, 3.0], 2)
        '2.00 ± 0.58'
    """
    if len(values) == 1:
        return f"{values[0]:.{decimals}f}"
    error = statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.fmean(values):.{decimals}f} ± {error:.{decimals}f}"
