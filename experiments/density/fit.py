"""Training by maximum likelihood, and the test."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from experiments.density.settings import DensitySettings
from vae_flows.cnf import ContinuousNormalizingFlow, WorkCount
from vae_flows.data import ToyDensity
from vae_flows.errors import NonFiniteLossError, complaint
from vae_flows.randomness import seeded

__all__ = ["Fit", "Score", "evaluate", "fit", "held_out_points", "log_density", "score_of"]

CPU = torch.device("cpu")
WINDOWS = 50
"""Entries of the history of a training, each the mean of as many steps."""
CHUNK = 1024
"""Points of one solve without gradients: few enough for the processor's cache, which makes it several times faster."""


@dataclass(frozen=True)
class Fit:
    """What a training came to.

    Arguments:
        negative_log_likelihood: Its mean over windows of steps, in nats, by the estimates that were trained on.
        evaluations_per_solve: Evaluations of the dynamics in a forward solve, its mean over the same windows.
        forward_evaluations: Their sum over all steps.
        seconds: Wall-clock time.
    """

    negative_log_likelihood: list[float]
    evaluations_per_solve: list[float]
    forward_evaluations: int
    seconds: float


@dataclass(frozen=True)
class Score:
    """The test, in nats, with the exact trace.

    Arguments:
        negative_log_likelihood: Mean over the points.
        standard_error: Its standard error.
        true_negative_log_likelihood: That of the true density on the same points, which estimates the entropy.
        excess: The difference, an estimate of KL(truth ‖ model).
        excess_standard_error: Its standard error, smaller than that of either term.
        evaluations_per_solve: Evaluations of the dynamics in a solve of the test, the mean over its chunks of points;
            `None` for a flow that solves nothing.
        points: Number of points.
    """

    negative_log_likelihood: float
    standard_error: float
    true_negative_log_likelihood: float
    excess: float
    excess_standard_error: float
    evaluations_per_solve: float | None
    points: int


def fit(
    flow: ContinuousNormalizingFlow,
    toy: ToyDensity,
    settings: DensitySettings,
    on_step: Callable[[int, float, int], None] = lambda *_: None,
) -> Fit:
    """Maximise the likelihood of points drawn anew for each step.

    Arguments:
        flow: The density to train, in place.
        toy: Where the points come from.
        settings: Optimiser and seed.
        on_step: Called after each step with its number, from 1, the loss and the evaluations of its solve.

    Raises:
        NonFiniteLossError: The loss is NaN or infinite.
        IntegrationError: A solve failed.
    """
    optimizer = Adam(flow.parameters(), lr=settings.learning_rate)
    schedule = CosineAnnealingLR(optimizer, settings.steps)
    losses, evaluations, started = [], [], perf_counter()
    flow.train()
    with seeded(CPU, settings.seed, "train") as generator:
        for step in range(1, settings.steps + 1):
            scored = flow().evaluate(toy.sample(settings.batch_size, generator))
            loss = -scored.log_q.mean()
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                place, remedy = f"loss in step {step}", "Lower the learning rate."
                raise NonFiniteLossError(complaint(place, "a finite number", losses[-1], remedy))
            if scored.regularization is not None:
                loss = loss + scored.regularization.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            evaluations.append(_evaluations(flow))
            on_step(step, losses[-1], evaluations[-1])
    return Fit(_window_means(losses), _window_means(evaluations), sum(evaluations), perf_counter() - started)


@torch.no_grad()
def evaluate(flow: ContinuousNormalizingFlow, toy: ToyDensity, settings: DensitySettings) -> Score:
    """Score points that training has not seen, in double precision."""
    precise = copy.deepcopy(flow).double().eval()
    x = held_out_points(toy, settings.seed, settings.test_size)
    density, chunks, evaluations = precise(), [], []
    for points in x.split(CHUNK):
        chunks.append(density.log_prob(points))
        evaluations.append(_evaluations(precise))
    return score_of(torch.cat(chunks), toy.log_density(x), sum(evaluations) / len(evaluations))


def held_out_points(toy: ToyDensity, seed: int, count: int) -> Tensor:
    """Draw the points `(count, 2)` of the test of a seed, which training has not seen, in double precision."""
    with seeded(CPU, seed, "test") as generator:
        return toy.sample(count, generator).double()


def score_of(log_q: Tensor, truth: Tensor, evaluations_per_solve: float | None = None) -> Score:
    """Score log-densities `(N,)` of a model against the true ones of the same points."""
    nll, error = _mean_and_error(-log_q)
    excess, excess_error = _mean_and_error(truth - log_q)
    return Score(
        negative_log_likelihood=nll,
        standard_error=error,
        true_negative_log_likelihood=-truth.mean().item(),
        excess=excess,
        excess_standard_error=excess_error,
        evaluations_per_solve=evaluations_per_solve,
        points=len(truth),
    )


def log_density(log_prob: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return log p(x) of points `(N, D)`, computed in chunks."""
    return torch.cat([log_prob(points) for points in x.split(CHUNK)])


def _evaluations(flow: ContinuousNormalizingFlow) -> int:
    return (flow.last_solve or WorkCount()).forward_evaluations


def _mean_and_error(values: Tensor) -> tuple[float, float]:
    return values.mean().item(), values.std().item() / math.sqrt(len(values))


def _window_means(values: list[float] | list[int]) -> list[float]:
    size = math.ceil(len(values) / WINDOWS)
    windows = [values[start : start + size] for start in range(0, len(values), size)]
    return [sum(window) / len(window) for window in windows]
