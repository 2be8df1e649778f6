"""Runs on SLURM outlive their jobs and the driver: by SLURM's commands as a test has them, and submitit's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benchmark.attempts import Silent, epochs, executed, processes_of_events, wait_for
from tests.benchmark.ray_clusters import ancestors, processes_with
from tests.benchmark.slurm_commands import end_all, sessions, write_commands
from vae_flows.benchmark.grid import GridRun, plan_grid, run_grid
from vae_flows.benchmark.presets import PRESETS
from vae_flows.errors import InvalidInputError
from vae_flows.persistence.json_files import read_json
from vae_flows.persistence.saved_models import WEIGHTS_FILE
from vae_flows.runs.folder import LAST, METRICS

pytest.importorskip("submitit", reason="submitit is not installed: pip install 'vae-flows[slurm]'")

from vae_flows.benchmark.slurm_engine import JOBS, SlurmEngine

EPOCHS = 60
CHANGES = {
    "max_images": 60,
    "training.max_epochs": EPOCHS,
    "training.patience": EPOCHS,
    "training.batch_size": 20,
    "evaluation.importance_samples": 0,
    "compute.accelerator": "cpu",
}


class OnceUnderWay(Silent):
    """Calls a function once, when the run has done two epochs."""

    def __init__(self, act: Callable[[GridRun], Any]) -> None:
        self.act: Callable[[GridRun], Any] | None = act

    def running(self, runs: Sequence[GridRun]) -> None:
        for run in runs:
            if self.act is not None and epochs(run.folder) > 1:
                act, self.act = self.act, None
                act(run)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> GridRun:
    (run,) = plan(tmp_path_factory.mktemp("uninterrupted"))
    executed(run)
    return run


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch) -> Iterator[Path]:
    folder = tmp_path / "slurm"
    for variable, value in write_commands(folder).items():
        monkeypatch.setenv(variable, value)
    yield folder
    end_all(folder)


def plan(root: Path) -> tuple[GridRun, ...]:
    return plan_grid(PRESETS["smoke"], root, posteriors=["planar"], changes=CHANGES)


def process_of(run: GridRun) -> int:
    (process,) = processes_with(f"vae_flows\0run\0{run.folder}\0")
    return process


def assert_same(run: GridRun, other: GridRun) -> None:
    ours, theirs = (torch.load(each.folder / LAST, weights_only=True)["weights"] for each in (run, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    ours, theirs = ((each.folder / WEIGHTS_FILE).read_bytes() for each in (run, other))
    assert ours == theirs
    ours, theirs = (read_json(each.folder / METRICS)["test"] for each in (run, other))
    assert ours | {"seconds": 0} == theirs | {"seconds": 0}


def test_a_run_goes_on_in_another_job_when_its_own_dies(tmp_path, uninterrupted):
    """Killed is what submitit's local executor started, as a lost node would end it."""
    runs = plan(tmp_path)

    def kill(run: GridRun) -> None:
        os.kill(list(ancestors(process_of(run)))[1], signal.SIGKILL)

    with SlurmEngine(cluster="local") as engine:
        (outcome,) = run_grid(runs, engine, OnceUnderWay(kill))
    assert outcome.status == "finished", outcome.error
    assert len(processes_of_events(runs[0].folder)) == 2
    assert not (runs[0].folder / JOBS).exists()
    assert_same(runs[0], uninterrupted)


def test_a_run_whose_jobs_die_too_often_has_failed(tmp_path):
    command = ("-c", "import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
    with SlurmEngine(cluster="local", retries=1, command=command) as engine:
        (outcome,) = run_grid(plan(tmp_path), engine, OnceUnderWay(lambda _: None))
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert "its job " in outcome.error


@pytest.mark.slow
def test_the_next_driver_goes_on_with_the_jobs_of_one_that_was_killed(fake_slurm, tmp_path, uninterrupted):
    (run,) = plan(tmp_path / "grid")
    command = [sys.executable, "-m", "vae_flows", "benchmark", "--preset", "smoke", "--folder", str(tmp_path / "grid")]
    command += ["--posteriors", "planar", "--engine", "slurm", "--sbatch", "partition", "small"]
    command += ["--cpus-per-run", "2", "--threads", "1"]
    command += [word for name, value in CHANGES.items() for word in (f"--{name}", str(value))]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        try:
            wait_for(lambda: epochs(run.folder) > 1)
        finally:
            driver.kill()
    process = process_of(run)  # which lives on
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "planar seed 0: finished" in again.stdout
    assert len(sessions(fake_slurm)) == 1
    assert len(processes_of_events(run.folder)) == 1, process
    assert_same(run, uninterrupted)
    options = (fake_slurm / "jobs" / "1" / "options").read_text()
    for line in ("--partition=small", "--cpus-per-task=2", "--requeue", "--time=1440"):
        assert f"#SBATCH {line}\n" in options


def test_what_slurm_does_not_do_is_told_at_once(monkeypatch, tmp_path):
    with pytest.raises(InvalidInputError, match="whole GPUs"):
        SlurmEngine(cluster="local", gpus_per_run=0.25)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidInputError, match="the command sbatch, got none"):
        SlurmEngine()
