"""Training by maximum likelihood within a budget, and the test."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import process_time
from typing import Any

import torch
from torch import Tensor

from experiments.images.settings import ImageSettings
from vae_flows.cnf import QuantizedDensity
from vae_flows.data import Images
from vae_flows.errors import NonFiniteLossError, complaint
from vae_flows.randomness import seeded

__all__ = ["Fit", "Moment", "Score", "Training", "evaluate"]

CPU = torch.device("cpu")
MOMENTS = 12
"""How often validation images are scored, at equal parts of the budget."""
VALIDATION_SIZE = 50
TEST_BATCH = 100


@dataclass(frozen=True)
class Moment:
    """How far a training had come.

    Arguments:
        step: Steps made.
        seconds: Processor time of training, without validation.
        bits_per_dim: Of validation images.
        evaluations: Evaluations of the dynamics in a pass through all flows, at that step.
    """

    step: int
    seconds: float
    bits_per_dim: float
    evaluations: int


@dataclass(frozen=True)
class Fit:
    """What a training came to: steps, seconds of a processor, and its moments."""

    steps: int
    seconds: float
    moments: tuple[Moment, ...]


@dataclass(frozen=True)
class Score:
    """The test: bits a dimension by one draw of noise and trace per image, with the standard error over images."""

    bits_per_dim: float
    standard_error: float
    evaluations: float
    images: int


@dataclass
class Training:
    """A training that can stop anywhere and go on from its state.

    Arguments:
        density: What is trained, in place.
        images: Training images.
        validation: Images of which some are scored on the way.
        settings: Optimiser and budget.
    """

    density: QuantizedDensity
    images: Images
    validation: Images
    settings: ImageSettings
    step: int = 0
    seconds: float = 0.0
    moments: list[Moment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.Adam(self.density.parameters(), lr=self.settings.learning_rate)
        self.steps_per_epoch = math.ceil(len(self.images) / self.settings.batch_size)

    @property
    def spent(self) -> float:
        """The part of the budget that is used up."""
        if self.settings.seconds is not None:
            return self.seconds / self.settings.seconds
        return self.step / (self.steps_per_epoch * (self.settings.epochs or 1))

    def state(self) -> dict[str, Any]:
        """Return what `restore` goes on from."""
        return {
            "weights": self.density.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "moments": [vars(moment) for moment in self.moments],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.density.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.moments = [Moment(**moment) for moment in state["moments"]]

    def run(self, on_moment: Callable[[Moment], None] = lambda _: None) -> Fit:
        """Train until the budget is used up.

        Arguments:
            on_moment: Called whenever validation images were scored.

        Raises:
            NonFiniteLossError: The loss is NaN or infinite.
            IntegrationError: A solve failed.
        """
        while self.spent < 1:
            evaluations = self._step()
            if self.spent >= (len(self.moments) + 1) / MOMENTS:
                bits = evaluate(self.density, self.validation, VALIDATION_SIZE, self.settings.seed).bits_per_dim
                self.moments.append(Moment(self.step, self.seconds, bits, evaluations))
                on_moment(self.moments[-1])
        return Fit(self.step, self.seconds, tuple(self.moments))

    def _step(self) -> int:
        started = process_time()
        self.density.train()
        epoch, place = divmod(self.step, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        # Noise follows from the step alone, so that a training that was interrupted goes on as if it had not been.
        with seeded(CPU, self.settings.seed, "train", self.step):
            found = self.density(self._batch(epoch, place))
            loss = found.bits_per_dim.mean()
            self.optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.density.parameters(), self.settings.max_gradient_norm)
        if not math.isfinite(loss.item()) or not bool(norm.isfinite()):
            place, remedy = f"loss or gradient in step {self.step + 1}", "Lower the learning rate."
            raise NonFiniteLossError(complaint(place, "finite numbers", f"{loss.item()}, norm {norm.item()}", remedy))
        self.optimizer.step()
        self.step += 1
        self.seconds += process_time() - started
        return found.work.forward_evaluations if found.work is not None else 0

    def _batch(self, epoch: int, place: int) -> Tensor:
        with seeded(CPU, self.settings.seed, "order", epoch) as generator:
            order = torch.randperm(len(self.images), generator=generator)
        size = self.settings.batch_size
        return self.images.batch(order[place * size : (place + 1) * size])

    def _learning_rate(self) -> float:
        warm = min(1.0, (self.step + 1) / self.settings.warmup_steps) if self.settings.warmup_steps else 1.0
        fallen = 0.5 * (1 + math.cos(math.pi * min(1.0, self.spent))) if self.settings.decay else 1.0
        return self.settings.learning_rate * warm * fallen


@torch.no_grad()
def evaluate(density: QuantizedDensity, images: Images, size: int | None, seed: int) -> Score:
    """Score the first `size` images, or all."""
    density.eval()
    bits, evaluations = [], []
    with seeded(CPU, seed, "test"):
        for batch in _batches(images, size):
            found = density(batch)
            bits.append(found.bits_per_dim)
            evaluations.append(found.work.forward_evaluations if found.work is not None else 0)
    values = torch.cat(bits).double()
    error = values.std().item() / math.sqrt(len(values))
    return Score(values.mean().item(), error, sum(evaluations) / len(evaluations), len(values))


def _batches(images: Images, size: int | None) -> Iterator[Tensor]:
    count = len(images) if size is None else min(size, len(images))
    for start in range(0, count, TEST_BATCH):
        yield images.batch(range(start, min(start + TEST_BATCH, count)))
