"""Local runs are processes whose end, however it comes, is told in a few lines."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vae_flows.benchmark import local, process
from vae_flows.benchmark.engine import IN_USE, RunExit, RunHandle
from vae_flows.benchmark.local import LocalEngine
from vae_flows.errors import InvalidInputError
from vae_flows.runs.folder import LOG

PATIENCE_SECONDS = 30.0


@pytest.fixture
def fake_run(tmp_path):
    """Let the engine start a script instead of the command that works on a run."""

    def start(script: str, **options: int) -> tuple[RunHandle, Path]:
        return LocalEngine(**options, command=("-c", script)).start(tmp_path), tmp_path

    return start


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait(handle: RunHandle) -> RunExit:
    wait_until(handle.poll)
    end = handle.poll()
    assert end is not None
    return end


def test_a_good_end_has_no_error_and_leaves_a_log(fake_run):
    handle, folder = fake_run("print('hello')")
    assert wait(handle) == RunExit(None)
    assert (folder / LOG).read_text() == "hello\n"


def test_a_bad_end_is_told_with_the_last_lines_of_the_log(fake_run):
    handle, _ = fake_run("import sys\nfor i in range(9): print('line', i, '\\n')\nsys.exit('error: no memory')")
    assert wait(handle).error == "ended with status 1\nline 5\nline 6\nline 7\nline 8\nerror: no memory"


def test_a_killed_run_is_told_of_by_the_signal(fake_run):
    handle, _ = fake_run("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert wait(handle).error == "ended by signal SIGKILL"


def test_stopping_ends_the_run_and_what_it_started(fake_run, monkeypatch):
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.2)
    handle, folder = fake_run(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    wait_until(lambda: (folder / LOG).read_text().endswith("\n"))
    grandchild = int((folder / LOG).read_text())
    handle.stop()
    assert handle.poll() is not None
    wait_until(lambda: not is_alive(grandchild))


def is_alive(process: int) -> bool:
    """Tell whether a process runs; one that ended but was not waited for by its parent does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def test_a_folder_in_use_is_no_failure(fake_run):
    handle, _ = fake_run(f"import sys; sys.exit({IN_USE})")
    assert wait(handle) == RunExit(in_use=True)


def test_runs_get_their_threads_and_find_the_package_from_anywhere(fake_run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    told = "print(os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS'])"
    handle, folder = fake_run(f"import os, vae_flows.version\n{told}", threads=3)
    assert wait(handle) == RunExit(None)
    assert (folder / LOG).read_text() == "3 3\n"


def test_cores_are_shared_among_workers(monkeypatch):
    monkeypatch.setattr(local, "_available_cores", lambda: 8)
    monkeypatch.setattr(local.torch.cuda, "device_count", lambda: 0)
    assert [(runner.workers, runner.threads) for runner in (LocalEngine(), LocalEngine(2), LocalEngine(threads=3))] == [
        (8, 1),
        (2, 4),
        (2, 3),
    ]


@pytest.mark.parametrize(
    ("visible", "options", "expected"),
    [
        ("", {}, ["0", "1", "2", "3"]),
        ("4,6,7,9", {}, ["4", "6", "7", "9"]),
        ("4,6,7,9", {"gpus_each": 2}, ["4,6", "7,9"]),
        ("4,6,7,9", {"gpus_each": 3}, ["4,6,7"]),
        ("4,6,7,9", {"gpus_each": 2, "workers": 3}, ["4,6", "7,9", "4,6"]),
        ("4,6,7,9", {"gpus_each": 5, "workers": 1}, ["4,6,7,9"]),
        ("4,6,7,9", {"gpus_each": 0, "workers": 2}, ["4,6,7,9", "4,6,7,9"]),
    ],
)
def test_runs_are_spread_over_gpus(monkeypatch, visible, options, expected):
    monkeypatch.setattr(local.torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    runner = LocalEngine(**options)
    assert [runner._environment(slot.gpus)["CUDA_VISIBLE_DEVICES"] for slot in runner._slots] == expected


@pytest.mark.parametrize("options", [{"workers": 0}, {"threads": -1}, {"gpus_each": -1}])
def test_numbers_below_one_are_refused(options):
    with pytest.raises(InvalidInputError, match="LocalEngine"):
        LocalEngine(**options)


def test_an_interrupt_of_the_terminal_does_not_reach_runs(fake_run):
    handle, folder = fake_run("import os\nprint(os.getpgrp(), flush=True)")
    wait(handle)
    assert int((folder / LOG).read_text()) != os.getpgrp()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
