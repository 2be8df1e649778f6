"""One run: a table learned by one density, in a folder that holds everything that came of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from experiments.density.budgeted import BudgetedTraining
from experiments.density.densities import ContinuousDensity, GaussianDensity, spline_density
from experiments.density.fit import log_density
from experiments.density.tabular.data import TabularData
from experiments.density.tabular.settings import TabularSettings, build_flow
from vae_flows.cnf import ODESolver
from vae_flows.persistence.files import exclusive, sweep
from vae_flows.persistence.json_files import read_json, write_json
from vae_flows.persistence.records import to_plain
from vae_flows.runs.provenance import describe_commit, describe_hardware, describe_versions
from vae_flows.training.checkpoint import load_checkpoint, save_checkpoint

__all__ = ["METRICS", "MODELS", "STATE", "Moment", "run_table"]

METRICS, STATE = "metrics.json", "state.ckpt"
MOMENTS = 40
"""How often validation rows are scored at most, at equal parts of the budget."""

MODELS: Mapping[str, Callable[[TabularSettings, TabularData], nn.Module]] = {
    "gaussian": lambda _settings, data: GaussianDensity.of(data.train),
    "cnf": lambda settings, data: ContinuousDensity(build_flow(settings, data.train.shape[1])),
    "spline": lambda settings, data: spline_density(
        data.train.shape[1],
        num_transforms=settings.num_transforms,
        hidden_dims=settings.hidden_dims,
        seed=settings.seed,
    ),
}
"""The densities to compare; those without parameters to train are the maximum of the likelihood as they are built."""


class Moment(NamedTuple):
    """How far a training had come: steps, their seconds of a processor, and −log p(x) of validation rows in nats."""

    step: int
    seconds: float
    negative_log_likelihood: float


def run_table(
    folder: Path,
    model: str,
    data: TabularData,
    settings: TabularSettings,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Learn a table by one density and test it, unless a finished run of these settings and rows is there.

    Arguments:
        folder: Receives `state.ckpt`, from which an interrupted run of the same settings goes on, and, last,
            `metrics.json`. A run with other settings or of other rows is replaced.
        model: One of `MODELS`.
        data: The table.
        settings: The run.
        say: Told how far it is.

    Returns:
        What `metrics.json` holds.

    Raises:
        NonFiniteLossError: The loss is NaN or infinite.
        IntegrationError: A solve failed.
        MissingPackageError: zuko is not installed.
        FileError: The folder cannot be written to, is in use, or was removed meanwhile.
    """
    plain = {"model": model, **to_plain(settings), "fingerprint": data.fingerprint}
    with exclusive(folder) as lock:
        sweep(folder)
        if (folder / METRICS).exists() and (found := read_json(folder / METRICS)).get("settings") == plain:
            return found
        (folder / METRICS).unlink(missing_ok=True)
        density = MODELS[model](settings, data)
        parameters = sum(parameter.numel() for parameter in density.parameters())
        training: dict[str, Any] = {"steps": 0, "seconds": 0.0, "moments": []}
        if not isinstance(density, GaussianDensity):
            fit = _Fit(density, data, settings)
            if (folder / STATE).exists() and (state := load_checkpoint(folder / STATE, "settings"))[
                "settings"
            ] == plain:
                fit.restore(state)

            def keep() -> None:
                lock.require()
                save_checkpoint(folder / STATE, {**fit.state(), "settings": plain})
                loss = fit.moments[-1].negative_log_likelihood
                say(f"{fit.training.part:4.0%}  step {fit.training.step}  validation {loss:.3f} nats")

            fit.run(keep)
            training = {"steps": fit.training.step, "seconds": fit.training.spent, "moments": to_plain(fit.moments)}
        metrics = {
            "settings": plain,
            "data": {"name": data.name, "rows": [len(data.train), len(data.validation), len(data.test)]},
            "dim": data.train.shape[1],
            "test": _test(density, data, settings),
            "published": data.published,
            "training": training,
            "parameters": parameters,
            "versions": describe_versions("zuko"),
            "hardware": describe_hardware(),
            **describe_commit(),
        }
        lock.require()
        write_json(folder / METRICS, metrics)
    return metrics


class _Fit:
    """A training that ends with its budget or where validation stops getting better, with the best weights."""

    def __init__(self, density: nn.Module, data: TabularData, settings: TabularSettings) -> None:
        self.validation, self.patience = data.validation[: settings.validation_size], settings.patience
        self.moments: list[Moment] = []
        self.best: dict[str, Tensor] = {}

        def draw(_step: int, generator: torch.Generator) -> Tensor:
            return data.train[torch.randint(len(data.train), (settings.batch_size,), generator=generator)]

        self.training = BudgetedTraining(density, draw, settings.learning_rate, settings.seconds, settings.seed)

    @property
    def _best_place(self) -> int:
        losses = [moment.negative_log_likelihood for moment in self.moments]
        return min(range(len(losses)), key=losses.__getitem__)

    @property
    def is_over(self) -> bool:
        """Whether the budget is used up, or the latest validations brought nothing better."""
        stalled = bool(self.moments) and len(self.moments) - 1 - self._best_place >= self.patience
        return self.training.part >= 1 or stalled

    def run(self, on_moment: Callable[[], None]) -> None:
        """Train to the end, and leave the best weights in the density."""
        density = self.training.density
        while not self.is_over:
            self.training.advance()
            if self.training.part >= min(1.0, (len(self.moments) + 1) / MOMENTS):
                loss = _mean_loss(density.eval(), self.validation)
                self.moments.append(Moment(self.training.step, self.training.spent, loss))
                if self._best_place == len(self.moments) - 1:
                    self.best = copy.deepcopy(density.state_dict())
                on_moment()
        density.load_state_dict(self.best)

    def state(self) -> dict[str, Any]:
        """Return what `restore` goes on from."""
        moments = [list(moment) for moment in self.moments]
        return {"training": self.training.state(), "moments": moments, "best": self.best}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.training.restore(state["training"])
        self.moments = [Moment(*moment) for moment in state["moments"]]
        self.best = state["best"]


@torch.no_grad()
def _mean_loss(density: nn.Module, rows: Tensor) -> float:
    loss = -log_density(density, rows).mean().item()
    return loss if math.isfinite(loss) else math.inf


@torch.no_grad()
def _test(density: nn.Module, data: TabularData, settings: TabularSettings) -> dict[str, Any]:
    precise = copy.deepcopy(density).double().eval()
    if isinstance(precise, ContinuousDensity):
        precise.flow.eval_solver = ODESolver(rtol=settings.test_tolerance, atol=settings.test_tolerance)
    losses = -log_density(precise, data.test[: settings.test_size].double())
    return {
        "negative_log_likelihood": losses.mean().item(),
        "standard_error": losses.std().item() / math.sqrt(len(losses)),
        "rows": len(losses),
    }
