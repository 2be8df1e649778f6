"""Where tests take their seeds from, so that one knob shifts them all.

A test that holds for one seed and not for the next says nothing about the code. `pytest --seed 1`, or the variable
below, runs the whole suite with other draws.
"""

from __future__ import annotations

import os

import numpy as np
import pyro
import torch

__all__ = ["VARIABLE", "numpy_generator", "reseed", "reseed_as_documented", "shift", "shifted", "torch_generator"]

VARIABLE = "VAE_FLOWS_TEST_SEED"
STRIDE = 1000  # more than any seed that a test names, so that no two shifts share one


def shift() -> int:
    """Return by how much the seeds of this run are shifted."""
    return int(os.environ.get(VARIABLE) or 0)


def shifted(seed: int = 0) -> int:
    """Return the seed of this run that stands for `seed`; the seed itself where nothing is shifted."""
    return STRIDE * shift() + seed


def reseed(seed: int = 0) -> None:
    """Seed the global states of torch, numpy and Python."""
    pyro.set_rng_seed(shifted(seed))


def reseed_as_documented(seed: int = 0) -> None:
    """Seed as a figure of the documentation was measured, whatever the knob says."""
    torch.manual_seed(seed)


def torch_generator(seed: int = 0, device: str = "cpu") -> torch.Generator:
    """Make a generator of torch."""
    return torch.Generator(device).manual_seed(shifted(seed))


def numpy_generator(seed: int = 0) -> np.random.Generator:
    """Make a generator of numpy."""
    return np.random.default_rng(shifted(seed))
