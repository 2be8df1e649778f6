from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from torch import Tensor

from tests.seeds import reseed
from vae_flows.benchmark.grid import GridRun
from vae_flows.persistence.json_files import write_atomically, write_json
from vae_flows.persistence.records import to_plain
from vae_flows.runs.folder import IMAGES, METRICS

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


@pytest.fixture
def finish() -> Callable[..., None]:
    """Write into a run's folder what a finished run leaves there."""

    def write(run: GridRun, negative_elbo: float = 100.0, **changes: Any) -> None:
        settings = run.settings
        metrics = {
            "data": settings.data,
            "posterior": settings.posterior,
            "seed": settings.seed,
            "unit": "nats",
            "nats_per_unit": 1.0,
            "test": {
                "negative_elbo": negative_elbo,
                "negative_log_likelihood": negative_elbo - 5.0,
                "evaluations_per_solve": 20.0 if settings.posterior == "ffjord" else None,
            },
            "parameters": 1234,
            "settings": to_plain(settings),
            "commit": "abc",
            "dirty": False,
            "history": {"validation_negative_elbo": [120.0, negative_elbo], "seconds": [1.0, 3.0]},
        }
        stream = io.BytesIO()
        black = np.zeros((2, 1, 4, 4), np.uint8)
        np.savez_compressed(stream, originals=black, reconstructions=black, samples=black)
        write_atomically(run.folder / IMAGES, stream.getvalue())
        write_json(run.folder / METRICS, metrics | changes)

    return write


@pytest.fixture
def no_colour(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the command line write plain text, from a folder of its own."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(tmp_path)
    return tmp_path
