"""Any set of paths is collected, and one knob shifts the seeds of all tests."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.seeds import STRIDE, VARIABLE, numpy_generator, reseed, shifted, torch_generator

ROOT = Path(__file__).parents[1]
PATHS = [
    "tests/test_vae.py",
    "tests/ode/test_continuous_adjoint.py",
    "vae_flows/tensors/shapes.py",
    "vae_flows/persistence/json_files.py",
    "examples",
]
SAME_NAME = f"""
import os, pathlib, numpy, torch
from tests.seeds import shift

def test_seed():
    assert shift() == int(os.environ["{VARIABLE}"]) == 3
    assert torch.initial_seed() == 3 * {STRIDE} == numpy.random.get_state()[1][0]
    pathlib.Path(__file__).with_suffix(".ran").touch()
"""


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_tests_of_one_name_run_together_with_the_seed_that_was_asked_for(tmp_path: Path) -> None:
    files = [tmp_path / folder / "test_same_name.py" for folder in ("first", "second")]
    for file in files:
        file.parent.mkdir()
        file.write_text(SAME_NAME)
    done = run("--seed", 3, "--rootdir", ROOT, "-c", ROOT / "pyproject.toml", "-p", "conftest", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(file.with_suffix(".ran").exists() for file in files)


def test_paths_of_all_folders_are_collected_in_any_order() -> None:
    done = run("--collect-only", *reversed(PATHS))
    assert done.returncode == 0, done.stdout + done.stderr
    for path in PATHS:
        assert f"\n{path}" in f"\n{done.stdout}"


def test_a_knob_shifts_every_seed_and_none_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = []
    for knob in ("", "0", "1", "2"):
        monkeypatch.setenv(VARIABLE, knob)
        reseed(1)
        draws.append((float(torch.rand(1)), numpy_generator().random(), numpy_generator(1).random(), shifted(1)))
        assert float(torch.rand(1, generator=torch_generator(1))) == draws[-1][0]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: path.name)
def test_what_tests_share_is_in_no_test_and_found_from_anywhere(path: Path) -> None:
    modules = {
        node.module or ""
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
    }
    assert not {module for module in modules if module.split(".")[-1].startswith(("test_", "conftest"))}
    near = {sibling.stem for folder in (path.parent, ROOT / "tests") for sibling in folder.glob("*.py")}
    assert not modules & near, "name it from the root: tests.…"
