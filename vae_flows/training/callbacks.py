"""What a program of the user's does after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vae_flows.checks import described, require_takes
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.training.records import EpochRecord
from vae_flows.training.settings import TrainingSettings

if TYPE_CHECKING:
    from vae_flows.vae import VAE

__all__ = ["Callback", "TrainingState", "check_callbacks", "stop_is_asked"]

EXPECTED = "an object with a method on_epoch_end(state)"


@dataclass(frozen=True)
class TrainingState:
    """Where a training stands after an epoch, which is saved already.

    Arguments:
        epoch: Counted from 1.
        record: Its record.
        history: The records of all epochs until now.
        best: The record of the best epoch until now.
        model: The model with the weights that were validated. What is changed in it changes the training.
        folder: Where checkpoints are, `None` without a folder.
        settings: Those of the training.
    """

    epoch: int
    record: EpochRecord
    history: tuple[EpochRecord, ...] = field(repr=False)
    best: EpochRecord = field(repr=False)
    model: VAE = field(repr=False)
    folder: Path | None
    settings: TrainingSettings = field(repr=False)


class Callback(Protocol):
    """What `train` calls, in the process that writes."""

    def on_epoch_end(self, state: TrainingState) -> bool | None:
        """Do something after an epoch, and return `True` to stop the training there.

        The model is in evaluation mode. Random draws have a seed of their own, so that they change no number of the
        training, and are the same in a run that was interrupted. A run that was stopped goes on by `resume=True`.
        """
        ...


def check_callbacks(callbacks: object) -> tuple[Callback, ...]:
    """Return callbacks as a tuple, once each is one.

    Raises:
        InvalidInputError: It is no sequence of callbacks.

    Example:
        >>> check_callbacks([len])
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: callback 1 of train: expected an object with a method on_epoch_end(state), \
got <built-in function len>.
    """
    if not isinstance(callbacks, Sequence) or isinstance(callbacks, str | bytes):
        raise InvalidInputError(complaint("callbacks of train", "a sequence of callbacks", described(callbacks)))
    for number, callback in enumerate(callbacks, 1):
        subject, method = f"callback {number} of train", getattr(callback, "on_epoch_end", None)
        if isinstance(callback, type) or not isinstance(method, Callable):
            raise InvalidInputError(complaint(subject, EXPECTED, described(callback)))
        require_takes(subject, EXPECTED, method, None)
    return tuple(callbacks)


def stop_is_asked(callbacks: Sequence[Callback], state: TrainingState) -> bool:
    """Call each callback, and say whether one asks to stop.

    Raises:
        InvalidInputError: One returns something else than `True`, `False` or `None`.
    """
    answers = []
    for callback in callbacks:
        try:
            answer = callback.on_epoch_end(state)
        except Exception as error:
            error.add_note(f"In {type(callback).__name__}.on_epoch_end, after epoch {state.epoch}, which is saved.")
            raise
        if answer is not None and not isinstance(answer, bool | np.bool_):
            subject, expected = f"what {type(callback).__name__}.on_epoch_end returns", "True to stop, False or None"
            raise InvalidInputError(complaint(subject, expected, described(answer)))
        answers.append(answer)
    return any(answers)
