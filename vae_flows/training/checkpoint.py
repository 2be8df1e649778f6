"""Checkpoints: written whole or not at all, read without unpickling code, and only into the model they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor, nn

from vae_flows.errors import CheckpointError, complaint
from vae_flows.files import written_whole

__all__ = ["check_weights", "load_checkpoint", "load_weights", "save_checkpoint"]

FORMAT = "vae-flows checkpoint 1"
SHOWN = 5


def load_weights(model: nn.Module, path: Path | str) -> None:
    """Load the weights of a checkpoint into a model of the same architecture, on the device and in the dtype it has.

    Arguments:
        model: The model, such as a `VAE`.
        path: `best.ckpt` or `last.ckpt` of a run.

    Raises:
        CheckpointError: There is no such file, it is damaged, or it belongs to another model; the message names the
            weights that differ.
    """
    weights = load_checkpoint(Path(path), "weights")["weights"]
    check_weights(model, weights, path)
    model.load_state_dict(weights)


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write named tensors and plain Python values, replacing the file at once."""
    with written_whole(path) as file:
        torch.save({**content, "format": FORMAT}, file)


def load_checkpoint(path: Path, *entries: str) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, tensors on the CPU.

    Arguments:
        path: The file.
        *entries: Names that it must hold.

    Raises:
        CheckpointError: There is no such file, it is damaged, no checkpoint of this library, or lacks an entry.
    """
    if not path.is_file():
        raise CheckpointError(complaint("checkpoint", f"a file at {path}", "none"))
    try:
        with ZipFile(path) as archive:  # torch.load compares no checksums
            if (damaged := archive.testzip()) is not None:
                raise BadZipFile(f"{damaged} has another checksum")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (BadZipFile, RuntimeError, UnpicklingError, EOFError, OSError, ValueError, KeyError) as error:
        damage = f"damage ({next(iter(str(error).splitlines()), type(error).__name__)})"
        remedy = "Delete it, or restore it from a copy."
        raise CheckpointError(complaint(f"checkpoint {path}", "a readable file", damage, remedy)) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = repr(content.get("format")) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(complaint(f"checkpoint {path}", f"the format {FORMAT!r}", found))
    if not content.keys() >= set(entries):
        raise CheckpointError(complaint(f"checkpoint {path}", " and ".join(entries), ", ".join(content)))
    return content


def check_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path | str) -> None:
    """Compare the names and shapes of weights with those of a model.

    Raises:
        CheckpointError: They differ; the message says where.
    """
    expected = model.state_dict()
    differences = {
        "missing": [name for name in expected if name not in weights],
        "unexpected": [name for name in weights if name not in expected],
        "of another shape": [
            f"{name} {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in weights and weights[name].shape != tensor.shape
        ],
    }
    found = "; ".join(f"{kind}: {_shortened(names)}" for kind, names in differences.items() if names)
    if found:
        remedy = "Build the model with the settings that it was trained with."
        raise CheckpointError(complaint(f"checkpoint {path}", f"weights of this {type(model).__name__}", found, remedy))


def _shortened(names: list[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
