"""Local runs are processes whose end, however it comes, is told in a few lines."""

import os
import signal
import subprocess
import sys
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


@pytest.mark.parametrize(("visible", "expected"), [(None, "0"), ("", "0"), ("3", "3"), ("GPU-8f2e", "GPU-8f2e")])
def test_runs_use_the_only_gpu(monkeypatch, visible, expected):
    monkeypatch.setattr(local.torch.cuda, "device_count", lambda: 1)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for workers in (None, 2):
        runner = LocalEngine(workers)
        assert {runner._environment(slot.gpus)["CUDA_VISIBLE_DEVICES"] for slot in runner._slots} == {expected}


@pytest.mark.parametrize("options", [{"workers": 0}, {"threads": -1}, {"gpus_each": -1}])
def test_numbers_below_one_are_refused(options):
    with pytest.raises(InvalidInputError, match="LocalEngine"):
        LocalEngine(**options)


def test_an_interrupt_of_the_terminal_does_not_reach_runs(fake_run):
    handle, folder = fake_run("import os\nprint(os.getpgrp(), flush=True)")
    wait(handle)
    assert int((folder / LOG).read_text()) != os.getpgrp()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("closed", ["<&-", "<&- >&-", "<&- >&- 2>&-"])
def test_runs_live_where_standard_streams_are_closed(tmp_path, closed):
    """Then the pipe by which a run sees its parent would be given the number of one of them."""
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from vae_flows.benchmark.local import LocalEngine\n"
        "watch = 'import time; from vae_flows.benchmark.parent import end_with_parent; '\n"
        "watch += 'print(end_with_parent(), flush=True); time.sleep(0.5)'\n"
        "handle = LocalEngine(1, 1, 0, command=('-c', watch)).start(Path(sys.argv[1]))\n"
        "while (end := handle.poll()) is None: time.sleep(0.05)\n"
        "Path(sys.argv[1], 'end').write_text(repr(end))\n"
    )
    command = ["sh", "-c", f'exec "$0" "$@" {closed}', sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(command, check=False, timeout=PATIENCE_SECONDS * 4).returncode == 0
    assert (tmp_path / "end").read_text() == repr(RunExit(None))
    assert (tmp_path / LOG).read_text() == "True\n"
