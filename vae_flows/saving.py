"""Saved models: a folder with weights and a description, written whole, and read without running anything from it.

`model.safetensors` holds the weights, `config.json` says what they belong to:

| entry | meaning |
|---|---|
| `library`, `version`, `format` | who wrote it; a format newer than `FORMAT` is refused |
| `model` | the class, and the description of each part by the name of its argument |
| `weights` | the weights' SHA-256, which tells damage, and files of two saves that were mixed |

A part whose class is not registered is described by its class's name alone, as `{"unregistered": "MyEncoder"}`, and has
to be passed when the model is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from vae_flows.configuration import CLASS, UnregisteredClassError, build, config_of, describe
from vae_flows.errors import CheckpointError, InvalidInputError, UnknownNameError, complaint
from vae_flows.files import written_whole
from vae_flows.weights import take_weights

__all__ = ["SavableModule"]

LIBRARY = "vae-flows"
FORMAT = 1
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
UNREGISTERED = "unregistered"
Module = TypeVar("Module", bound=nn.Module)


class SavableModule(nn.Module):
    """A module that is saved to a folder or to the Hugging Face hub, and loaded from there.

    Subclasses are described by `config_of`, and each of their parts by its registered class (`register_class`).

    Example:
        >>> import tempfile
        >>> from vae_flows.posterior import AmortizedPosterior
        >>> folder = Path(tempfile.mkdtemp())
        >>> AmortizedPosterior(2, 3, flow="planar", num_layers=2).save_pretrained(folder)
        >>> sorted(path.name for path in folder.iterdir())
        ['config.json', 'model.safetensors']
        >>> AmortizedPosterior.from_pretrained(folder).flow
        PlanarFlow(
          latent_dim=2, context_dim=3, num_layers=2
          (heads): LinearHeads(
            shapes=((2, 2), (2, 2), (2,))
            (linear): Linear(in_features=3, out_features=10, bias=True)
          )
        )
    """

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights and description to a folder, replacing those of an earlier save once the new ones are complete.

        Requires no network. State that is no tensor of `state_dict()` is not saved, nor is `requires_grad`, nor
        whether the module is training.

        Arguments:
            folder: The folder, made where it is missing.

        Raises:
            InvalidInputError: The module has state that is no tensor, or a part that does not tell its configuration.
        """
        save(self, Path(folder))

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        map_location: str | torch.device = "cpu",
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        **parts: Any,
    ) -> Self:
        """Load a saved model, in evaluation mode and in the dtypes it was saved in; call `train()` to train it further.

        Only classes of this library and registered ones are built, and nothing is unpickled. A flow is built by its
        registered name, which is looked up among the entry points of installed packages too.

        Arguments:
            source: A folder, which is read without a network. A string that names no folder is taken for a repository
                of the hub, such as `"owner/model"`; a `Path` never is.
            map_location: The device of the loaded model.
            revision: Branch, tag or commit of the repository. This and the following are for the hub alone.
            token: The hub's access token, or whether to use the one that is stored on this machine.
            cache_dir: Where downloads are kept.
            force_download: Whether to download again what is kept.
            local_files_only: Whether to use only what is kept.
            **parts: Objects to use in place of parts of the description, by the name of their arguments, such as
                `encoder`. They are filled with the saved weights, and moved to their dtype and device.

        Raises:
            CheckpointError: There is no saved model, it is damaged, of a later format or of another class, its weights
                do not fit, or a part has to be passed; the message says which.
            InvalidInputError: A part was passed that the model does not have.
        """
        load_folder = partial(load, cls, map_location=torch.device(map_location), parts=parts)
        if isinstance(source, Path) or os.path.isdir(source):
            return load_folder(Path(source))
        # Imported when it is needed: it brings an HTTP client, which takes a fifth of this library's import time.
        from vae_flows.hub import download

        return download(
            source,
            load_folder,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
        )

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the saved model, with a model card, to a repository of the Hugging Face hub.

        Arguments:
            repo_id: The repository, such as `"owner/model"`; it is created where it is missing.
            **options: Those of `huggingface_hub.PyTorchModelHubMixin.push_to_hub`, such as `private` and `token`.

        Returns:
            The address of the commit.
        """
        from vae_flows.hub import HubModel

        return HubModel(self).push_to_hub(repo_id, **options)


def save(module: nn.Module, folder: Path) -> None:
    """Write weights and description of a module to a folder."""
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError(complaint("folder of a saved model", "a folder", f"a file at {folder}"))
    weights = safetensors.torch.save(_tensors(module), metadata={"format": "pt"})
    config = {
        "library": LIBRARY,
        "version": _version(),
        "format": FORMAT,
        "model": {CLASS: type(module).__name__} | {name: _describe(part) for name, part in config_of(module).items()},
        "weights": {"sha256": hashlib.sha256(weights).hexdigest()},
    }
    try:
        text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        subject = f"configuration of {type(module).__name__}"
        raise InvalidInputError(complaint(subject, "finite numbers", "NaN or infinity, which JSON lacks")) from None
    # Both are complete before either appears, the weights first: without a description nothing is loaded.
    with written_whole(folder / CONFIG_FILE) as config_file:
        config_file.write(text.encode() + b"\n")
        with written_whole(folder / WEIGHTS_FILE) as weights_file:
            weights_file.write(weights)


def load(cls: type[Module], folder: Path, *, map_location: torch.device, parts: Mapping[str, Any]) -> Module:
    """Build the module of class `cls` that a folder holds."""
    config = _read_config(folder)
    weights = _read_weights(folder, config)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, and then replaced
        module = _build(cls, config["model"], folder, parts)
    take_weights(module, weights, folder)
    return module.to(map_location).eval()


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    state = module.state_dict()
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise InvalidInputError(complaint(f"state of {type(module).__name__}", "tensors alone", ", ".join(others)))
    # Copies, because safetensors refuses tensors that share memory: tied weights are written under each of their names.
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}


def _describe(part: Any) -> Any:
    try:
        return describe(part)
    except UnregisteredClassError as error:
        return {UNREGISTERED: str(error)}


def _build(cls: type[Module], description: Mapping[str, Any], folder: Path, parts: Mapping[str, Any]) -> Module:
    saved, names = description.get(CLASS), [name for name in description if name != CLASS]
    if saved != cls.__name__:
        raise CheckpointError(complaint(f"saved model {folder}", f"class {cls.__name__}", f"class {saved}"))
    unknown = sorted(set(parts) - set(names))
    if unknown:
        expected = f"some of {', '.join(names)}"
        raise InvalidInputError(complaint(f"parts of {cls.__name__}.from_pretrained", expected, ", ".join(unknown)))
    arguments = {name: parts[name] if name in parts else _build_part(name, description[name], folder) for name in names}
    try:
        return cls(**arguments)
    except (TypeError, InvalidInputError, UnknownNameError) as error:
        raise _not_built(f"saved model {folder}", str(error), "the parts that it names") from error


def _build_part(name: str, description: Any, folder: Path) -> Any:
    subject = f"{name} of the saved model {folder}"
    if isinstance(description, Mapping) and UNREGISTERED in description:
        expected = f"{name}=…, as its class is not registered"
        remedy = "Pass an object of that class, or register the class before saving (vae_flows.register_class)."
        raise CheckpointError(complaint(subject, expected, f"none of class {description[UNREGISTERED]}", remedy))
    try:
        return build(description)
    except (TypeError, InvalidInputError, UnknownNameError) as error:
        raise _not_built(subject, str(error), f"{name}=…") from error


def _not_built(subject: str, error: str, argument: str) -> CheckpointError:
    remedy = f"Import the module that registers what is missing, or pass {argument}."
    return CheckpointError(complaint(subject, "a description that can be built", f"an error ({error})", remedy))


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    subject = f"saved model {folder}"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(complaint(subject, f"a folder with {CONFIG_FILE}", "none")) from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(complaint(subject, f"JSON in {CONFIG_FILE}", f"something else: {error}")) from None
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
    path = folder / WEIGHTS_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(complaint(f"saved model {folder}", f"a file {WEIGHTS_FILE}", "none")) from None
    if hashlib.sha256(content).hexdigest() != config["weights"].get("sha256"):
        remedy = "Save the model again, or restore both files from a copy."
        expected = f"the weights that {CONFIG_FILE} belongs to"
        raise CheckpointError(complaint(str(path), expected, "damaged ones or those of another save", remedy))
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise CheckpointError(complaint(str(path), "a safetensors file", f"something else: {error}")) from None


def _version() -> str:
    from vae_flows import __version__  # the package imports this module

    return __version__
