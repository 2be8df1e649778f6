"""Modules that are saved to a folder or to the Hugging Face hub, and loaded from there."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from vae_flows.checks import check_argument, require_device
from vae_flows.persistence.files import checked_path
from vae_flows.persistence.saved_models import load, save

__all__ = ["SavableModule"]


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
          latent_dim=2, context_dim=3, num_layers=2, initialization='identity'
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
            InvalidInputError: The module has state that is no tensor, weights that are NaN or infinite, or a part that
                does not tell its configuration; or the folder is no path.
            FileError: The folder cannot be written to, or another process saves there.
        """
        save(self, checked_path(folder, "folder of a saved model"))

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
            InvalidInputError: There is no such device, or a part was passed that the model does not have.
        """
        check_argument(f"{cls.__name__}.from_pretrained source", source, str | Path)
        device = require_device(f"{cls.__name__}.from_pretrained map_location", map_location)
        load_folder = partial(load, cls, map_location=device, parts=parts)
        if isinstance(source, Path) or os.path.isdir(source):
            return load_folder(Path(source))
        # Imported when it is needed: it brings an HTTP client, which takes a fifth of this library's import time.
        from vae_flows.persistence.hub import download

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

        Raises:
            FileError: The upload failed.
        """
        from vae_flows.persistence.hub import upload

        return upload(self, repo_id, **options)
