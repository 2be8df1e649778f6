"""The folder of a run: where it stands after each epoch, and whether it may be continued."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from vae_flows.errors import CheckpointError, complaint
from vae_flows.evaluation.bounds import placement
from vae_flows.training.checkpoint import load_checkpoint, save_checkpoint
from vae_flows.training.records import EpochRecord, best_record
from vae_flows.training.settings import ComputeSettings, TrainingSettings
from vae_flows.weights import check_weights

if TYPE_CHECKING:
    from vae_flows.data import DataSet, Images
    from vae_flows.training.epoch import EpochRunner
    from vae_flows.vae import VAE

__all__ = ["RunFolder", "RunState", "describe_run"]

Weights = Mapping[str, Tensor]


class RunState(NamedTuple):
    """How far a run has come: its records, and the weights of the best epoch (none before the first)."""

    history: tuple[EpochRecord, ...] = ()
    best_weights: Weights = MappingProxyType({})


class RunFolder:
    """Keeps `last.ckpt`, from which a run continues, and `best.ckpt`, the weights of its best epoch.

    `last.ckpt` is written first and decides: where it says that its own epoch is the best one, `best.ckpt` is made anew
    from it, so that an interruption between the two writes does no harm.

    Arguments:
        path: The folder, made where it is missing.
        description: What must stay the same for the run to continue, as plain values by name.
        writes: Whether this process is the one that writes.
    """

    def __init__(self, path: Path, description: Mapping[str, Any], *, writes: bool) -> None:
        self.path = path
        self.description = dict(description)
        self.writes = writes
        self.last = path / "last.ckpt"
        self.best = path / "best.ckpt"

    def open(self, vae: VAE, runner: EpochRunner, *, max_epochs: int, resume: bool) -> RunState:
        """Bring model and runner to where the run stands, or start it.

        Raises:
            CheckpointError: The folder holds another run, a damaged one, or one that `resume` does not want continued.
        """
        if not (resume and self.last.exists()):
            self._start(resume)
            return RunState()
        content = load_checkpoint(self.last, "run", "history", "weights", "runner")
        history = tuple(EpochRecord(**record) for record in content["history"])
        self._check_description(content["run"])
        if len(history) > max_epochs:
            message = complaint(f"max_epochs of the run in {self.path}", f"at least {len(history)}", max_epochs)
            raise CheckpointError(message)
        check_weights(vae, content["weights"], self.last)
        best = best_record(history)
        if best is history[-1]:
            best_weights = content["weights"]
            self._save_best(best_weights, best.epoch)
        else:
            best_weights = self._load_best(vae, best.epoch)
        vae.load_state_dict(content["weights"])
        runner.load_state_dict(content["runner"])
        return RunState(history, best_weights)

    def save(self, vae: VAE, runner: EpochRunner, state: RunState) -> None:
        """Write where the run stands after the last of the records."""
        if not self.writes:
            return
        history = state.history
        content = {
            "run": self.description,
            "weights": vae.state_dict(),
            "runner": runner.state_dict(),
            "history": [asdict(record) for record in history],
        }
        save_checkpoint(self.last, content)
        if best_record(history) is history[-1]:
            self._save_best(state.best_weights, history[-1].epoch)

    def _start(self, resume: bool) -> None:
        found = [file.name for file in (self.last, self.best) if file.exists()]
        if found:
            remedy = "Choose another folder, or delete it." if resume else "Pass resume=True, or choose another folder."
            raise CheckpointError(complaint(f"folder {self.path}", "none of an earlier run", ", ".join(found), remedy))
        self.path.mkdir(parents=True, exist_ok=True)

    def _check_description(self, stored: Mapping[str, Any]) -> None:
        names = {**self.description, **stored}
        differing = [name for name in names if stored.get(name) != self.description.get(name)]
        if differing:
            expected = ", ".join(f"{name} = {stored.get(name)!r}" for name in differing)
            got = ", ".join(f"{name} = {self.description.get(name)!r}" for name in differing)
            remedy = "Continue with what the run was started with (only max_epochs may grow), or choose another folder."
            raise CheckpointError(complaint(f"run in {self.path}", expected, got, remedy))

    def _save_best(self, weights: Weights, epoch: int) -> None:
        if self.writes:
            save_checkpoint(self.best, {"run": self.description, "weights": dict(weights), "epoch": epoch})

    def _load_best(self, vae: VAE, epoch: int) -> Weights:
        content = load_checkpoint(self.best, "weights", "epoch")
        check_weights(vae, content["weights"], self.best)
        if content["epoch"] != epoch:
            message = complaint(f"checkpoint {self.best}", f"the weights of epoch {epoch}", f"epoch {content['epoch']}")
            raise CheckpointError(message)
        return content["weights"]


def describe_run(
    vae: VAE, data: DataSet, settings: TrainingSettings, compute: ComputeSettings, processes: int
) -> dict[str, Any]:
    """Name everything that decides the numbers of a run, apart from `max_epochs`, which may grow, and the hardware."""
    description = asdict(settings)
    del description["max_epochs"]
    return description | {
        "posterior": vae.posterior.flow_name,
        "dtype": str(placement(vae)[1]),
        "precision": compute.precision,
        "processes": processes,
        "data set": data.name,
        "training images": _describe_images(data.train),
        "validation images": _describe_images(data.validation),
    }


def _describe_images(images: Images) -> str:
    checksum = zlib.crc32(images.storage.cpu().contiguous().numpy().data)
    return f"{len(images)} of shape {images.image_shape}, checksum {checksum:08x}"
