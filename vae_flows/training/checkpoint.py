"""Checkpoints: written whole or not at all, read without unpickling code, and only into the model they belong to."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vae_flows.errors import CheckpointError, complaint
from vae_flows.persistence.files import checked_path, written_whole
from vae_flows.persistence.saved_models import CONFIG_FILE, SavedWeights, read_weights
from vae_flows.persistence.weights import PLAIN, check_weights, foreign_classes, kind_of, read_torch_file

__all__ = ["EARLIER_BEST", "best_weights", "load_checkpoint", "load_weights", "save_checkpoint"]

FORMAT = "vae-flows checkpoint 1"
EARLIER_BEST = "best.ckpt"
"""What held the best weights before a run's folder was a saved model."""


def load_weights(model: nn.Module, path: Path | str) -> None:
    """Load weights of a run into a model of the same architecture, on the device and in the dtype it has.

    Arguments:
        model: The model, such as a `VAE`.
        path: The folder of a run, for the weights of its best epoch, or its `last.ckpt`, for the latest.

    Raises:
        CheckpointError: There are no weights, they are damaged, or belong to another model; the message names the
            weights that differ.
    """
    path = checked_path(path, "checkpoint")
    weights = best_weights(path).tensors if os.path.isdir(path) else load_checkpoint(path, "weights")["weights"]
    check_weights(model, weights, path)
    model.load_state_dict(weights)


def best_weights(folder: Path) -> SavedWeights:
    """Read the weights of a run's best epoch: the saved model that its folder is, or `best.ckpt` of earlier releases.

    Raises:
        CheckpointError: There are none, or they are damaged.
    """
    earlier = folder / EARLIER_BEST
    if earlier.exists() and not (folder / CONFIG_FILE).exists():
        content = load_checkpoint(earlier, "weights", "epoch")
        return SavedWeights(content["weights"], content["epoch"])
    return read_weights(folder)


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write named tensors and plain Python values, replacing the file at once.

    Raises:
        CheckpointError: There are others among them, with which the file could not be read.
        FileError: The file cannot be written.
    """
    # Not saved into the file itself: torch turns the system's errors, such as of a full disk, into others.
    archive = io.BytesIO()
    torch.save({**content, "format": FORMAT}, archive)
    if foreign := foreign_classes(archive):
        raise CheckpointError(complaint(f"checkpoint {path}", PLAIN, f"others: {', '.join(foreign)}"))
    with written_whole(path) as file:
        file.write(archive.getbuffer())


def load_checkpoint(path: Path, *entries: str) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, tensors on the CPU.

    Arguments:
        path: The file.
        *entries: Names that it must hold.

    Raises:
        CheckpointError: There is no such file, it is damaged, no checkpoint of this library, or lacks an entry.
    """
    content = read_torch_file(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = kind_of(content.get("format") if isinstance(content, dict) else content)
        raise CheckpointError(complaint(f"checkpoint {path}", f"the format {FORMAT!r}", found))
    if not content.keys() >= set(entries):
        raise CheckpointError(complaint(f"checkpoint {path}", " and ".join(entries), ", ".join(map(str, content))))
    return content
