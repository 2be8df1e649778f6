"""Whatever ends a benchmark ends its workers, at once; the next command goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmark.attempts import processes_of_events
from vae_flows.benchmark.presets import PRESETS
from vae_flows.persistence.files import exclusive
from vae_flows.runs.folder import prepare
from vae_flows.runs.settings import with_changes

SECONDS = 60.0  # for a process to come up on a busy machine
GONE = 2.0  # for a worker to end with its parent
PARENT = """
import sys, time
from pathlib import Path
from vae_flows.benchmark.local import LocalEngine
runner = LocalEngine(1, 1, gpus_each=0)
handle = runner.start(Path(sys.argv[1]))
print(handle._process.number, flush=True)
{then}
"""


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(process: int, seconds: float) -> float:
    start = time.monotonic()
    while alive(process):
        assert time.monotonic() - start < seconds
        time.sleep(0.01)
    return time.monotonic() - start


@pytest.fixture
def folder(tmp_path) -> Path:
    """A run that would take for ever."""
    tiny = {
        "max_images": 60,
        "training.max_epochs": 1000000,
        "compute.accelerator": "cpu",
        "training.patience": 1000000,
    }
    prepare(tmp_path / "run", with_changes(PRESETS["smoke"].settings("caltech101-silhouettes", "none", 0), tiny))
    return tmp_path / "run"


@pytest.fixture
def worker(folder) -> Iterator[tuple[subprocess.Popen[str], int]]:
    script = PARENT.format(then="time.sleep(600)")
    parent = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    process = int(parent.stdout.readline())
    yield parent, process
    parent.kill()
    parent.wait()
    parent.stdout.close()
    if alive(process):
        os.kill(process, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=str)
@pytest.mark.parametrize("trains", [True, False], ids=["in training", "while it starts"])
def test_a_worker_ends_with_its_parent_whatever_ended_that(worker, folder, number, trains):
    parent, process = worker
    deadline = time.monotonic() + SECONDS
    while trains and not (folder / "last.ckpt").exists():
        assert time.monotonic() < deadline
        assert alive(process)
        time.sleep(0.05)
    if not trains:
        time.sleep(0.5)
    parent.send_signal(number)
    parent.wait()
    wait_until_gone(process, GONE)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=str)
def test_a_benchmark_ends_its_runs_at_once_and_marks_none_as_failed(tmp_path, number):
    sizes = ["--max-images", "60", "--training.batch-size", "30", "--evaluation.importance-samples", "0"]
    long = [*sizes, "--training.max-epochs", "100000", "--training.patience", "100000"]
    command = [sys.executable, "-m", "experiments", "benchmark", "--preset", "smoke", "--posteriors", "none"]
    command += ["--folder", str(tmp_path), "--workers", "1", "--accelerator", "cpu"]
    parent = subprocess.Popen([*command, *long], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    run = tmp_path / "caltech101-silhouettes" / "none" / "seed-0"
    deadline = time.monotonic() + SECONDS
    while not (run / "last.ckpt").exists():
        assert time.monotonic() < deadline
        assert parent.poll() is None
        time.sleep(0.05)
    (process,) = map(int, Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split())
    parent.send_signal(number)
    wait_until_gone(process, GONE)
    with exclusive(run, wait=GONE):  # which the next command takes
        pass
    _, said = parent.communicate()
    assert b"Traceback" not in said
    assert not (run / "failure.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["both end", "one is killed"])
def test_two_benchmarks_on_one_grid_finish_every_run_once(tmp_path, killed):
    names = ["none", "planar"]
    sizes = ["--max-images", "60", "--training.batch-size", "30", "--evaluation.importance-samples", "0"]
    epochs = ["--training.max-epochs", "200", "--training.patience", "1000"]
    command = [sys.executable, "-m", "vae_flows", "benchmark", "--preset", "smoke", "--posteriors", *names]
    command += ["--folder", str(tmp_path), "--workers", "1", "--accelerator", "cpu", *sizes, *epochs]
    runs = [tmp_path / "caltech101-silhouettes" / name / "seed-0" for name in names]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + SECONDS
    while not (runs[0] / "last.ckpt").exists():
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.05)
    second = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert second.stdout is not None
    said = ""
    while "at work elsewhere" not in said:
        line = second.stdout.readline()
        assert line, said
        said += line
    if killed:
        first.kill()
    told, _ = first.communicate(timeout=4 * SECONDS)
    rest, _ = second.communicate(timeout=4 * SECONDS)
    assert second.returncode == 0, said + rest
    assert first.returncode == (-signal.SIGKILL if killed else 0), told
    assert all((run / "metrics.json").exists() and not (run / "failure.json").exists() for run in runs)
    # A run that was taken over has a second process, which went on with it; no other was trained twice.
    attempts = [len(processes_of_events(run)) for run in runs]
    assert attempts == ([2, 1] if killed else [1, 1])


def test_a_worker_started_by_hand_has_no_parent_to_watch(monkeypatch):
    from vae_flows.benchmark.parent import PIPE, end_with_parent

    monkeypatch.delenv(PIPE, raising=False)
    assert not end_with_parent()
    monkeypatch.setenv(PIPE, "x")
    assert not end_with_parent()
