"""What a training step takes: trained models in turn with the default's, so that a busy machine slows both alike."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

from experiments.ablations.retests import kept
from experiments.threads import torch_threads
from experiments.training_steps import TrainingSteps
from vae_flows.runs import Run

__all__ = ["STEP_TIME", "compare_steps"]

STEP_TIME = "step-time.json"
PAIRS, TINY_PAIRS = 10, 1
WARM_UP = 2
"""Pairs that are not counted."""
LEARNING_RATE = 1e-9
"""So that steps leave models as they were trained."""


def compare_steps(run: Run, default: Run, *, tiny: bool = False) -> dict[str, Any]:
    """Measure the processor time of a training step of a run, over that of the default's run of the same seed.

    The trained models of both make steps on the same batches in one thread, in the orders A B, B A, and so on; the
    ratio is the median of those of the pairs. What is found stays in the run's folder.
    """
    sizes = {"pairs": TINY_PAIRS if tiny else PAIRS}
    return kept(run.folder / STEP_TIME, sizes, lambda: _compared(run, default, **sizes))


def _compared(run: Run, default: Run, pairs: int) -> dict[str, Any]:
    both = [_steps_of(each) for each in (run, default)]
    ratios = []
    with torch_threads(1):
        for number in range(WARM_UP + pairs):
            order = (0, 1) if number % 2 else (1, 0)
            taken = {place: both[place].take() for place in order}
            if number >= WARM_UP:
                ratios.append(taken[0] / taken[1])
    return {"ratio": statistics.median(ratios)}


def _steps_of(run: Run) -> TrainingSteps:
    training = replace(run.settings.training, learning_rate=LEARNING_RATE)
    return TrainingSteps(run.load_model(), run.load_data(), training)
