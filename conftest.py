"""What holds for every test and doctest: one seed, which a knob shifts for all of them together."""

from __future__ import annotations

import importlib
import os
import signal
import zlib
from pathlib import Path

import pytest
import torch

from tests.optional_modules import lacks_its_package
from tests.seeds import VARIABLE, reseed, shift

ROOT = Path(__file__).parent
PACKAGES = ("vae_flows", "experiments", "examples")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the knobs."""
    parser.addoption("--seed", type=int, help=f"shift the seeds of all tests (default: ${VARIABLE}, or 0)")
    parser.addoption(
        "--part", type=_part, metavar="K/N", help="run the K-th part of the files, cut into N by their names"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Put the seed where workers, and programs that tests start, read it, and let interrupts reach them."""
    # What a shell starts in the background ignores interrupts, and so do the programs that it starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    seed = config.getoption("--seed")
    if seed is not None:
        os.environ[VARIABLE] = str(seed)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the files of other parts."""
    part = config.getoption("--part")
    if part is None:
        return
    index, count = part
    chosen: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        name = item.path.relative_to(ROOT).as_posix()
        chosen[zlib.crc32(name.encode()) % count == index].append(item)
    config.hook.pytest_deselected(items=chosen[False])
    items[:] = chosen[True]


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


def _part(text: str) -> tuple[int, int]:
    """Read `1/2`, the first of two, as (0, 2)."""
    index, count = map(int, text.split("/"))
    if not 1 <= index <= count:
        raise ValueError(text)
    return index - 1, count


@pytest.fixture(autouse=True)
def seed() -> None:
    """Let every test begin from the same random state."""
    reseed()
