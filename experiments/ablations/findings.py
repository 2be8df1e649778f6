"""What trained settings came to, with intervals of what is compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.ablations.questions import DEFAULT, Question, Setting
from experiments.ablations.retests import NOISE, REFERENCE, TOLERANCE
from experiments.ablations.run import runs_of, tested_again
from experiments.ablations.step_times import STEP_TIME
from vae_flows.errors import DataError, complaint
from vae_flows.evaluation import PairedDifference, paired_difference
from vae_flows.persistence.json_files import read_json
from vae_flows.reporting import Estimate
from vae_flows.runs import Run

__all__ = ["CONFIDENCE", "Finding", "NoiseFinding", "ToleranceFinding", "find", "find_noise", "find_tolerances"]

CONFIDENCE = 0.95
"""With which all intervals of one table hold at once (Bonferroni)."""


@dataclass(frozen=True)
class Finding:
    """The runs of one setting, one a seed.

    Arguments:
        setting: The setting.
        negative_elbo: Test −ELBO in nats, over seeds.
        difference: Of −ELBO to that of the setting that it is compared with; `None` for that one itself.
        evaluations: Evaluations of a solve in the test, `None` without.
        by_epoch: Evaluations of a solve by seed and epoch of training.
        step_time: Processor time of a training step, over that of the default's, over seeds.
        parameters: Learned values of the posterior.
    """

    setting: Setting
    negative_elbo: Estimate
    difference: PairedDifference | None
    evaluations: Estimate
    by_epoch: tuple[tuple[float, ...], ...]
    step_time: Estimate
    parameters: int


@dataclass(frozen=True)
class ToleranceFinding:
    """What a tolerance came to on models that were trained at the default one.

    Arguments:
        tolerance: Relative and absolute.
        evaluations: Evaluations of a solve, over seeds.
        log_q_error: Root mean square of the error of log q in nats, over seeds.
        difference: Of −ELBO to that at the reference tolerance, by the same draws; `None` for the reference.
    """

    tolerance: float
    evaluations: Estimate
    log_q_error: Estimate
    difference: PairedDifference | None


@dataclass(frozen=True)
class NoiseFinding:
    """The variance that an estimate of the trace gives to log q.

    Arguments:
        setting: The trained setting.
        estimate: The estimate.
        variance: In nats², over seeds.
    """

    setting: Setting
    estimate: str
    variance: Estimate


def find(question: Question, root: Path, seeds: Sequence[int], *, tiny: bool = False) -> tuple[Finding, ...]:
    """Read the runs of a question.

    Raises:
        DataError: One is not finished, or damaged.
    """
    runs = {setting.name: runs_of(setting, root, seeds, tiny=tiny) for setting in question.settings}
    scores = {name: np.stack([_scores(run) for run in of_setting]) for name, of_setting in runs.items()}
    compared = sum(bool(setting.against) for setting in question.settings)
    level = 1 - (1 - CONFIDENCE) / max(compared, 1)
    found = []
    for setting in question.settings:
        difference = None
        if setting.against:
            difference = paired_difference(scores[setting.name], scores[setting.against], confidence=level)
        found.append(_finding(setting, runs[setting.name], difference))
    return tuple(found)


def find_tolerances(
    question: Question, root: Path, seeds: Sequence[int], *, tiny: bool = False
) -> tuple[ToleranceFinding, ...]:
    """Read what tolerances came to, the reference first."""
    (setting,) = tested_again(question)
    stored = [read_json(run.folder / TOLERANCE)["tolerances"] for run in runs_of(setting, root, seeds, tiny=tiny)]
    tolerances = [entry["tolerance"] for entry in stored[0]]
    scores = {
        tolerance: np.array([of_seed[index]["negative_elbo"] for of_seed in stored])
        for index, tolerance in enumerate(tolerances)
    }
    level = 1 - (1 - CONFIDENCE) / (len(tolerances) - 1)
    found = []
    for index, tolerance in enumerate(tolerances):
        entries: list[dict[str, Any]] = [of_seed[index] for of_seed in stored]
        # Both tolerances test the same models: what varies is the difference of each image and each training.
        changes = scores[tolerance] - scores[REFERENCE]
        difference = paired_difference(changes, np.zeros_like(changes), confidence=level)
        found.append(
            ToleranceFinding(
                tolerance,
                Estimate.of([entry["evaluations_per_solve"] for entry in entries]),
                Estimate.of([entry["log_q_error"] for entry in entries]),
                None if tolerance == REFERENCE else difference,
            )
        )
    return tuple(found)


def find_noise(question: Question, root: Path, seeds: Sequence[int], *, tiny: bool = False) -> tuple[NoiseFinding, ...]:
    """Read the variances of log q, by trained setting and estimate."""
    found = []
    for setting in tested_again(question):
        stored = [read_json(run.folder / NOISE)["estimates"] for run in runs_of(setting, root, seeds, tiny=tiny)]
        for index, entry in enumerate(stored[0]):
            variances = [of_seed[index]["variance"] for of_seed in stored]
            found.append(NoiseFinding(setting, entry["estimate"], Estimate.of(variances)))
    return tuple(found)


def _finding(setting: Setting, runs: Sequence[Run], difference: PairedDifference | None) -> Finding:
    metrics = [metrics for run in runs if (metrics := run.metrics) is not None]
    by_epoch = tuple(tuple(_number(record.evaluations_per_solve) for record in run.history) for run in runs)
    return Finding(
        setting,
        Estimate.of([each.test.negative_elbo for each in metrics]),
        difference,
        Estimate.of([_number(each.test.evaluations_per_solve) for each in metrics]),
        by_epoch,
        Estimate.of([1.0 if setting == DEFAULT else read_json(run.folder / STEP_TIME)["ratio"] for run in runs]),
        metrics[0].posterior_parameters,
    )


def _scores(run: Run) -> Any:
    scores = run.scores
    if scores is None:
        raise DataError(complaint(str(run.folder), "a finished run with scores", run.status, "Run the command again."))
    return scores.negative_elbo


def _number(value: float | None) -> float:
    return math.nan if value is None else value
