"""Weights from files: read without unpickling code, compared with a model, and taken by it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from torch import Tensor, nn

from vae_flows.errors import CheckpointError, complaint
from vae_flows.persistence.archives import checked_entries

__all__ = ["PLAIN", "check_weights", "foreign_classes", "kind_of", "read_torch_file", "take_weights", "unsound_weights"]

PLAIN = "tensors and plain values"
SHOWN = 5
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_torch_file(path: Path, map_location: str | torch.device = "cpu") -> Any:
    """Read what `torch.save` wrote, provided that it is tensors and plain values, or objects of safe classes.

    Classes are made safe by `torch.serialization.safe_globals`.

    Raises:
        CheckpointError: There is no such file, it is damaged, or it holds something else.
    """
    if not os.path.isfile(path):
        raise CheckpointError(complaint("checkpoint", f"a file at {path}", "none"))
    try:
        _check_archive(path)
        foreign = foreign_classes(path)
        if not foreign:
            return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # a parser may raise anything on what is no file of its own
        damage = f"damage ({next(iter(str(error).splitlines()), type(error).__name__)})"
        remedy = "Delete it, or restore it from a copy."
        raise CheckpointError(complaint(f"checkpoint {path}", "a readable file", damage, remedy)) from error
    remedy = "Where you trust the file, name them in torch.serialization.safe_globals."
    raise CheckpointError(complaint(f"checkpoint {path}", PLAIN, f"others: {', '.join(foreign)}", remedy))


def foreign_classes(archive: Path | IO[bytes]) -> list[str]:
    """Return the names of what beside tensors and plain values `torch.save` wrote, which is not read again.

    Example:
        >>> import io
        >>> from fractions import Fraction
        >>> archive = io.BytesIO()
        >>> torch.save({"sizes": [1, 2], "weights": torch.ones(1), "share": Fraction(1, 3)}, archive)
        >>> foreign_classes(archive)
        ['fractions.Fraction']
    """
    if not isinstance(archive, Path):
        archive.seek(0)
    return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(archive))


def check_weights(model: nn.Module, weights: object, path: Path | str) -> None:
    """Compare the names, shapes and kinds of weights with those of a model, and look for NaN and infinity.

    Floating-point weights of another precision are of the same kind.

    Raises:
        CheckpointError: They differ; the message says where.
    """
    remedy = "Build the model with the settings that it was trained with."
    subject, wanted = f"checkpoint {path}", f"weights of this {type(model).__name__}"
    if not isinstance(weights, Mapping):
        raise CheckpointError(complaint(subject, wanted, kind_of(weights), remedy))
    expected = model.state_dict()
    shared = {name: (tensor, weights[name]) for name, tensor in expected.items() if name in weights}
    tensors = {name: (own, other) for name, (own, other) in shared.items() if isinstance(other, Tensor)}
    differences = {
        "missing": [name for name in expected if name not in weights],
        "unexpected": [str(name) for name in weights if name not in expected],
        "of another shape": [
            f"{name} {tuple(other.shape)} instead of {tuple(own.shape)}"
            for name, (own, other) in tensors.items()
            if own.shape != other.shape
        ],
        "of another kind": [
            f"{name} {kind_of(other)} instead of {kind_of(own)}"
            for name, (own, other) in shared.items()
            if not _same_kind(own, other)
        ],
    }
    if not any(differences.values()):
        differences = {"NaN or infinite": unsound_weights(model, cast(Mapping[str, Tensor], weights))}
        remedy = "Restore it from a copy."
    found = "; ".join(f"{kind}: {_shortened(names)}" for kind, names in differences.items() if names)
    if found:
        raise CheckpointError(complaint(subject, wanted, found, remedy))


def kind_of(value: object) -> str:
    """Describe a value in a few words: type, and dtype and shape or the beginning of its text.

    Example:
        >>> kind_of(torch.zeros(2, 3)), kind_of(None), kind_of([1, 2])
        ('float32 tensor of shape (2, 3)', 'None', 'list [1, 2]')
    """
    if isinstance(value, Tensor):
        layout = "" if _has_values(value) else f" on {value.device} in layout {value.layout}"
        return f"{value.dtype} tensor of shape {tuple(value.shape)}{layout}".removeprefix("torch.")
    if value is None:
        return "None"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) < 60 else text[:60] + '…'}"


def unsound_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Return the names of parameters that hold NaN or infinity, and of buffers that hold NaN; masks may be infinite."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}

    def sound(name: str, tensor: Tensor) -> bool:
        return bool(tensor.isfinite().all() if name in parameters else not tensor.isnan().any())

    checked = {name: tensor for name, tensor in weights.items() if tensor.dtype in FLOATS or tensor.is_complex()}
    return [name for name, tensor in checked.items() if not sound(name, tensor)]


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


def _check_archive(path: Path) -> None:
    """Refuse archives that are damaged or not as `torch.save` makes them, before anything is unpacked."""
    with ZipFile(path) as archive:  # torch.load compares no checksums
        members = checked_entries(archive)
        if any(member.compress_type != ZIP_STORED or member.flag_bits & 1 for member in members):
            raise BadZipFile("it is compressed or encrypted, which torch.save does not do")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise BadZipFile("its parts are larger than the whole")
        if (damaged := archive.testzip()) is not None:
            raise BadZipFile(f"{damaged} has another checksum")


def _same_kind(own: Tensor, other: object) -> bool:
    if not isinstance(other, Tensor) or not _has_values(other):
        return False
    return own.dtype == other.dtype or (own.dtype in FLOATS and other.dtype in FLOATS)


def _has_values(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta


def _shortened(names: list[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
