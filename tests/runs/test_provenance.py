"""Where a run took place is told truthfully, and `None` where it is not known."""

import subprocess

import pytest
import torch

from experiments.threads import torch_threads
from vae_flows.errors import InvalidInputError
from vae_flows.runs.provenance import describe_commit, describe_hardware, describe_versions

UNKNOWN = {"commit": None, "dirty": None}


@pytest.fixture
def checkout(tmp_path):
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init")
    package = tmp_path / "experiments"
    package.mkdir()
    (package / "__init__.py").touch()
    git("add", ".")
    git("commit", "-m", "All")
    return tmp_path


def test_versions_and_hardware():
    versions, hardware = describe_versions(), describe_hardware()
    assert versions["torch"]
    assert versions["vae-flows"]
    assert hardware["cores"] >= 1
    assert isinstance(hardware["accelerators"], list)


def test_a_clean_checkout_has_a_commit(checkout):
    described = describe_commit(checkout / "experiments")
    assert len(described["commit"]) == 40
    assert described["dirty"] is False


def test_a_changed_checkout_is_dirty(checkout):
    (checkout / "new.py").touch()
    assert describe_commit(checkout / "experiments")["dirty"] is True


def test_code_inside_the_checkout_of_another_project_has_no_commit(checkout):
    installed = checkout / "site-packages" / "experiments"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    assert describe_commit(installed) == UNKNOWN


def test_no_checkout_or_no_git_has_no_commit(tmp_path, monkeypatch):
    assert describe_commit(tmp_path) == UNKNOWN
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_commit() == UNKNOWN


def test_threads_are_as_before_afterwards():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == describe_hardware()["threads"] == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(InvalidInputError, match="threads: expected a positive integer, got 0"), torch_threads(0):
        pass
