"""Saved models: a folder with weights and a description, written whole, and read without running anything from it.

`model.safetensors` holds the weights, `config.json` says what they belong to:

| entry | meaning |
|---|---|
| `library`, `version`, `format` | who wrote it; a format newer than `FORMAT` is refused |
| `model` | the class, and the description of each part by the name of its argument |
| `weights` | the weights' SHA-256, which tells damage, and files of two saves that were mixed |
| `epoch` | of the best weights of a training, the number of their epoch |

A save over an earlier one writes the weights under a name of their own, `model-<digest>.safetensors`, then
`config.json`, and renames the weights last. Whenever it is killed, the description belongs to weights in the folder.

A part whose class is not registered is described by its class's name alone, as `{"unregistered": "MyEncoder"}`, and has
to be passed when the model is loaded.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from vae_flows.call_stack import warn
from vae_flows.errors import CheckpointError, FileError, InvalidInputError, complaint
from vae_flows.persistence.configuration import (
    CLASS,
    UnregisteredClassError,
    build,
    config_of,
    describe,
    sizes_in,
    upgraded_config,
)
from vae_flows.persistence.construction import ConstructionTooLargeError, bounded_construction
from vae_flows.persistence.files import (
    exclusive,
    file_errors,
    read_file,
    sweep,
    sync_folder,
    written_whole,
)
from vae_flows.persistence.weights import check_weights, take_weights, unsound_weights
from vae_flows.version import __version__

__all__ = ["CONFIG_FILE", "LIBRARY", "WEIGHTS_FILE", "SavedWeights", "check_savable", "load", "read_weights", "save"]

LIBRARY = "vae-flows"
FORMAT = 1
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
UNREGISTERED, WITHIN = "unregistered", "within"
DIGEST = re.compile("[0-9a-f]{64}")
PENDING = re.compile(r"model-[0-9a-f]{16}\.safetensors")
LARGEST_CONFIG = 2**20
"""Bytes of a description."""
LEAST_SIZE, LEAST_COUNT, SLACK = 10**6, 1000, 16
"""Sizes, and counts of parts, that are let pass whatever the weights; and how far above the weights' a limit is."""
WAIT_SECONDS = 60.0
"""For another process that saves to the same folder."""
Module = TypeVar("Module", bound=nn.Module)


class SavedWeights(NamedTuple):
    """The weights of a saved model, and their epoch where a training wrote them."""

    tensors: Mapping[str, Tensor]
    epoch: object = None


def save(
    module: nn.Module, folder: Path, *, weights: Mapping[str, Tensor] | None = None, epoch: int | None = None
) -> None:
    """Write weights and description of a module to a folder.

    Arguments:
        module: The module.
        folder: The folder, made where it is missing.
        weights: Instead of those that the module has now.
        epoch: The epoch of a training that the weights are of.
    """
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise InvalidInputError(complaint("folder of a saved model", "a folder", f"a file at {folder}"))
    _warn_of_shared_weights(module)
    content = safetensors.torch.save(_tensors(module, weights), metadata={"format": "pt"})
    digest = hashlib.sha256(content).hexdigest()
    own = {} if epoch is None else {"epoch": epoch}
    config = _to_json(module, _config(module) | {"weights": {"sha256": digest}} | own)
    with exclusive(folder, wait=WAIT_SECONDS, again=True):
        _write(folder, config, content, digest)


def check_savable(module: nn.Module) -> None:
    """Check that `save` would take a module, before much is done whose result is to be saved.

    Raises:
        InvalidInputError: It has state that is no tensor, or a part that does not tell its configuration.
    """
    _to_json(module, _config(module))
    _check_state(module, module.state_dict())


def read_weights(folder: Path) -> SavedWeights:
    """Read the weights of the saved model in a folder, without building it.

    Raises:
        CheckpointError: There is no saved model, or it is damaged.
    """
    config = _read_config(folder)
    return SavedWeights(_read_weights(folder, config), config.get("epoch"))


def _config(module: nn.Module) -> dict[str, Any]:
    return {
        "library": LIBRARY,
        "version": __version__,
        "format": FORMAT,
        "model": {CLASS: type(module).__name__} | {name: _describe(part) for name, part in config_of(module).items()},
    }


def _to_json(module: nn.Module, config: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except ValueError:
        subject = f"configuration of {type(module).__name__}"
        raise InvalidInputError(complaint(subject, "finite numbers", "NaN or infinity, which JSON lacks")) from None


def _write(folder: Path, config: bytes, weights: bytes, digest: str) -> None:
    """Write both files so that at every moment the folder holds one whole save, the earlier or the new one."""
    pending = _pending(folder, digest)
    try:
        with written_whole(pending) as file:
            file.write(weights)
        with written_whole(folder / CONFIG_FILE) as file:
            file.write(config)
    except BaseException:
        if not _describes(folder, digest):
            with suppress(OSError):
                pending.unlink()
        raise
    with file_errors(folder / WEIGHTS_FILE, "a file that can be written"):
        os.replace(pending, folder / WEIGHTS_FILE)
        sync_folder(folder)
        for left in folder.iterdir():
            if PENDING.fullmatch(left.name):
                left.unlink()
    sweep(folder)


def _pending(folder: Path, digest: str) -> Path:
    """Return the name that weights have until they are the folder's."""
    return folder / f"model-{digest[:16]}.safetensors"


def _describes(folder: Path, digest: str) -> bool:
    try:
        return digest.encode() in read_file(folder / CONFIG_FILE)
    except FileError:
        return False


def load(cls: type[Module], folder: Path, *, map_location: torch.device, parts: Mapping[str, Any]) -> Module:
    """Build the module of class `cls` that a folder holds."""
    config = _read_config(folder)
    weights = _read_weights(folder, config)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, and then replaced
        module = _build_to_measure(cls, config["model"], folder, parts, weights)
    take_weights(module, weights, folder)
    return module.to(map_location).eval()


def _build_to_measure(
    cls: type[Module],
    description: Mapping[str, Any],
    folder: Path,
    parts: Mapping[str, Any],
    weights: Mapping[str, Tensor],
) -> Module:
    """Build a module only once it is known to be as large as the weights, so that no description decides on memory."""
    total = sum(tensor.numel() for tensor in weights.values())
    limit = max(SLACK * total, LEAST_SIZE)
    sizes = sorted(size for name in description if name not in parts for size in sizes_in(description[name]))
    if sizes and sizes[-1] > max(total, LEAST_SIZE):
        raise _too_large(folder, f"a size of {sizes[-1]:,}")
    most = SLACK * len(weights) + LEAST_COUNT
    try:
        with bounded_construction(most), torch.device("meta"):
            outline = _build(cls, description, folder, parts)
    except ConstructionTooLargeError:
        raise _too_large(folder, f"more than {most:,} parts") from None
    except Exception:  # flows of other libraries compute while they are built, which the meta device cannot
        if math.prod(sizes[-2:]) > limit:
            raise _too_large(folder, f"sizes of {sizes[-2]:,} and {sizes[-1]:,}") from None
    else:
        check_weights(outline, weights, folder)
        unsaved = sum(buffer.numel() for buffer in outline.buffers()) - total
        if unsaved > limit:
            raise _too_large(folder, f"buffers of {unsaved:,} numbers")
    try:
        with bounded_construction(most):
            return _build(cls, description, folder, parts)
    except ConstructionTooLargeError:
        raise _too_large(folder, f"more than {most:,} parts") from None


def _too_large(folder: Path, got: str) -> CheckpointError:
    expected = f"a {CONFIG_FILE} of a model as large as its weights"
    return CheckpointError(complaint(f"saved model {folder}", expected, got, "Save the model again."))


def _check_state(module: nn.Module, state: Mapping[str, Any]) -> None:
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise InvalidInputError(complaint(f"state of {type(module).__name__}", "tensors alone", ", ".join(others)))


def _tensors(module: nn.Module, weights: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    state = module.state_dict() if weights is None else weights
    _check_state(module, state)
    if unsound := unsound_weights(module, state):
        subject, remedy = (
            f"weights of {type(module).__name__}",
            "Save an earlier state, such as that of the best epoch.",
        )
        raise InvalidInputError(
            complaint(subject, "finite numbers", f"NaN or infinity in {', '.join(unsound)}", remedy)
        )
    # Copies, because safetensors refuses tensors that share memory: tied weights are written under each of their names.
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}


def _warn_of_shared_weights(module: nn.Module) -> None:
    """Warn of parameters of two parts that are one: parts are built each for itself, and have them apart then."""
    owners: dict[int, set[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), set()).add(name.partition(".")[0])
    if shared := sorted({" and ".join(sorted(parts)) for parts in owners.values() if len(parts) > 1}):
        expected, got = "parts with weights of their own", f"some that are shared by {'; '.join(shared)}"
        remedy = "A loaded model has them apart, with equal values: tie them again before you train it further."
        warn(complaint(f"saved {type(module).__name__}", expected, got, remedy))


def _describe(part: Any) -> Any:
    try:
        return describe(part)
    except UnregisteredClassError as error:
        own, unregistered = type(part).__qualname__, str(error)
        return {UNREGISTERED: unregistered} if own == unregistered else {UNREGISTERED: unregistered, WITHIN: own}


def _build(cls: type[Module], description: Mapping[str, Any], folder: Path, parts: Mapping[str, Any]) -> Module:
    saved, names = description.get(CLASS), [name for name in description if name != CLASS]
    if saved != cls.__name__:
        raise CheckpointError(complaint(f"saved model {folder}", f"class {cls.__name__}", f"class {saved}"))
    description = upgraded_config(cls, description)
    unknown = sorted(set(parts) - set(names))
    if unknown:
        expected = f"some of {', '.join(names)}"
        raise InvalidInputError(complaint(f"parts of {cls.__name__}.from_pretrained", expected, ", ".join(unknown)))
    arguments = {name: parts[name] if name in parts else _build_part(name, description[name], folder) for name in names}
    try:
        return cls(**arguments)
    except ConstructionTooLargeError:
        raise
    except Exception as error:
        raise _not_built(f"saved model {folder}", _first_line(error), "the parts that it names") from error


def _build_part(name: str, description: Any, folder: Path) -> Any:
    subject = f"{name} of the saved model {folder}"
    if isinstance(description, Mapping) and UNREGISTERED in description:
        expected = f"{name}=…, as its class is not registered"
        got = f"none of class {description[UNREGISTERED]}"
        if WITHIN in description:
            expected = f"{name}=…, as the class {description[UNREGISTERED]} of a part of it is not registered"
            got = f"none of class {description[WITHIN]}"
        remedy = "Pass an object of that class, or register the class before saving (vae_flows.register_class)."
        raise CheckpointError(complaint(subject, expected, got, remedy))
    try:
        return build(description)
    except ConstructionTooLargeError:
        raise
    except Exception as error:  # arguments may be wrong in any way
        raise _not_built(subject, _first_line(error), f"{name}=…") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _not_built(subject: str, error: str, argument: str) -> CheckpointError:
    remedy = f"Import the module that registers what is missing, or pass {argument}."
    return CheckpointError(complaint(subject, "a description that can be built", f"an error ({error})", remedy))


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    subject = f"saved model {folder}"
    if not os.path.exists(path):
        raise CheckpointError(complaint(subject, f"a folder with {CONFIG_FILE}", "none"))
    try:
        config = json.loads(read_file(path, limit=LARGEST_CONFIG).decode())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(complaint(subject, f"JSON in {CONFIG_FILE}", f"something else: {error}")) from None
    except FileError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(config, dict) or config.get("library") != LIBRARY:
        raise CheckpointError(complaint(subject, f"a {CONFIG_FILE} of {LIBRARY}", "that of something else"))
    written = config.get("format")
    if not isinstance(written, int) or written > FORMAT:
        got = f"{written!r}, written by version {config.get('version')}"
        raise CheckpointError(complaint(subject, f"format {FORMAT} or earlier", got, f"Install that {LIBRARY}."))
    if not isinstance(config.get("model"), dict) or not isinstance(config.get("weights"), dict):
        raise CheckpointError(complaint(subject, f"entries model and weights in {CONFIG_FILE}", ", ".join(config)))
    return config


def _read_weights(folder: Path, config: Mapping[str, Any]) -> dict[str, Tensor]:
    path, digest = folder / WEIGHTS_FILE, config["weights"].get("sha256")
    names = [_pending(folder, digest)] if isinstance(digest, str) and DIGEST.fullmatch(digest) else []
    # The new name first: a save that goes on meanwhile turns it into the other.
    contents = [content for name in (*names, path) if (content := _read(name)) is not None]
    if not contents:
        raise CheckpointError(complaint(f"saved model {folder}", f"a file {WEIGHTS_FILE}", "none"))
    content = next((content for content in contents if hashlib.sha256(content).hexdigest() == digest), None)
    if content is None:
        remedy = "Save the model again, or restore both files from a copy."
        expected = f"the weights that {CONFIG_FILE} belongs to"
        raise CheckpointError(complaint(str(path), expected, "damaged ones or those of another save", remedy))
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # a parser may raise anything on what is no file of its own
        raise CheckpointError(complaint(str(path), "a safetensors file", f"something else: {error}")) from None


def _read(path: Path) -> bytes | None:
    try:
        return read_file(path)
    except FileError as error:
        if error.errno == errno.ENOENT:
            return None
        raise CheckpointError(str(error)) from error
