"""What holds for every test and doctest: one seed, which a knob shifts for all of them together."""

from __future__ import annotations

import os

import pytest
import torch

from tests.seeds import VARIABLE, reseed, shift


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the knob."""
    parser.addoption("--seed", type=int, help=f"shift the seeds of all tests (default: ${VARIABLE}, or 0)")


def pytest_configure(config: pytest.Config) -> None:
    """Put the seed where workers, and programs that tests start, read it."""
    seed = config.getoption("--seed")
    if seed is not None:
        os.environ[VARIABLE] = str(seed)


def pytest_report_header() -> str:
    """Say on what the suite runs: what a failure may hang on."""
    vector = torch.backends.cpu.get_cpu_capability()
    return f"torch {torch.__version__}, {vector}, {torch.get_num_threads()} thread(s), seed {shift()}"


@pytest.fixture(autouse=True)
def seed() -> None:
    """Let every test begin from the same random state."""
    reseed()
