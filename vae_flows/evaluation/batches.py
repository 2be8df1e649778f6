"""Data as evaluation takes them: batches on the device and in the floating-point type of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vae_flows.data.images import DataSet, Images
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.modules import placement
from vae_flows.vae import VAE

__all__ = ["batch_of", "examples_for", "size_of_example"]

Examples = Images | Tensor


def examples_for(vae: VAE, data: Any) -> Examples:
    """Return data on the device of a model; of a data set its test split."""
    examples = data.test if isinstance(data, DataSet) else data
    if not isinstance(examples, Images | Tensor) or not len(examples):
        raise InvalidInputError(complaint("data", "Images or a tensor of one example or more", type(data).__name__))
    return examples.to(placement(vae)[0])


def batch_of(
    examples: Examples,
    indices: Tensor | slice | Sequence[int],
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype,
) -> Tensor:
    """Return a batch of examples."""
    if isinstance(examples, Tensor):
        return examples[indices].to(dtype)
    return examples.batch(indices, generator=generator, dtype=dtype)


def size_of_example(examples: Examples) -> int:
    """Return the number of values of one example."""
    return math.prod(examples.shape[1:] if isinstance(examples, Tensor) else examples.image_shape)
