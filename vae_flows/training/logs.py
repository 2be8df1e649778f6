"""What a run leaves for people and plots: a table of its epochs, and what it tells loggers.

A logger is what Lightning calls one. Tags are grouped: `train/…`, `validation/…`, `test/…`, `samples/…`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from vae_flows.checks import described
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.persistence.files import written_whole
from vae_flows.persistence.records import flatten
from vae_flows.training.records import EpochRecord, History

__all__ = ["Logger", "RunLogs", "check_loggers"]


class Logger(Protocol):
    """What Lightning's loggers have: those of `lightning_fabric.loggers` and of `lightning.pytorch.loggers`."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log numbers by tag, of a step, which is an epoch here."""
        ...

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Log what a run was started with."""
        ...


class RunLogs:
    """Writes `metrics.csv` whole, an epoch at a time, and tells loggers the same.

    A run that is continued neither loses nor repeats an epoch: the table comes from the history, and TensorBoard drops
    what earlier event files hold beyond the epoch from which it continues. (Fabric's loggers do neither: its CSV logger
    deletes the table of an earlier run.)

    Arguments:
        folder: Where to write, `None` for nowhere: then names of what writes files there are passed over.
        epochs_done: Epochs already logged there.
        names: Of loggers, which are closed at the end.
        others: Loggers of the caller's, which stay open.

    Raises:
        MissingPackageError: The package of a logger is not installed.
        FileError: A file cannot be written.
    """

    def __init__(
        self, folder: Path | None, epochs_done: int, names: Sequence[str], others: Sequence[Logger] = ()
    ) -> None:
        # Imported here: TensorBoard takes long to import, and need not be installed where it is not used.
        from vae_flows.training.loggers import open_logger

        self.folder = folder
        self.epochs_done = epochs_done
        self._has_table = folder is not None and "csv" in names
        opened = [open_logger(name, folder, epochs_done) for name in names if name != "csv"]
        self._own = [logger for logger in opened if logger is not None]
        self._loggers: tuple[Logger, ...] = (*self._own, *others)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for logger in self._own:
            logger.finalize("success" if error is None else "failed")

    def begin(self, parameters: Mapping[str, Any]) -> None:
        """Log what a run is started with, unless it goes on."""
        if not self.epochs_done:
            plain = {
                name: value if isinstance(value, int | float) else str(value) for name, value in flatten(parameters)
            }
            for logger in self._loggers:
                with suppress(NotImplementedError):  # Fabric's CSV logger has no place for them
                    logger.log_hyperparams(plain)

    def write(self, history: History) -> None:
        """Log the last of the records, after those before it.

        Raises:
            FileError: A file cannot be written.
        """
        if self._has_table and self.folder is not None:
            text = io.StringIO()
            writer = csv.DictWriter(text, [column.name for column in fields(EpochRecord)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(record) for record in history)
            with written_whole(self.folder / "metrics.csv") as file:
                file.write(text.getvalue().encode())
        values = {tag_of(name): value for name, value in asdict(history[-1]).items() if name != "epoch"}
        self._log(values, history[-1].epoch)

    def write_test(self, values: Mapping[str, float | None], epoch: int) -> None:
        """Log what the test of an epoch's weights found."""
        self._log({f"test/{name}": value for name, value in values.items()}, epoch)

    def write_images(self, images: Mapping[str, NDArray[np.uint8]], epoch: int) -> None:
        """Log pictures `(N, C, H, W)` side by side, by name, with loggers that take pictures."""
        for name, batch in images.items():
            row = np.concatenate(list(batch.transpose(0, 2, 3, 1)), axis=1)
            for logger in self._loggers:
                _log_image(logger, f"samples/{name}", row, epoch)

    def _log(self, values: Mapping[str, float | None], epoch: int) -> None:
        known = {tag: value for tag, value in values.items() if value is not None}
        for logger in self._loggers:
            logger.log_metrics(known, step=epoch)


def check_loggers(loggers: object) -> tuple[Logger, ...]:
    """Return loggers as a tuple, once each is one.

    Raises:
        InvalidInputError: It is no sequence of loggers.

    Example:
        >>> check_loggers(["wandb"])
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: logger 1 of train: expected an object with log_metrics and log_hyperparams,
        got 'wandb'. Names go into TrainingSettings(loggers=…).
    """
    if not isinstance(loggers, Sequence) or isinstance(loggers, str | bytes):
        raise InvalidInputError(complaint("loggers of train", "a sequence of loggers", described(loggers)))
    for number, logger in enumerate(loggers, 1):
        methods = [getattr(logger, name, None) for name in ("log_metrics", "log_hyperparams")]
        if isinstance(logger, type) or not all(map(callable, methods)):
            expected = "an object with log_metrics and log_hyperparams"
            remedy = "Names go into TrainingSettings(loggers=…)." if isinstance(logger, str) else ""
            raise InvalidInputError(complaint(f"logger {number} of train", expected, described(logger), remedy))
    return tuple(loggers)


def tag_of(name: str) -> str:
    """Return the tag of a number of an epoch.

    Example:
        >>> tag_of("train_kl"), tag_of("validation_negative_elbo"), tag_of("beta")
        ('train/kl', 'validation/negative_elbo', 'train/beta')
    """
    group, _, rest = name.partition("_")
    return f"{group}/{rest}" if group in ("train", "validation") else f"train/{name}"


def _log_image(logger: Any, tag: str, image: NDArray[np.uint8], step: int) -> None:
    """Log a picture `(H, W, C)`, by the method that this kind of logger has, if any."""
    if hasattr(logger, "log_image"):  # Weights & Biases
        logger.log_image(key=tag, images=[image], step=step)
        return
    experiment: Any = getattr(logger, "experiment", None)
    if hasattr(experiment, "add_image"):  # TensorBoard
        experiment.add_image(tag, image, step, dataformats="HWC")
    elif hasattr(experiment, "log_image"):  # MLflow
        experiment.log_image(logger.run_id, image, artifact_file=f"{tag}.png")
