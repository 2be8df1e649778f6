"""What holds for every test and doctest: one seed, which a knob shifts for all of them together."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest
import torch

from tests.optional_modules import lacks_its_package
from tests.seeds import VARIABLE, reseed, shift

ROOT = Path(__file__).parent
PACKAGES = ("vae_flows", "experiments", "examples")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the knob."""
    parser.addoption("--seed", type=int, help=f"shift the seeds of all tests (default: ${VARIABLE}, or 0)")


def pytest_configure(config: pytest.Config) -> None:
    """Put the seed where workers, and programs that tests start, read it."""
    seed = config.getoption("--seed")
    if seed is not None:
        os.environ[VARIABLE] = str(seed)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out examples of modules whose package is not installed."""
    return True if lacks_its_package(collection_path) else None


def pytest_collect_file(file_path: Path) -> None:
    """Import a module whose examples are run as the program knows it; by its path alone it would be another module."""
    path = file_path.relative_to(ROOT) if file_path.is_relative_to(ROOT) else file_path
    if path.suffix == ".py" and path.parts[0] in PACKAGES and path.name != "__main__.py":
        importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))


def pytest_report_header() -> str:
    """Say on what the suite runs: what a failure may hang on."""
    vector = torch.backends.cpu.get_cpu_capability()
    return f"torch {torch.__version__}, {vector}, {torch.get_num_threads()} thread(s), seed {shift()}"


@pytest.fixture(autouse=True)
def seed() -> None:
    """Let every test begin from the same random state."""
    reseed()
