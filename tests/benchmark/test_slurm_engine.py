"""Runs on SLURM outlive their jobs and the driver: by SLURM's commands as a test has them, and submitit's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benchmark.attempts import Silent, epochs, executed, processes_of_events, wait_for
from tests.benchmark.ray_clusters import ancestors, processes_with
from tests.benchmark.slurm_commands import end_all, refuse, sessions, write_commands
from vae_flows.benchmark import grid
from vae_flows.benchmark.engine import RunHandle
from vae_flows.benchmark.grid import GridRun, RunOutcome, plan_grid, run_grid
from vae_flows.benchmark.presets import PRESETS
from vae_flows.errors import InvalidInputError
from vae_flows.persistence.json_files import read_json
from vae_flows.persistence.saved_models import WEIGHTS_FILE
from vae_flows.runs.folder import LAST, METRICS

pytest.importorskip("submitit", reason="submitit is not installed: pip install 'vae-flows[slurm]'")

from vae_flows.benchmark import slurm_engine, slurm_states
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


class Waiting(Silent):
    """Remembers what it waits for, and interrupts then if it is to."""

    def __init__(self, *, interrupts: bool = False) -> None:
        self.interrupts = interrupts
        self.met: list[GridRun] = []

    def elsewhere(self, run: GridRun) -> None:
        self.met.append(run)
        if self.interrupts:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("interrupts", [True, False])
def test_a_second_driver_waits_for_the_jobs_of_the_first(fake_slurm, tmp_path, uninterrupted, monkeypatch, interrupts):
    """Interrupted, it leaves them alone."""
    monkeypatch.setattr(grid, "LOOK_SECONDS", 0.1)
    (run,) = plan(tmp_path / "grid")
    first: list[RunOutcome] = []

    def follow() -> None:
        with SlurmEngine(threads=1) as engine:
            first.extend(run_grid([run], engine, Silent()))

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        wait_for(lambda: (run.folder / JOBS / "job.json").exists())
        monitor = Waiting(interrupts=interrupts)
        with SlurmEngine(threads=1) as engine:
            if interrupts:
                with pytest.raises(KeyboardInterrupt):
                    run_grid([run], engine, monitor)
            else:
                (second,) = run_grid([run], engine, monitor)
                assert second.status == "finished"
    finally:
        thread.join()
    assert monitor.met == [run]
    assert [outcome.status for outcome in first] == ["finished"]
    assert len(sessions(fake_slurm)) == 1
    assert_same(run, uninterrupted)


@pytest.mark.slow
def test_a_suspended_job_is_waited_for(fake_slurm, tmp_path, uninterrupted):
    (run,) = plan(tmp_path / "grid")

    def suspend(run: GridRun) -> None:
        (fake_slurm / "jobs" / "1" / "state").write_text("SUSPENDED")
        os.kill(process_of(run), signal.SIGSTOP)
        threading.Timer(6.0, go_on, [process_of(run)]).start()

    def go_on(process: int) -> None:
        (fake_slurm / "jobs" / "1" / "state").unlink()
        os.kill(process, signal.SIGCONT)

    with SlurmEngine(threads=1, retries=0) as engine:
        (outcome,) = run_grid([run], engine, OnceUnderWay(suspend))
    assert outcome.status == "finished", outcome.error
    assert len(sessions(fake_slurm)) == 1
    assert len(processes_of_events(run.folder)) == 1
    assert_same(run, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("retries", [1, 0])
def test_a_preempted_job_that_is_not_queued_again_is_followed_by_another(
    fake_slurm, tmp_path, uninterrupted, monkeypatch, retries
):
    monkeypatch.setattr(slurm_states, "PREEMPTED_SECONDS", 1.0)
    (run,) = plan(tmp_path / "grid")

    def preempt(_run: GridRun) -> None:
        (fake_slurm / "jobs" / "1" / "state").write_text("PREEMPTED")
        os.killpg(sessions(fake_slurm)[0], signal.SIGKILL)

    with SlurmEngine(threads=1, retries=retries) as engine:
        (outcome,) = run_grid([run], engine, OnceUnderWay(preempt))
    assert len(sessions(fake_slurm)) == 1 + retries
    assert (fake_slurm / "jobs" / "1" / "cancelled").exists()
    if retries:
        assert outcome.status == "finished", outcome.error
        assert_same(run, uninterrupted)
    else:
        assert outcome.error is not None
        assert "its job 1 ended as PREEMPTED" in outcome.error


@pytest.mark.parametrize(("refusals", "retries", "expected"), [(3, 3, "finished"), (1, 0, "failed"), (9, 2, "failed")])
def test_a_job_that_is_refused_is_submitted_again(fake_slurm, tmp_path, monkeypatch, refusals, retries, expected):
    monkeypatch.setattr(slurm_engine, "REFUSED_SECONDS", 0.1)
    monkeypatch.setattr(slurm_engine, "LOOK_SECONDS", 0.05)
    refuse(fake_slurm, refusals)
    (run,) = plan(tmp_path / "grid")
    write_metrics = ("-c", f"import sys, pathlib; pathlib.Path(sys.argv[1], {METRICS!r}).write_text('{{}}')")
    with SlurmEngine(threads=1, retries=retries, command=write_metrics) as engine:
        (outcome,) = run_grid([run], engine, Silent())
    assert outcome.status == expected, outcome.error
    assert len(sessions(fake_slurm)) == (expected == "finished")
    if expected == "failed":
        assert outcome.error is not None
        assert "QOSMaxSubmitJobPerUserLimit" in outcome.error


def test_jobs_above_a_limit_wait_for_those_that_are_under_way(fake_slurm, tmp_path, monkeypatch):
    """However often they are refused."""
    monkeypatch.setattr(slurm_engine, "REFUSED_SECONDS", 0.01)
    monkeypatch.setattr(slurm_engine, "LOOK_SECONDS", 0.02)
    first, second = plan_grid(PRESETS["smoke"], tmp_path / "grid", posteriors=["planar"], seeds=[0, 1], changes=CHANGES)
    script = "import sys, time, pathlib\nfolder = pathlib.Path(sys.argv[1])\n"
    script += "while folder.name == 'seed-0' and not (folder / 'go').exists(): time.sleep(0.05)\n"
    script += f"(folder / {METRICS!r}).write_text('{{}}')"

    class Refusing(Silent):
        def running(self, runs: Sequence[GridRun]) -> None:
            if not (fake_slurm / "refusals").read_text():
                (first.folder / "go").touch()

    class First(SlurmEngine):
        def start(self, folder: Path) -> RunHandle:
            if folder == second.folder:
                wait_for(lambda: sessions(fake_slurm))
                refuse(fake_slurm, 12)
            return super().start(folder)

    with First(threads=1, retries=0, command=("-c", script)) as engine:
        outcomes = run_grid([first, second], engine, Refusing())
    assert [outcome.status for outcome in outcomes] == ["finished", "finished"]


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
