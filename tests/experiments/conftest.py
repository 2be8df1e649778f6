"""Cells that need no training: tiny settings, and metrics as a finished run leaves them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.cell import IMAGES, METRICS
from experiments.files import write_atomically, write_json
from experiments.grid import Cell
from experiments.settings import to_plain

PIXELS = 28 * 28


@pytest.fixture
def finish() -> Callable[..., None]:
    """Write into a cell's folder what a finished run leaves there."""

    def write(cell: Cell, negative_elbo: float = 100.0, **changes: Any) -> None:
        settings = cell.settings
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
        write_atomically(cell.folder / IMAGES, stream.getvalue())
        write_json(cell.folder / METRICS, metrics | changes)

    return write


@pytest.fixture
def no_colour(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the command line write plain text, from a folder of its own."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(tmp_path)
    return tmp_path
