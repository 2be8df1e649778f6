"""Loggers by name."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from vae_flows.errors import DataError
from vae_flows.extras import needing
from vae_flows.persistence.files import file_errors
from vae_flows.persistence.json_files import read_json, write_json

with needing("train"):
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

__all__ = ["TensorBoardLogger", "open_logger"]

PROJECT = "vae-flows"
KEPT = "loggers.json"
STEP = "trainer/global_step"  # of Lightning's logger of Weights & Biases
SHOWN_FIRST = {"validation/negative_elbo": 0.0, "test/negative_elbo": 0.0}


class ClosingLogger(Protocol):
    """A logger that is closed by `finalize`."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None: ...
    def log_hyperparams(self, params: dict[str, Any]) -> None: ...
    def finalize(self, status: str) -> None: ...


class TensorBoardLogger:
    """Writes TensorBoard events into the folder of a run itself.

    Arguments:
        folder: Where to write.
        epochs_done: Epochs already logged there; what lies beyond them is dropped.
    """

    def __init__(self, folder: Path, epochs_done: int) -> None:
        self.folder = folder
        with self._told():
            self.experiment = SummaryWriter(str(folder), purge_step=epochs_done + 1 if epochs_done else None)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write numbers by tag."""
        with self._told():
            for tag, value in metrics.items():
                self.experiment.add_scalar(tag, value, step)
            self.experiment.flush()

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Write what TensorBoard's table of hyper-parameters shows."""
        with self._told():
            for summary in hparams(params, SHOWN_FIRST):
                self.experiment._get_file_writer().add_summary(summary)

    def finalize(self, status: str) -> None:
        """Close the file."""
        with self._told():
            self.experiment.close()

    def _told(self) -> AbstractContextManager[None]:
        return file_errors(self.folder, "a folder that TensorBoard's events can be written to")


def open_logger(name: str, folder: Path | None, epochs_done: int) -> ClosingLogger | None:
    """Open the logger called `name` for a run, the one that it had where it goes on.

    Arguments:
        name: `tensorboard`, `wandb` or `mlflow`.
        folder: The run's, `None` without one; then TensorBoard has nowhere to write, and `None` is returned.
        epochs_done: Epochs already logged.

    Raises:
        MissingPackageError: Its package is not installed.
        FileError: A file cannot be written.
    """
    if name == "tensorboard":
        return None if folder is None else TensorBoardLogger(folder, epochs_done)
    identities = _identities(folder)
    opened = _open_wandb if name == "wandb" else _open_mlflow
    logger, identity = opened((folder or Path()).absolute(), identities.get(name))
    if folder is not None and identities.get(name) != identity:
        write_json(folder / KEPT, {**identities, name: identity})
    return logger


def _open_wandb(folder: Path, identity: str | None) -> tuple[ClosingLogger, str]:
    """Open a run of Weights & Biases, beside any that the caller has."""
    with needing("wandb"):
        import wandb  # pyright: ignore[reportMissingImports]
        from pytorch_lightning.loggers import WandbLogger  # pyright: ignore[reportMissingImports]

    class FinishedLogger(WandbLogger):
        """Ends its run: Lightning's leaves it open, and what is logged next in this process would be added to it."""

        def finalize(self, status: str) -> None:
            self.experiment.finish(exit_code=0 if status == "success" else 1)

    identity = identity or uuid.uuid4().hex
    run = wandb.init(project=PROJECT, dir=str(folder), id=identity, resume="allow", reinit="create_new")
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP, step_sync=True)
    return FinishedLogger(experiment=run), identity


def _open_mlflow(folder: Path, identity: str | None) -> tuple[ClosingLogger, str | None]:
    """Open a run of MLflow: of the server that the environment names, or in a database in the folder."""
    with needing("mlflow"):
        import mlflow  # pyright: ignore[reportMissingImports] -- first, as Lightning words its absence in its own way
        from pytorch_lightning.loggers import MLFlowLogger  # pyright: ignore[reportMissingImports]

    server = os.environ.get("MLFLOW_TRACKING_URI")
    logger = MLFlowLogger(
        PROJECT,
        tracking_uri=server or f"sqlite:///{folder / 'mlflow.db'}",
        artifact_location=None if server else (folder / "mlflow").as_uri(),
        run_id=identity,
    )
    identity = logger.run_id
    # Lightning has made this place that of the whole process, and of the next run.
    mlflow.set_tracking_uri(server)  # pyright: ignore[reportArgumentType]
    return logger, identity


def _identities(folder: Path | None) -> Mapping[str, Any]:
    """Return by which names loggers elsewhere know this run."""
    try:
        kept = {} if folder is None else read_json(folder / KEPT)
    except DataError:  # there is none yet
        kept = {}
    return kept if isinstance(kept, dict) else {}
