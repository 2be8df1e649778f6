"""One run of the discrete flow to compare FFJORD with: toy densities learned by a flow like Glow."""

from __future__ import annotations

import copy
import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.density.budgeted import BudgetedTraining
from experiments.density.densities import ZukoDensity, glow_density
from experiments.density.fit import Score, held_out_points, log_density, score_of
from experiments.density.picture import Array, picture_density
from vae_flows.data import ToyDensity, toy_density
from vae_flows.errors import InvalidInputError, complaint, require_number, require_positive
from vae_flows.persistence.archives import read_npz, write_npz
from vae_flows.persistence.files import exclusive, sweep
from vae_flows.persistence.json_files import read_json, write_json
from vae_flows.persistence.records import to_plain
from vae_flows.runs.provenance import describe_commit, describe_hardware, describe_versions

__all__ = ["METRICS", "GlowSettings", "read_glow_density", "run_glow"]

METRICS, ARRAYS = "metrics.json", "density.npz"


@dataclass(frozen=True)
class GlowSettings:
    """A toy density to learn, the discrete flow that learns it, and its training.

    Arguments:
        data: Name of the toy density.
        seconds: Processor time of training.
        seed: Seed of weights and draws.
        num_steps: Steps of flow, in sequence.
        hidden_dims: Widths of the hidden layers of a coupling's network.
        least_scale: s; each coupling scales by a number between s and 1 / s.
        batch_size: Points per step of training, drawn anew for each.
        learning_rate: Learning rate at the start.
        test_size: Points of the test.

    Raises:
        InvalidInputError: A value is out of range.
        UnknownNameError: There is no such density.
    """

    data: str
    seconds: float
    seed: int = 0
    num_steps: int = 16
    hidden_dims: tuple[int, ...] = (64, 64)
    least_scale: float = 0.3
    batch_size: int = 256
    learning_rate: float = 2e-3
    test_size: int = 10_000

    def __post_init__(self) -> None:
        owner = type(self).__name__
        for name in ("num_steps", "batch_size", "test_size"):
            require_positive(owner, **{name: getattr(self, name)})
        for name in ("seconds", "learning_rate"):
            require_number(owner, name, getattr(self, name), above=0.0)
        if not 0 < self.least_scale < 1:
            raise InvalidInputError(complaint(f"{owner} least_scale", "a number between 0 and 1", self.least_scale))
        toy_density(self.data)


def run_glow(folder: Path, settings: GlowSettings) -> dict[str, Any]:
    """Learn a density, test it and compute it on a grid, unless a finished run of these settings is there.

    Arguments:
        folder: Receives the grid in `density.npz` and, last, `metrics.json`. A run with other settings, or one that was
            interrupted, is replaced.
        settings: The run.

    Returns:
        What `metrics.json` holds.

    Raises:
        NonFiniteLossError: The loss is NaN or infinite.
        MissingPackageError: zuko is not installed.
        FileError: The folder cannot be written to, is in use, or was removed meanwhile.
    """
    toy = toy_density(settings.data)
    flow = glow_density(
        2,
        num_steps=settings.num_steps,
        hidden_dims=settings.hidden_dims,
        least_scale=settings.least_scale,
        seed=settings.seed,
    )
    with exclusive(folder) as lock:
        sweep(folder)
        if (folder / METRICS).exists() and read_json(folder / METRICS).get("settings") == to_plain(settings):
            return read_json(folder / METRICS)
        (folder / METRICS).unlink(missing_ok=True)
        start, start_of_processor = time.perf_counter(), time.process_time()
        training = _train(flow, toy, settings)
        score = _evaluate(flow, toy, settings)
        lock.require()
        write_npz(folder / ARRAYS, {"density": picture_density(flow, toy, settings.seed)})
        metrics = {
            "settings": to_plain(settings),
            "test": dataclasses.asdict(score),
            "training": {"steps": training.step, "processor_seconds": training.spent},
            "parameters": sum(parameter.numel() for parameter in flow.parameters()),
            "seconds": time.perf_counter() - start,
            "processor_seconds": time.process_time() - start_of_processor,
            "versions": describe_versions("zuko"),
            "hardware": describe_hardware(),
            **describe_commit(),
        }
        lock.require()
        write_json(folder / METRICS, metrics)
    return metrics


def read_glow_density(folder: Path) -> Array:
    """Read the density on the grid of a picture that a finished run left.

    Raises:
        DataError: There is none, or it is damaged.
    """
    return read_npz(folder / ARRAYS, ["density"])["density"]


def _train(flow: ZukoDensity, toy: ToyDensity, settings: GlowSettings) -> BudgetedTraining:
    training = BudgetedTraining(
        flow,
        lambda _step, generator: toy.sample(settings.batch_size, generator),
        settings.learning_rate,
        settings.seconds,
        settings.seed,
    )
    while training.part < 1:
        training.advance()
    return training


@torch.no_grad()
def _evaluate(flow: ZukoDensity, toy: ToyDensity, settings: GlowSettings) -> Score:
    x = held_out_points(toy, settings.seed, settings.test_size)
    return score_of(log_density(copy.deepcopy(flow).double(), x), toy.log_density(x))
