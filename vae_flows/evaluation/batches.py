"""What evaluations have in common: data on the device of a model, its evaluation mode, and random numbers by a key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vae_flows.data import DataSet, Examples, as_examples
from vae_flows.modules import in_mode, placement
from vae_flows.randomness import seeded
from vae_flows.vae import VAE

__all__ = ["chosen_batch", "evaluating", "examples_for"]


def examples_for(vae: VAE, data: Any) -> Examples:
    """Return data of any kind as examples on the device of a model; of a data set its test split.

    Raises:
        InvalidInputError: It is nothing that `as_examples` takes.
    """
    examples = data.test if isinstance(data, DataSet) else as_examples(data)
    return examples.to(placement(vae)[0])


@contextmanager
def evaluating(vae: VAE, *key: int | str) -> Iterator[torch.Generator]:
    """Put a model in evaluation mode for a block, whose random numbers depend on `key` alone; `seeded` says how.

    Yields:
        A generator on the model's device, independent of the global ones.
    """
    with in_mode(vae, training=False), seeded(placement(vae)[0], *key) as generator:
        yield generator


def chosen_batch(vae: VAE, data: Any, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` of the examples, or all where there are fewer, drawn without replacement: `(B, *event)`."""
    examples = examples_for(vae, data)
    indices = torch.randperm(len(examples))[:count]
    return examples.batch(indices, generator=generator, dtype=placement(vae)[1])
