"""Saved models on the Hugging Face hub. Imported when a hub is asked for, as its client takes long to import."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from torch import nn

from vae_flows.errors import CheckpointError, FileError, VAEFlowsError, complaint
from vae_flows.extras import needing
from vae_flows.persistence.saved_models import CONFIG_FILE, LIBRARY, WEIGHTS_FILE, save

with needing("hub"):
    from huggingface_hub import ModelCard, PyTorchModelHubMixin, snapshot_download

__all__ = ["HubModel", "download", "upload"]

Module = TypeVar("Module", bound=nn.Module)

MODEL_CARD = """---
{{ card_data }}
---

A `{{ model_class }}` of vae-flows, described by `config.json`. Once the library is installed:

```python
import vae_flows as vf

model = vf.{{ model_class }}.from_pretrained("owner/name")  # the name of this repository
```
"""


class HubModel(
    PyTorchModelHubMixin,
    library_name=LIBRARY,
    tags=["variational-autoencoder", "normalizing-flow"],
    model_card_template=MODEL_CARD,
):
    """A module as the hub's mixin sees it: what to upload, and how to load what was downloaded.

    The mixin stands beside the modules instead of among their base classes, so that importing them does not import the
    hub's client, and their constructors are not intercepted.

    Arguments:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        return super().generate_model_card(*args, model_class=type(self.module).__name__, **kwargs)

    def _save_pretrained(self, save_directory: Path) -> None:
        save(self.module, save_directory)

    @classmethod
    def _from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride] - options are those of `download`
        cls, *, model_id: str, load_folder: Callable[[Path], nn.Module], **options: Any
    ) -> HubModel:
        # A snapshot is of one commit, so that the two files belong together.
        folder = snapshot_download(model_id, allow_patterns=[CONFIG_FILE, WEIGHTS_FILE], **options)
        return cls(load_folder(Path(folder)))


def upload(module: nn.Module, repo_id: str, **options: Any) -> str:
    """Upload a model to the hub, and return the address of the commit.

    Arguments:
        module: The model.
        repo_id: The repository.
        **options: Those of the mixin's `push_to_hub`, such as `private`.

    Raises:
        FileError: The upload failed.
    """
    try:
        return HubModel(module).push_to_hub(repo_id, **options)
    except VAEFlowsError:
        raise
    except (OSError, ValueError) as error:
        remedy = "Check the repository's name, the network and the token."
        got = f"an error ({_first_line(error)})"
        raise FileError(
            complaint(f"repository {repo_id!r}", "an upload to the Hugging Face hub", got, remedy)
        ) from error


def download(source: str, load_folder: Callable[[Path], Module], **options: Any) -> Module:
    """Download a saved model from the hub, and load it.

    Arguments:
        source: The repository.
        load_folder: Loads what was downloaded.
        **options: Those of the mixin's `from_pretrained`, such as `revision`.

    Raises:
        CheckpointError: The hub cannot be reached, or has no such model.
    """
    try:
        return cast(Module, HubModel.from_pretrained(source, load_folder=load_folder, **options).module)
    except VAEFlowsError:
        raise
    except (OSError, ValueError) as error:
        expected, got = "a folder, or a repository of the Hugging Face hub", f"neither ({_first_line(error)})"
        raise CheckpointError(complaint(f"saved model {source!r}", expected, got)) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
