"""Data as evaluation takes them: examples on the device of a model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vae_flows.data import DataSet, Examples, as_examples
from vae_flows.modules import placement
from vae_flows.vae import VAE

__all__ = ["chosen_examples", "examples_for"]


def examples_for(vae: VAE, data: Any) -> Examples:
    """Return data of any kind as examples on the device of a model; of a data set its test split.

    Raises:
        InvalidInputError: It is nothing that `as_examples` takes.
    """
    examples = data.test if isinstance(data, DataSet) else as_examples(data)
    return examples.to(placement(vae)[0])


def chosen_examples(vae: VAE, data: Any, count: int) -> tuple[Examples, Tensor]:
    """Return data on the device of a model, and the indices of `count` of them, drawn without replacement."""
    examples = examples_for(vae, data)
    return examples, torch.randperm(len(examples))[:count]
