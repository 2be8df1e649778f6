"""The record of a run: one row per epoch, from which everything else about its progress follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.shown import shown
from vae_flows.training.settings import TrainingSettings

__all__ = ["EpochRecord", "History", "TrainingResult", "best_record", "stops_early"]


@shown
@dataclass(frozen=True)
class EpochRecord:
    """One epoch, in nats per image. Records compare by their numbers, not by how long they took.

    Arguments:
        epoch: Counted from 1.
        beta: Weight of the KL term in the loss.
        train_negative_elbo: Mean over the epoch of the bound with weight 1, while the weights were changing.
        train_kl: Mean over the epoch of its KL term.
        validation_negative_elbo: The bound on the validation images after the epoch.
        evaluations_per_solve: Mean over the training steps of the evaluations of a flow's dynamics in the forward
            solve, `None` for discrete flows.
        forward_evaluations: Their sum over steps and processes.
        examples_per_second: Training images per second.
        seconds: Wall-clock time with validation.
        learning_rate: The optimiser's.
        train_loss: Mean over the epoch of what was minimised, regularisation included. Both are `None` in records of
            earlier releases.
    """

    epoch: int
    beta: float
    train_negative_elbo: float
    train_kl: float
    validation_negative_elbo: float
    evaluations_per_solve: float | None
    forward_evaluations: int | None
    examples_per_second: float = field(compare=False)
    seconds: float = field(compare=False)
    learning_rate: float | None = None
    train_loss: float | None = None


History = Sequence[EpochRecord]


@shown
@dataclass(frozen=True)
class TrainingResult:
    """What a run came to.

    Arguments:
        history: A record of each epoch.
        best_epoch: The epoch whose weights the model carries.
        best_validation_negative_elbo: Its bound on the validation images.
        stopped_early: Whether patience ran out, rather than `max_epochs`.
        seconds: Wall-clock time of all epochs.
        forward_evaluations: Evaluations of a flow's dynamics in all forward solves of training, `None` for discrete
            flows.
    """

    history: tuple[EpochRecord, ...]
    best_epoch: int
    best_validation_negative_elbo: float
    stopped_early: bool
    seconds: float = field(compare=False)
    forward_evaluations: int | None

    @classmethod
    @checked
    def from_history(cls, history: History, settings: TrainingSettings) -> TrainingResult:
        """Sum up the records of a run.

        Raises:
            InvalidInputError: There are none, or they are no records.
        """
        if not history:
            raise InvalidInputError(complaint("history", "a record of at least one epoch", "none"))
        best = best_record(history)
        evaluations = [record.forward_evaluations for record in history if record.forward_evaluations is not None]
        return cls(
            history=tuple(history),
            best_epoch=best.epoch,
            best_validation_negative_elbo=best.validation_negative_elbo,
            stopped_early=stops_early(history, settings),
            seconds=sum(record.seconds for record in history),
            forward_evaluations=sum(evaluations) if evaluations else None,
        )


def best_record(history: History) -> EpochRecord:
    """Return the first of the records with the lowest validation bound."""
    return min(history, key=lambda record: record.validation_negative_elbo)


def stops_early(history: History, settings: TrainingSettings) -> bool:
    """Say whether `patience` epochs after the warm-up have passed since the best one."""
    if not history:
        return False
    best, first = best_record(history).epoch, settings.warmup_epochs
    waited = sum(record.epoch > best and record.epoch >= first for record in history)
    return waited >= settings.patience
