"""The exponential moving average of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightAverage", "gap_before"]


def gap_before(step: int) -> int:
    """Return how many steps lie between an update after this step and the one before it; 0 where there is none.

    Example:
        >>> [gap_before(step) for step in (1, 2, 8, 9, 10, 11, 12)]
        [1, 1, 1, 0, 0, 0, 4]
    """
    return 1 if step <= 8 else 0 if step % 4 else 4


class WeightAverage:
    """The average of the trained parameters: a ← d a + (1 − d) p after each of the steps n = 1, …, 8.

    d = min(decay, (1 + n) / (10 + n)), so that the first weights do not weigh on a short training. From there on it is
    a ← d⁴ a + (1 − d⁴) p after every fourth step. After each it would cost a small model 6 % of its time, as it passes
    over all weights, and weights change little in four steps.

    Source: Polyak and Juditsky (1992), "Acceleration of stochastic approximation by averaging"; the rise of d is that
    of TensorFlow's `ExponentialMovingAverage`.

    Arguments:
        module: Holds the parameters, which have their first values.
        decay: Above 0 and below 1.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = module
        self.decay = decay
        self.steps = 0
        self.trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self.averages = [value.detach().clone() for value in self.trained.values()]

    def update(self) -> None:
        """Take in the parameters after a step."""
        self.steps += 1
        gap = gap_before(self.steps)
        if not gap:
            return
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) ** gap
        get_ema_multi_avg_fn(decay)(self.averages, [value.detach() for value in self.trained.values()], None)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the module have the averages for a block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Any]:
        """Return what goes into a checkpoint beside the averages, which are the weights there."""
        return {"steps": self.steps, "weights": {name: value.detach() for name, value in self.trained.items()}}

    @torch.no_grad()
    def load(self, steps: int, weights: Mapping[str, Tensor]) -> None:
        """Take what the module has now for the averages, and give it these weights."""
        self.steps = steps
        for average, (name, value) in zip(self.averages, self.trained.items(), strict=True):
            average.copy_(value)
            value.copy_(weights[name])

    def _swap(self) -> None:
        for number, value in enumerate(self.trained.values()):
            value.data, self.averages[number] = self.averages[number], value.data
