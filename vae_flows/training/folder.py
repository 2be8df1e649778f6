"""The folder of a run: where it stands after each epoch, and whether it may be continued."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from vae_flows.errors import CheckpointError, complaint
from vae_flows.persistence.configuration import to_plain, upgraded
from vae_flows.persistence.files import FolderLock, file_errors, sweep
from vae_flows.persistence.saved_models import CONFIG_FILE, WEIGHTS_FILE, check_savable, save
from vae_flows.persistence.weights import check_weights, kind_of
from vae_flows.training.checkpoint import EARLIER_BEST, best_weights, load_checkpoint, save_checkpoint
from vae_flows.training.description import ADDED_LATER, differences, with_later_settings
from vae_flows.training.entries import checked_history, checked_mapping, require_entry
from vae_flows.training.records import EpochRecord, best_record

if TYPE_CHECKING:
    from vae_flows.training.epoch import EpochRunner
    from vae_flows.vae import VAE

__all__ = ["RunFolder", "RunState"]

Weights = Mapping[str, Tensor]


class RunState(NamedTuple):
    """How far a run has come: its records, and the weights of the best epoch (none before the first)."""

    history: tuple[EpochRecord, ...] = ()
    best_weights: Weights = MappingProxyType({})


class RunFolder:
    """Keeps `last.ckpt`, from which a run continues, and the weights of its best epoch as a saved model.

    `last.ckpt` is written first and decides: where it says that its own epoch is the best one, the saved model is made
    anew from it, so that an interruption between the two writes does no harm.

    Arguments:
        path: The folder, made where it is missing.
        description: What must stay the same for the run to continue, as plain values by name.
        lock: The lock on the folder of the process that writes, `None` in the others.
    """

    def __init__(self, path: Path, description: Mapping[str, Any], lock: FolderLock | None) -> None:
        self.path = path
        self.description = dict(description)
        self.lock = lock
        self.last = path / "last.ckpt"

    def open(self, vae: VAE, runner: EpochRunner, *, max_epochs: int, resume: bool) -> RunState:
        """Bring model and runner to where the run stands, or start it.

        Raises:
            CheckpointError: The folder holds another run, a damaged one, or one that `resume` does not want continued.
        """
        if self.lock:
            sweep(self.path)
        if not (resume and self.last.exists()):
            self._start(vae, resume)
            return RunState()
        content = load_checkpoint(self.last, "run", "history", "weights", "runner")
        history = checked_history(content["history"], self.last)
        complete = self._check_description(content["run"], self.last)
        if len(history) > max_epochs:
            message = complaint(f"max_epochs of the run in {self.path}", f"at least {len(history)}", max_epochs)
            raise CheckpointError(message)
        check_weights(vae, content["weights"], self.last)
        runner.load_state_dict(content["runner"], history, self.last, complete=complete)
        best = best_record(history)
        if best is history[-1]:
            best_weights = content["weights"]
            self._save_best(vae, best_weights, best.epoch)
        else:
            best_weights = self._load_best(vae, best.epoch)
            if not (self.path / CONFIG_FILE).exists():  # an earlier release's folder becomes a saved model
                self._save_best(vae, best_weights, best.epoch)
        runner.load_weights(content["weights"])
        return RunState(history, best_weights)

    def save(self, runner: EpochRunner, state: RunState) -> None:
        """Write where the run stands after the last of the records.

        Raises:
            FileError: A file cannot be written, or the folder was removed or replaced since the run began.
        """
        if not self.lock:
            return
        history = state.history
        content = {
            "run": self.description,
            "weights": runner.weights(),
            "runner": runner.state_dict(),
            "history": [asdict(record) for record in history],
        }
        save_checkpoint(self.last, content)
        if best_record(history) is history[-1]:
            self._save_best(runner.vae, state.best_weights, history[-1].epoch)
        self.require()

    def require(self) -> None:
        """Check that the folder is still the one in which the run began.

        Raises:
            FileError: It was removed or replaced.
        """
        if self.lock:
            self.lock.require()

    def _start(self, vae: VAE, resume: bool) -> None:
        check_savable(vae)
        names = (self.last.name, EARLIER_BEST, CONFIG_FILE, WEIGHTS_FILE)
        found = [name for name in names if (self.path / name).exists()]
        if found:
            remedy = "Choose another folder, or delete it." if resume else "Pass resume=True, or choose another folder."
            raise CheckpointError(complaint(f"folder {self.path}", "none of an earlier run", ", ".join(found), remedy))
        with file_errors(self.path, "a folder that can be written to"):
            self.path.mkdir(parents=True, exist_ok=True)

    def _check_description(self, value: object, path: Path) -> bool:
        """Compare the description of a checkpoint with this run's, and say whether it is complete.

        Older ones are not: what they lack is taken from this run.
        """
        stored = with_later_settings(upgraded(to_plain(checked_mapping(value, "run", path), kind_of)))
        lacking = ADDED_LATER - stored.keys()
        own = {name: entry for name, entry in self.description.items() if name not in lacking}
        found = list(differences(stored, own))
        if "posterior" in [name for name, *_ in found]:  # whose options differ then, too
            found = [difference for difference in found if not difference[0].startswith("model.posterior")]
        if found:
            expected = ", ".join(f"{name} = {theirs!r}" for name, theirs, _ in found)
            got = ", ".join(f"{name} = {ours!r}" for name, _, ours in found)
            remedy = "Continue with what the run was started with (only max_epochs may grow), or choose another folder."
            raise CheckpointError(complaint(f"run in {self.path}", expected, got, remedy))
        return not lacking

    def _save_best(self, vae: VAE, weights: Weights, epoch: int) -> None:
        if not self.lock:
            return
        save(vae, self.path, weights=weights, epoch=epoch)
        earlier = self.path / EARLIER_BEST
        with file_errors(earlier, "a file that can be removed"):
            earlier.unlink(missing_ok=True)

    def _load_best(self, vae: VAE, epoch: int) -> Weights:
        weights, stored = best_weights(self.path)
        check_weights(vae, weights, self.path)
        same = type(stored) is int and stored == epoch
        require_entry(same, "epoch", self.path, f"the weights of epoch {epoch}", stored)
        return weights
