"""Data as evaluation takes them: examples on the device of a model."""

from __future__ import annotations

from typing import Any

from vae_flows.data import DataSet, Examples, as_examples
from vae_flows.modules import placement
from vae_flows.vae import VAE

__all__ = ["examples_for"]


def examples_for(vae: VAE, data: Any) -> Examples:
    """Return data of any kind as examples on the device of a model; of a data set its test split.

    Raises:
        InvalidInputError: It is nothing that `as_examples` takes.
    """
    examples = data.test if isinstance(data, DataSet) else as_examples(data)
    return examples.to(placement(vae)[0])
