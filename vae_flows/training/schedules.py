"""Learning rates over the epochs of a run, by name; `torch.optim.lr_scheduler` computes them.

The learning rate of an epoch follows from the settings and the records of the epochs before it, so that a run which is
continued has nothing to remember of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch.optim import SGD, lr_scheduler

from vae_flows.errors import InvalidInputError, complaint, require_number, require_positive

__all__ = ["SCHEDULES", "LearningRate", "Schedule", "ScheduleName", "Span"]

ScheduleName = Literal["constant", "cosine", "step", "plateau"]
OWNER = "TrainingSettings"


class Span(NamedTuple):
    """The part of a training in which a schedule acts.

    Arguments:
        rate: The full learning rate.
        first: The first epoch that has it.
        last: The last epoch.
        patience: Epochs without a better validation bound after which training stops.
        counts_from: The epoch from which such epochs count, `first` or later.
    """

    rate: float
    first: int
    last: int
    patience: int
    counts_from: int


@dataclass(frozen=True)
class Schedule:
    """`constant`: the learning rate stays as it is. Others are subclasses whose fields are their options."""

    def resolved(self, span: Span) -> Schedule:
        """Return the same schedule with every option that follows from the training, having checked it.

        Raises:
            InvalidInputError: An option is out of range, or the schedule never ends or changes nothing in this span.
        """
        del span
        return self

    def first_epoch(self, span: Span) -> int:
        """Return the first epoch after which the rate may change."""
        return span.first

    def start(self, rate: float) -> Callable[[float], float]:
        """Return a function that gives the rate after each further epoch, from the validation bound of that epoch."""
        return lambda _: rate


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """`cosine`: half a wave from the learning rate down to the minimum, and the minimum from there on.

    Source: Loshchilov and Hutter (2017), "SGDR: stochastic gradient descent with warm restarts", equation 5, without
    restarts.

    Arguments:
        epochs: Length, by default to the end of the training.
        minimum: Where it ends.
    """

    epochs: int | None = None
    minimum: float = 0.0

    def resolved(self, span: Span) -> Schedule:
        length = span.last + 1 - span.first
        _require_minimum(self.minimum, span.rate)
        if self.epochs is None:
            if length < 2:
                raise _never(self, f"training of at least {span.first + 1} epochs", f"max_epochs={span.last}")
            return CosineSchedule(length, self.minimum)
        _require_epochs(self.epochs)
        if self.epochs < 2:
            raise _never(self, "epochs of at least 2 in which it falls", f"epochs={self.epochs}")
        if self.epochs > length:
            expected = f"an end within the training, at most {length} epochs"
            raise _never(self, expected, f"epochs={self.epochs} and max_epochs={span.last}")
        if self.epochs < length and self.minimum == 0:
            remedy = f"Set max_epochs={span.first + self.epochs - 1}, or a minimum above 0."
            raise _never(self, "a learning rate above 0 until max_epochs", f"0 after {self.epochs} epochs", remedy)
        return self

    def start(self, rate: float) -> Callable[[float], float]:
        length = self.epochs or 1
        return _stepped(rate, lambda carrier: lr_scheduler.CosineAnnealingLR(carrier, length, self.minimum), length)


@dataclass(frozen=True)
class StepSchedule(Schedule):
    """`step`: the learning rate is multiplied by a factor every so many epochs.

    Arguments:
        epochs: Between two steps; it must be given.
        factor: Between 0 and 1.
    """

    epochs: int | None = None
    factor: float = 0.1

    def resolved(self, span: Span) -> Schedule:
        _require_epochs(self.epochs)
        _require_factor(self.factor)
        if self.epochs is not None and span.first + self.epochs > span.last:
            raise _never(self, f"a step within {span.last} epochs", f"the first one after epochs={self.epochs}")
        return self

    def start(self, rate: float) -> Callable[[float], float]:
        return _stepped(rate, lambda carrier: lr_scheduler.StepLR(carrier, self.epochs or 1, self.factor))


@dataclass(frozen=True)
class PlateauSchedule(Schedule):
    """`plateau`: the learning rate is multiplied by a factor where the validation bound stops getting better.

    Arguments:
        patience: Epochs without a better bound that are let pass, those of the warm-up of β not counted; by default
            half of the patience of the training.
        factor: Between 0 and 1.
        minimum: No step goes below it.
    """

    patience: int | None = None
    factor: float = 0.1
    minimum: float = 0.0

    def resolved(self, span: Span) -> Schedule:
        patience = span.patience // 2 if self.patience is None else self.patience
        if not isinstance(patience, int) or isinstance(patience, bool) or patience < 0:
            raise InvalidInputError(complaint(_subject("patience"), "an integer of at least 0", repr(patience)))
        _require_factor(self.factor)
        _require_minimum(self.minimum, span.rate)
        # The epoch after the last one that is let pass has the old rate still, and is followed by one with the new.
        if patience + 2 > span.patience:
            got = f"patience={patience} beside the training's patience={span.patience}"
            raise _never(self, "a step before training stops early", got)
        if span.counts_from + patience + 2 > span.last:
            raise _never(self, f"a step within {span.last} epochs", f"none before {span.counts_from + patience + 2}")
        return PlateauSchedule(patience, self.factor, self.minimum)

    def first_epoch(self, span: Span) -> int:
        return span.counts_from

    def start(self, rate: float) -> Callable[[float], float]:
        carrier = _carrier(rate)
        scheduler = lr_scheduler.ReduceLROnPlateau(
            carrier, factor=self.factor, patience=self.patience or 0, threshold=0.0, min_lr=self.minimum, eps=0.0
        )

        def advance(validation_bound: float) -> float:
            scheduler.step(validation_bound)
            return carrier.param_groups[0]["lr"]

        return advance


SCHEDULES: Mapping[str, type[Schedule]] = {
    "constant": Schedule,
    "cosine": CosineSchedule,
    "step": StepSchedule,
    "plateau": PlateauSchedule,
}


class LearningRate:
    """The learning rate of each epoch in turn: a linear warm-up, then a schedule.

    Arguments:
        schedule: What follows the warm-up, resolved.
        span: Where it acts. Epoch e of the warm-up has the share e / `span.first` of the full rate.
    """

    def __init__(self, schedule: Schedule, span: Span) -> None:
        self._span = span
        self._first = schedule.first_epoch(span)
        self._advance = schedule.start(span.rate)
        self._epoch = 1
        self._scheduled = span.rate

    @property
    def rate(self) -> float:
        """The learning rate of the epoch that comes next."""
        warming = self._epoch < self._span.first
        return self._scheduled * (self._epoch / self._span.first) if warming else self._scheduled

    def advance(self, validation_bound: float) -> None:
        """Go on to the next epoch, by the validation bound of the one that is over."""
        if self._epoch >= self._first:
            self._scheduled = self._advance(validation_bound)
        self._epoch += 1


def _stepped(
    rate: float, make: Callable[[SGD], lr_scheduler.LRScheduler], steps: int | None = None
) -> Callable[[float], float]:
    carrier = _carrier(rate)
    scheduler, left = make(carrier), steps

    def advance(_: float) -> float:
        nonlocal left
        if left != 0:
            carrier.step()  # schedulers expect it before theirs
            scheduler.step()
            left = None if left is None else left - 1
        return carrier.param_groups[0]["lr"]

    return advance


def _carrier(rate: float) -> SGD:
    """Return an optimiser of nothing, whose learning rate a scheduler moves."""
    return SGD([torch.zeros(1)], lr=rate)


def _subject(option: str) -> str:
    return f"{OWNER} schedule_options {option}"


def _never(schedule: Schedule, expected: str, got: str, remedy: str = "") -> InvalidInputError:
    name = next(name for name, kind in SCHEDULES.items() if type(schedule) is kind)
    return InvalidInputError(complaint(f"{OWNER} schedule {name!r}", expected, got, remedy))


def _require_epochs(epochs: object) -> None:
    require_positive(f"{OWNER} schedule_options", epochs=epochs)


def _require_factor(factor: object) -> None:
    require_number(f"{OWNER} schedule_options", "factor", factor, above=0.0)
    if not factor < 1:  # pyright: ignore[reportOperatorIssue]
        raise InvalidInputError(complaint(_subject("factor"), "a number below 1", repr(factor)))


def _require_minimum(minimum: object, rate: float) -> None:
    require_number(f"{OWNER} schedule_options", "minimum", minimum, least=0.0)
    if not minimum < rate:  # pyright: ignore[reportOperatorIssue]
        raise InvalidInputError(complaint(_subject("minimum"), f"less than learning_rate={rate}", repr(minimum)))
