"""Maximum likelihood within a budget of processor time, for any density."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from vae_flows.errors import NonFiniteLossError, complaint
from vae_flows.randomness import seeded

__all__ = ["BudgetedTraining"]

CPU = torch.device("cpu")
MAX_GRADIENT_NORM = 5.0


@dataclass
class BudgetedTraining:
    """A training that lasts for some seconds, can stop between any two steps, and goes on from its state.

    The learning rate of Adam falls to zero along half a cosine over the budget; gradients are cut to a norm of 5.

    Arguments:
        density: Maps points `(B, D)` to log p(x) `(B,)`; it is trained in place.
        draw: Returns the batch `(B, D)` of a step, given its number, from 0, and a generator that depends on seed and
            step alone.
        learning_rate: Learning rate at the start.
        seconds: Processor time of all steps and threads together.
        seed: Seed of batches and noise.
        step: Steps made.
        spent: Seconds that they took.
    """

    density: nn.Module
    draw: Callable[[int, torch.Generator], Tensor]
    learning_rate: float
    seconds: float
    seed: int
    step: int = 0
    spent: float = 0.0

    def __post_init__(self) -> None:
        self.optimizer = Adam(self.density.parameters(), lr=self.learning_rate)

    @property
    def part(self) -> float:
        """The part of the budget that is used up, at most 1."""
        return min(1.0, self.spent / self.seconds)

    def advance(self) -> float:
        """Make a step, and return its mean of −log p(x) in nats.

        Raises:
            NonFiniteLossError: The loss or a gradient is NaN or infinite.
            IntegrationError: A solve failed.
        """
        started = process_time()
        self.density.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * 0.5 * (1 + math.cos(math.pi * self.part))
        # Noise follows from the step alone, so that a training that was interrupted goes on as if it had not been.
        with seeded(CPU, self.seed, "train", self.step) as generator:
            loss = -self.density(self.draw(self.step, generator)).mean()
            self.optimizer.zero_grad()
            loss.backward()
        norm = nn.utils.clip_grad_norm_(self.density.parameters(), MAX_GRADIENT_NORM)
        if not math.isfinite(loss.item()) or not bool(norm.isfinite()):
            place, remedy = f"loss or gradient in step {self.step + 1}", "Lower the learning rate."
            raise NonFiniteLossError(complaint(place, "finite numbers", f"{loss.item()}, norm {norm.item()}", remedy))
        self.optimizer.step()
        self.step += 1
        self.spent += process_time() - started
        return loss.item()

    def state(self) -> dict[str, Any]:
        """Return what `restore` goes on from."""
        return {
            "weights": self.density.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "spent": self.spent,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.density.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.spent = state["step"], state["spent"]
