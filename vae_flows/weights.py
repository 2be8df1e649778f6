"""Weights from files: read without unpickling code, compared with a model, and taken by it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor, nn

from vae_flows.errors import CheckpointError, complaint

__all__ = ["check_weights", "read_torch_file", "take_weights"]

SHOWN = 5


def read_torch_file(path: Path, map_location: str | torch.device = "cpu") -> Any:
    """Read what `torch.save` wrote, provided that it is tensors and plain values, or objects of safe classes.

    Classes are made safe by `torch.serialization.safe_globals`.

    Raises:
        CheckpointError: There is no such file, it is damaged, or it holds something else.
    """
    if not path.is_file():
        raise CheckpointError(complaint("checkpoint", f"a file at {path}", "none"))
    try:
        with ZipFile(path) as archive:  # torch.load compares no checksums
            if (damaged := archive.testzip()) is not None:
                raise BadZipFile(f"{damaged} has another checksum")
        return torch.load(path, map_location=map_location, weights_only=True)
    except (BadZipFile, RuntimeError, UnpicklingError, EOFError, OSError, ValueError, KeyError) as error:
        damage = f"damage ({next(iter(str(error).splitlines()), type(error).__name__)})"
        remedy = "Delete it, or restore it from a copy."
        raise CheckpointError(complaint(f"checkpoint {path}", "a readable file", damage, remedy)) from error


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


def take_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path | str) -> None:
    """Load weights into a model, which takes over their dtypes; parts that hold none follow the rest of their module.

    Raises:
        CheckpointError: The weights are those of another model, and this one is as it was.
    """
    check_weights(model, weights, path)
    _take_dtypes(model, {name: tensor.dtype for name, tensor in weights.items() if tensor.is_floating_point()}, "")
    model.load_state_dict(weights)


def _take_dtypes(module: nn.Module, dtypes: Mapping[str, torch.dtype], prefix: str) -> None:
    found = {dtype for name, dtype in dtypes.items() if name.startswith(prefix)}
    if len(found) == 1:
        # Whole, for the sake of buffers that are in no file, such as masks.
        module.to(found.pop())
        return
    for name, tensor in chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False)):
        tensor.data = tensor.data.to(dtypes.get(prefix + name, tensor.dtype))
    for name, child in module.named_children():
        _take_dtypes(child, dtypes, f"{prefix}{name}.")


def _shortened(names: list[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
