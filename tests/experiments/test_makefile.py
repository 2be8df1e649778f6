"""The Makefile installs once, whole or not at all, and says what Python it needs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = [f"benchmark{suffix}" for suffix in ("", "-mnist", "-caltech", "-frey", "-omniglot")]
EXAMPLES = {
    "example-plain": "plain_torch_vae",
    "example-pyro": "pyro_vae_tutorial",
    "example-hierarchical": "hierarchical_autoguide",
    "example-conditional": "conditional_vae",
    "example-prior": "learned_prior",
}
CHECKS = ["test", "test-all", "test-everywhere", "mutation", "lint", "typecheck"]
OTHERS = ["ablations", "density", "density-glow", "regularizers", "speed", "smoke", "clean", "help"]
TARGETS = ["setup", "setup-oldest", *BENCHMARKS, "examples", *EXAMPLES, *CHECKS, *OTHERS]

# What a make that runs these tests hands down: its own flags, and its variables that were set on the command line.
INHERITED = ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PYTHON", "PRESET", "WORKERS", "THREADS"]
INHERITED += ["DEVICE", "OPTIONS"]

# Stands for Python: makes a .venv whose python writes down what it is called with.
FAKE_PYTHON = """#!/bin/sh
case "$1" in
-c) exit {too_old} ;;
-V) echo Python 3.9.1 ;;
-m) mkdir -p "$3/bin" && cp "{installed}" "$3/bin/python" ;;
esac
"""
FAKE_INSTALLED = """#!/bin/sh
echo "$@" >> calls.txt
case "$*" in *"pip install"*) exit {install_status} ;; esac
"""


@pytest.fixture
def project(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "oldest.txt").touch()

    def make(*arguments: str, too_old: int = 0, install_status: int = 0) -> subprocess.CompletedProcess[str]:
        installed = tmp_path / "installed"
        installed.write_text(FAKE_INSTALLED.format(install_status=install_status))
        python = tmp_path / "fake-python"
        python.write_text(FAKE_PYTHON.format(too_old=too_old, installed=installed))
        for script in (installed, python):
            script.chmod(0o755)
        command = ["make", f"PYTHON={python}", *arguments]
        variables = {name: value for name, value in os.environ.items() if name not in INHERITED}
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)

    return make, tmp_path


def test_what_an_outer_make_was_given_changes_nothing_here(project, monkeypatch):
    make, folder = project
    monkeypatch.setenv("MAKEFLAGS", " -- OPTIONS=--turn\\ 1 PRESET=paper")
    monkeypatch.setenv("OPTIONS", "--turn 1")
    monkeypatch.setenv("PRESET", "paper")
    assert make("benchmark").returncode == 0
    assert (folder / "calls.txt").read_text().splitlines()[-1] == "-m experiments benchmark --preset quick"


def test_help_is_the_default_and_lists_every_target(project):
    make, folder = project
    text = make().stdout
    assert text == make("help").stdout
    for target in TARGETS:
        assert f"make {target} " in text
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize(
    ("target", "call"),
    [
        ("benchmark", "-m experiments benchmark --preset quick"),
        ("benchmark-mnist", "--preset quick --data mnist-static --folder runs/quick-mnist"),
        ("benchmark-omniglot", "--data omniglot"),
        ("test", "-m pytest"),
        ("test-everywhere", "-m tests.everywhere"),
        ("mutation", "-m tests.mutation"),
        ("lint", "-m ruff check"),
        ("typecheck", "-m pyright"),
    ],
)
def test_targets_install_what_is_missing_once(project, target, call):
    make, folder = project
    assert make(target).returncode == 0
    assert make(target).returncode == 0
    calls = " ".join((folder / "calls.txt").read_text().split())
    assert calls.count("pip install") == (2 if target == "mutation" else 1)
    assert call in calls


def test_peers_are_installed_once_and_for_the_speed_comparison_alone(project):
    make, folder = project
    assert make("test").returncode == 0
    assert "peers" not in (folder / "calls.txt").read_text()
    assert make("speed", "OPTIONS=--quick").returncode == 0
    assert make("speed").returncode == 0
    calls = (folder / "calls.txt").read_text().splitlines()
    assert sum(".[dev,peers]" in call for call in calls) == 1
    assert calls[-2:] == ["-m experiments speed --quick", "-m experiments speed"]
    assert make("speed", "DEVICE=cuda").returncode == 0
    assert (folder / "calls.txt").read_text().splitlines()[-1] == "-m experiments speed --device cuda"


def test_all_examples_run_one_after_the_other_with_the_same_options(project):
    make, folder = project
    assert make("examples", "OPTIONS=--quick").returncode == 0
    calls = (folder / "calls.txt").read_text().splitlines()[-len(EXAMPLES) :]
    assert calls == [f"-m examples.{name} --quick" for name in EXAMPLES.values()]
    for target, name in EXAMPLES.items():
        assert make(target).returncode == 0
        assert (folder / "calls.txt").read_text().splitlines()[-1] == f"-m examples.{name}"
        assert (ROOT / "examples" / f"{name}.py").exists()


def test_an_interrupted_installation_of_the_peers_is_repeated(project):
    make, folder = project
    make("setup")
    (folder / ".venv" / "bin" / "python").write_text(FAKE_INSTALLED.format(install_status=1))
    assert make("speed").returncode != 0
    assert not (folder / ".venv" / ".installed-peers").exists()


def test_the_oldest_releases_are_installed_once_and_beside_the_newest(project):
    make, folder = project
    assert make("setup-oldest").returncode == 0
    assert make("setup-oldest").returncode == 0
    (call,) = (folder / "calls.txt").read_text().splitlines()
    assert "--constraint tests/oldest.txt --editable .[test]" in " ".join(call.split())
    assert (folder / ".venv-oldest" / ".installed").exists()
    assert not (folder / ".venv").exists()


def test_variables_are_passed_on(project):
    make, folder = project
    make("benchmark-frey", "PRESET=paper", "WORKERS=3", "THREADS=2", "OPTIONS=--seeds 0")
    call = " ".join((folder / "calls.txt").read_text().splitlines()[-1].split())
    assert call == (
        "-m experiments benchmark --preset paper --workers 3 --threads 2 --data frey-faces --folder runs/paper-frey "
        "--seeds 0"
    )


def test_an_interrupted_installation_is_repeated(project):
    make, folder = project
    assert make("setup", install_status=1).returncode != 0
    assert not (folder / ".venv" / ".installed").exists()
    assert make("setup").returncode == 0
    assert (folder / ".venv" / ".installed").exists()


def test_a_changed_pyproject_installs_again(project):
    make, folder = project
    make("setup")
    stamp = (folder / ".venv" / ".installed").stat().st_mtime
    os.utime(folder / "pyproject.toml", (stamp + 10, stamp + 10))
    make("setup")
    assert (folder / "calls.txt").read_text().count("pip install") == 2


def test_an_old_python_is_told(project):
    make, folder = project
    done = make("setup", too_old=1)
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr
    assert "is Python 3.9.1" in done.stderr
    assert not (folder / ".venv").exists()


def test_a_missing_python_is_told(project):
    make, _ = project
    done = make("setup", "PYTHON=no-such-python")
    assert done.returncode != 0
    assert "there is no 'no-such-python'" in done.stderr
