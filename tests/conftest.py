from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyro
import pytest
import torch
from torch import Tensor

from tests.seeds import reseed

Golden = dict[str, Tensor]


@pytest.fixture
def clean_param_store():
    """An empty parameter store of Pyro, and a fixed seed."""
    pyro.clear_param_store()
    reseed()
    yield
    pyro.clear_param_store()


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    """Load a file of `tests/golden` by its stem, as float64 tensors."""

    def load(stem: str) -> Golden:
        with np.load(Path(__file__).parent / "golden" / f"{stem}.npz", allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name].astype(np.float64)) for name in arrays}

    return load
