"""Saves that are interrupted, killed or made at once leave a whole model: the old one, or the new."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import vae_flows as vf
from tests.persistence.small_models import C, D, assert_same, make_vae
from vae_flows.errors import CheckpointError, FileError
from vae_flows.persistence.saved_models import CONFIG_FILE, WEIGHTS_FILE

FORKS = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")  # of newer Pythons


@pytest.mark.parametrize("failing", range(3))
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError])
def test_an_interrupted_save_leaves_the_old_model_or_the_new_one(
    failing: int, before: bool, kind: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, old, new = tmp_path / "model", make_vae(), make_vae()
    if before:
        old.save_pretrained(folder)
    replace, calls = os.replace, 0

    def interrupted(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == failing + 1:
            raise kind
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(kind if kind is KeyboardInterrupt else FileError):
            new.save_pretrained(folder)
    assert not [name for name in os.listdir(folder) if name.startswith(".")]
    if failing == 2:  # the description is in place, and the weights have a name of their own
        assert_same(new, vf.VAE.from_pretrained(folder))
    elif before:
        assert_same(old, vf.VAE.from_pretrained(folder))
        assert sorted(os.listdir(folder)) == [CONFIG_FILE, WEIGHTS_FILE]
    else:
        with pytest.raises(CheckpointError, match=r"expected a folder with config\.json"):
            vf.VAE.from_pretrained(folder)
    new.save_pretrained(folder)
    assert_same(new, vf.VAE.from_pretrained(folder))
    assert sorted(os.listdir(folder)) == [CONFIG_FILE, WEIGHTS_FILE]


CALLS = ("open", "replace", "fsync", "unlink", "close", "mkdir", "stat", "fstat")


KILLED = 9


def killed_at_call(number: int, action: Callable[[], None]) -> bool:
    """Run in a fork, which ends without any clean-up at the given call to the system; say whether it came so far."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED
    calls = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                os._exit(KILLED)
            return original(*arguments, **options)

        return call

    try:
        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        action()
    finally:
        os._exit(0)


def assert_one_of(folder: Path, models: Sequence[vf.AmortizedPosterior]) -> None:
    loaded = vf.AmortizedPosterior.from_pretrained(folder)
    assert any(torch.equal(loaded.gaussian.weight, model.gaussian.weight) for model in models)
    assert loaded.flow_name in [model.flow_name for model in models]


@pytest.fixture
def posteriors() -> tuple[vf.AmortizedPosterior, vf.AmortizedPosterior]:
    return vf.AmortizedPosterior(D, C, "planar", num_layers=1), vf.AmortizedPosterior(D, C, "none")


@FORKS
def test_a_save_that_is_killed_at_any_call_leaves_the_old_model_or_the_new_one(
    posteriors: tuple[vf.AmortizedPosterior, vf.AmortizedPosterior], tmp_path: Path
) -> None:
    old, new = posteriors
    number = 0
    for number in range(1, 200):
        old.save_pretrained(tmp_path)
        assert sorted(os.listdir(tmp_path)) == [CONFIG_FILE, WEIGHTS_FILE]
        killed = killed_at_call(number, lambda: new.save_pretrained(tmp_path))
        assert_one_of(tmp_path, posteriors)
        if not killed:
            break
    assert number > 15
    assert_one_of(tmp_path, [new])


@FORKS
def test_savers_that_are_killed_at_any_time_leave_a_model(
    posteriors: tuple[vf.AmortizedPosterior, vf.AmortizedPosterior], tmp_path: Path
) -> None:
    posteriors[0].save_pretrained(tmp_path)
    for kill in range(40):
        child = os.fork()
        if not child:
            while True:
                for posterior in posteriors:
                    posterior.save_pretrained(tmp_path)
        time.sleep(0.005 + 0.0007 * kill)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert_one_of(tmp_path, posteriors)


@FORKS
def test_two_processes_that_save_at_once_leave_one_model(
    posteriors: tuple[vf.AmortizedPosterior, vf.AmortizedPosterior], tmp_path: Path
) -> None:
    posteriors[0].save_pretrained(tmp_path)
    children = []
    for posterior in posteriors:
        child = os.fork()
        if not child:
            status = 1
            try:
                for _ in range(20):
                    posterior.save_pretrained(tmp_path)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    while children:
        assert_one_of(tmp_path, posteriors)
        done, status = os.waitpid(-1, os.WNOHANG)
        if done:
            children.remove(done)
            assert status == 0
    assert sorted(os.listdir(tmp_path)) == [CONFIG_FILE, WEIGHTS_FILE]
