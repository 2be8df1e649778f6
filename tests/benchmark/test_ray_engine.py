"""Runs on a cluster of Ray go on elsewhere, bit for bit, whatever dies: a node, a worker, the driver."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benchmark.attempts import SECONDS, Silent, epochs, executed, processes_of_events, wait_for
from tests.benchmark.ray_clusters import ancestors, open_cluster, processes_with
from vae_flows.benchmark.grid import GridRun, RunOutcome, plan_grid, run_grid
from vae_flows.benchmark.presets import PRESETS
from vae_flows.errors import InvalidInputError
from vae_flows.persistence.json_files import read_json
from vae_flows.persistence.saved_models import WEIGHTS_FILE
from vae_flows.runs.folder import LAST, LOG, METRICS

EPOCHS = 60
CHANGES = {
    "max_images": 60,
    "training.max_epochs": EPOCHS,
    "training.patience": EPOCHS,
    "training.batch_size": 20,
    "evaluation.importance_samples": 0,
    "compute.accelerator": "cpu",
}
POSTERIORS = ("none", "planar")
TIMES = ("seconds", "examples_per_second")


@pytest.fixture(scope="module")
def cluster():
    with open_cluster() as opened:
        yield opened


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> tuple[GridRun, ...]:
    """The same runs, which nothing disturbed."""
    runs = plan(tmp_path_factory.mktemp("uninterrupted"))
    for run in runs:
        executed(run)
    return runs


def plan(root: Path) -> tuple[GridRun, ...]:
    return plan_grid(PRESETS["smoke"], root, posteriors=POSTERIORS, changes=CHANGES)


def process_of(run: GridRun) -> tuple[int, Path] | None:
    """Return the process that works on a run, and where, be that a folder of a node; other tests have runs, too."""
    from vae_flows.benchmark.ray_tasks import SCRATCH

    label = f'"posterior": "{run.settings.posterior}"'
    for process in processes_with("vae_flows\0run\0"):
        with contextlib.suppress(OSError):
            folder = Path(Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[-2].decode())
            of_a_node = folder.name.startswith(SCRATCH) and label in (folder / "settings.json").read_text()
            if of_a_node or folder == run.folder.resolve():
                return process, folder
    return None


@contextlib.contextmanager
def paused_in_mid_run(runs: tuple[GridRun, ...]) -> Iterator[list[int]]:
    """Stop the process of each run after two epochs or more, so that none ends before what is to befall it."""
    paused: dict[int, int] = {}

    def all_are_paused() -> bool:
        for number, run in enumerate(runs):
            at_work = process_of(run) if number not in paused else None
            if at_work is not None and epochs(at_work[1]) > 1:
                os.kill(at_work[0], signal.SIGSTOP)
                paused[number] = at_work[0]
        return len(paused) == len(runs) and all(epochs(run.folder) > 1 for run in runs)  # which may be brought there

    try:
        wait_for(all_are_paused)
        yield [paused[number] for number in range(len(runs))]
    finally:
        for process in paused.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def assert_same(runs: tuple[GridRun, ...], expected: tuple[GridRun, ...]) -> None:
    """Compare weights, optimiser, random states, history and test, bit for bit; times and places differ."""
    for run, other in zip(runs, expected, strict=True):
        ours, theirs = (torch.load(each.folder / LAST, weights_only=True) for each in (run, other))
        assert without_times(ours) == without_times(theirs)
        ours, theirs = ((each.folder / WEIGHTS_FILE).read_bytes() for each in (run, other))
        assert ours == theirs
        ours, theirs = (read_json(each.folder / METRICS) for each in (run, other))
        for name in ("test", "history", "best_epoch", "best_validation_negative_elbo"):
            assert without_times(ours[name]) == without_times(theirs[name]), name


def without_times(value: Any) -> Any:
    """Return what can be compared by ==: tensors as bytes, and no times."""
    if isinstance(value, torch.Tensor):
        return (tuple(value.shape), str(value.dtype), value.numpy().tobytes())
    if isinstance(value, dict):
        return {name: without_times(entry) for name, entry in value.items() if name not in TIMES}
    return [without_times(entry) for entry in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize(
    "shared", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["storage shared", "folders of their own"]
)
def test_a_run_goes_on_when_its_node_or_its_worker_dies(cluster, uninterrupted, tmp_path, shared):
    from vae_flows.benchmark.ray_engine import RayEngine

    cluster.grow(3)
    runs = plan(tmp_path)
    with RayEngine(cluster.address, shared=shared) as engine:
        outcomes: list[RunOutcome] = []
        grid = threading.Thread(target=lambda: outcomes.extend(run_grid(runs, engine, Silent())))
        grid.start()
        with paused_in_mid_run(runs) as (on_lost_node, of_lost_worker):
            worker = list(ancestors(of_lost_worker))[1]
            cluster.kill_node_of(on_lost_node)
            os.kill(worker, signal.SIGKILL)
        grid.join(2 * SECONDS)
        assert not grid.is_alive()
    assert [outcome.status for outcome in outcomes] == ["finished", "finished"]
    for run in runs:
        assert [path.name for path in run.folder.iterdir() if path.name.startswith(".")] == []
        assert len(processes_of_events(run.folder)) > 1  # a second process went on
        assert (run.folder / LOG).exists()
    assert_same(runs, uninterrupted)


@pytest.mark.slow  # as the fast tests have a node and a worker that die
@pytest.mark.parametrize("options", [[], ["--bring-back"]], ids=["storage shared", "brought back"])
def test_the_same_command_goes_on_when_the_driver_dies(cluster, uninterrupted, tmp_path, options):
    cluster.grow(2)
    command = [sys.executable, "-m", "vae_flows", "benchmark", "--preset", "smoke", "--folder", str(tmp_path)]
    command += ["--posteriors", *POSTERIORS, "--engine", "ray", "--address", cluster.address, *options]
    command += [word for name, value in CHANGES.items() for word in (f"--{name}", str(value))]
    runs = plan(tmp_path)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        try:
            with paused_in_mid_run(runs) as first:
                driver.kill()
        finally:
            driver.kill()
    wait_for(lambda: not any(Path(f"/proc/{process}").exists() for process in first))
    assert not any((run.folder / METRICS).exists() for run in runs)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("finished in") == 2
    assert_same(runs, uninterrupted)


def test_what_no_node_has_is_told_at_once(cluster):
    from vae_flows.benchmark.ray_engine import RayEngine

    cluster.grow(1)
    with pytest.raises(InvalidInputError, match=r"a node with 7 CPUs and 0.5 GPUs, got nodes with .*1 CPUs and 0 GPUs"):
        RayEngine(cluster.address, cpus_per_run=7, gpus_per_run=0.5).__enter__()
    import ray

    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"gpus_per_run": 1.5}, "gpus_per_run: expected whole GPUs, or a part of one, got 1.5"),
        ({"gpus_per_run": 1e-5}, "gpus_per_run: expected a finite number of at least 0.0001"),
        ({"gpus_per_run": -1.0}, "gpus_per_run: expected a finite number of at least 0.0001"),
        ({"cpus_per_run": 1e-5}, "cpus_per_run: expected a finite number of at least 0.0001"),
        ({"cpus_per_run": 0.0}, "cpus_per_run: expected a finite number of at least 0.0001"),
    ],
)
def test_parts_that_ray_does_not_share_out_are_told_at_once(options, told):
    pytest.importorskip("ray", reason="needs the extra ray")
    from vae_flows.benchmark.ray_engine import RayEngine

    with pytest.raises(InvalidInputError, match=told):
        RayEngine(**options)
    for taken in (0.0, 0.25, 1.0, 2.0):
        RayEngine(gpus_per_run=taken)


def test_an_engine_outside_its_block_begins_no_cluster(tmp_path):
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    from vae_flows.benchmark.ray_engine import RayEngine

    engine = RayEngine()
    for use in (engine.start, engine.has_begun, engine.release):
        with pytest.raises(InvalidInputError, match="RayEngine: expected a use within its block"):
            use(tmp_path)
        for wrong in (None, "folder", 3):
            with pytest.raises(InvalidInputError, match=f"RayEngine.{use.__name__} .*: expected a path"):
                use(wrong)
    assert not ray.is_initialized()


def test_a_cluster_that_is_not_there_is_told(cluster, monkeypatch):
    from vae_flows.benchmark.ray_engine import RayEngine

    with pytest.raises(InvalidInputError, match="Start the command on a node of the cluster"):
        RayEngine("ray://127.0.0.1:10001")
