"""The command: every task in a process of its own, failures told, results published."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.settings import to_plain
from experiments.speed import compare
from experiments.speed.competitors import BASELINE, PUBLISHED, entries_for
from experiments.speed.problems import TINY_SIZES, find_size
from experiments.speed.records import Measurement, Products, ScalingPoint, SizeResult
from experiments.speed.scaling import METHODS
from experiments.speed.steps import MODES
from experiments.speed.worker import WorkerError, run_task


def canned(task, **_options):
    """Answer a task at once."""
    if task["kind"] == "time":
        names = entries_for(find_size(task["size"]))
        measured = [Measurement(name, seconds=(0.1,) * task["rounds"], forward_evaluations=20) for name in names]
        return to_plain(
            SizeResult(task["size"], (*measured[:-1], Measurement(measured[-1].competitor, "not installed: x")))
        )
    if task["kind"] == "memory":
        if task["competitor"] == PUBLISHED:
            raise WorkerError("took more than 300 s")
        return to_plain(Measurement(task["competitor"], step_bytes=10, process_bytes=20))
    if task["kind"] == "scaling":
        return to_plain([ScalingPoint(name, task["dim"], 1e-3, 1e-3) for name in METHODS])
    if task["kind"] == "steps time":
        return dict.fromkeys(MODES, 1e-3 * task["steps"])
    if task["kind"] == "steps memory":
        return 1000 * task["steps"]
    return to_plain(Products(task["size"], 1e-3, {"vector-Jacobian product": 2.0}))


def test_speed_publishes_what_was_measured(no_colour, monkeypatch, capsys):
    monkeypatch.setattr(compare, "run_task", canned)
    assert main(["speed", "--quick", "--rounds", "3", "--threads", "1", "--publish", "published"]) == 0
    out = capsys.readouterr().out
    assert "not measured" in out
    assert "not installed" in out
    stored = json.loads(Path("published/speed.json").read_text())
    assert stored["settings"]["rounds"] == 3
    assert stored["settings"]["threads"] == 1
    assert {"torch", "zuko", "diffrax"} <= set(stored["versions"])
    by_name = {entry["competitor"]: entry for entry in stored["sizes"][0]["measurements"]}
    assert len(by_name[BASELINE]["seconds"]) == 3
    assert by_name[BASELINE]["process_bytes"] == 20
    assert by_name[PUBLISHED]["absent"] == "memory failed: took more than 300 s"


def test_a_size_that_fails_does_not_stop_the_others(no_colour, monkeypatch, capsys):
    def failing(task, **options):
        if task["kind"] == "time" and task["size"] == TINY_SIZES[0].name:
            raise WorkerError("MemoryError")
        return canned(task, **options)

    monkeypatch.setattr(compare, "run_task", failing)
    assert main(["speed", "--quick", "--folder", "speed"]) == 0
    sizes = json.loads(Path("speed/speed.json").read_text())["sizes"]
    assert {entry["absent"] for entry in sizes[0]["measurements"]} == {"failed: MemoryError"}
    assert sizes[1]["measurements"][0]["seconds"]


@pytest.mark.parametrize("kind", ["steps memory", "scaling", "products"])
def test_another_task_that_fails_is_told_and_loses_nothing(kind, no_colour, monkeypatch, capsys):
    def failing(task, **options):
        if task["kind"] == kind:
            raise WorkerError("took more than 300 s")
        return canned(task, **options)

    monkeypatch.setattr(compare, "run_task", failing)
    assert main(["speed", "--quick", "--folder", "speed"]) == 0
    stored = json.loads(Path("speed/speed.json").read_text())
    assert stored["failures"]
    assert all("took more than 300 s" in failure for failure in stored["failures"])
    assert stored["failures"][0] in Path("speed/speed.md").read_text()
    assert stored["sizes"][0]["measurements"][0]["seconds"]


def test_a_task_that_takes_too_long_is_ended(tmp_path):
    with pytest.raises(WorkerError, match="took more than 0 s"):
        run_task({"kind": "time"}, threads=1, seconds=0.01, cache=tmp_path)


@pytest.mark.slow
def test_a_task_that_fails_says_why(tmp_path):
    with pytest.raises(WorkerError, match="UnknownNameError: size: expected one of"):
        run_task({"kind": "time", "size": "1-1 bias", "rounds": 1}, threads=1, seconds=100, cache=tmp_path)


@pytest.mark.slow
def test_a_real_comparison_with_every_peer_that_is_installed(tmp_path):
    command = [sys.executable, "-m", "experiments", "speed", "--quick", "--threads", "1", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for size in json.loads((tmp_path / "speed.json").read_text())["sizes"]:
        for entry in size["measurements"]:
            assert entry["seconds"] or entry["absent"].startswith("not installed"), entry
            assert max(entry["errors"].values(), default=0) < 1e-3, entry
