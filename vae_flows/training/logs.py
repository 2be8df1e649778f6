"""What a run leaves for people and plots: a table of its epochs, and TensorBoard's events."""

from __future__ import annotations

import csv
import io
from contextlib import AbstractContextManager
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Self

from vae_flows.extras import needing
from vae_flows.persistence.files import file_errors, written_whole
from vae_flows.training.records import EpochRecord, History

with needing("train"):
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["RunLogs"]


class RunLogs:
    """Writes `metrics.csv` and TensorBoard events into a folder, an epoch at a time.

    A run that is continued neither loses nor repeats an epoch: the table is written whole from the history, and
    TensorBoard drops what earlier event files hold beyond the epoch from which it continues. (Fabric's loggers do
    neither: its CSV logger deletes the table of an earlier run.)

    Arguments:
        folder: Where to write.
        epochs_done: Epochs already logged there.
    """

    def __init__(self, folder: Path, epochs_done: int) -> None:
        self.folder = folder
        with self._told():
            self._events = SummaryWriter(str(folder), purge_step=epochs_done + 1 if epochs_done else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._told():
            self._events.close()

    def write(self, history: History) -> None:
        """Log the last of the records, after those before it.

        Raises:
            FileError: A file cannot be written.
        """
        text = io.StringIO()
        writer = csv.DictWriter(text, [column.name for column in fields(EpochRecord)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(record) for record in history)
        with written_whole(self.folder / "metrics.csv") as file:
            file.write(text.getvalue().encode())
        with self._told():
            for name, value in asdict(history[-1]).items():
                if value is not None and name != "epoch":
                    self._events.add_scalar(name, value, history[-1].epoch)
            self._events.flush()

    def _told(self) -> AbstractContextManager[None]:
        return file_errors(self.folder, "a folder that TensorBoard's events can be written to")
