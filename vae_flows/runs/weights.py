"""The trained model of a run, on a device."""

from __future__ import annotations

from pathlib import Path

import torch

from vae_flows.checks import require_device
from vae_flows.data import DataSet
from vae_flows.runs.build import build_vae
from vae_flows.runs.settings import RunSettings
from vae_flows.training import load_weights
from vae_flows.vae import VAE

__all__ = ["load_best"]


def load_best(folder: Path, settings: RunSettings, data: DataSet, device: str) -> VAE:
    """Build the model of a run with its best weights.

    Arguments:
        folder: The run's folder.
        settings: Its settings.
        data: Its data set.
        device: Name of a device, or `"auto"` for a GPU if there is one.

    Raises:
        CheckpointError: There is no checkpoint, it is damaged, or it belongs to another model.
        InvalidInputError: There is no such device.
    """
    vae = build_vae(settings, data)
    load_weights(vae, folder)
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return vae.to(require_device("device", name))
