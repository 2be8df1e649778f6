"""The command: every call in a process of its own, failures told, results published."""

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from experiments.cli import main
from experiments.speed import speed_comparison
from experiments.speed.competitors.roster import BASELINE, DIFFRAX, PUBLISHED
from experiments.speed.measuring import Peak
from experiments.speed.meeting import measure_memory, time_meeting
from experiments.speed.one_evaluation import METHODS, time_dimension, time_products
from experiments.speed.problems import TINY_LOW_RANK
from experiments.speed.speed_records import Measurement, Products, ScalingPoint, SizeResult
from experiments.speed.worker import WorkerError, call_apart


def time_at_once(meeting, rounds):
    names = list(meeting.make_entrants())
    measured = [Measurement(name, seconds=(0.1,) * rounds, forward_evaluations=20) for name in names]
    if DIFFRAX in names:
        measured[names.index(DIFFRAX)] = Measurement(DIFFRAX, "not installed: x")
    return SizeResult(meeting.name, tuple(measured))


def memory_at_once(_meeting, name):
    if name == PUBLISHED:
        raise WorkerError("took more than 300 s")
    return Peak(10, 20)


ANSWERS = {
    time_meeting: time_at_once,
    measure_memory: memory_at_once,
    time_dimension: lambda dim, **_: [ScalingPoint(name, dim, 1e-3, 1e-3) for name in METHODS],
    time_products: lambda size, _rounds: Products(size.name, 1e-3, {"vector-Jacobian product": 2.0}),
}


def canned(call, **_options):
    """Answer a call at once."""
    return ANSWERS[call.func](*call.args, **call.keywords)


def failing(function, message, when=lambda *_: True):
    """Answer at once, but fail in calls of one function."""

    def answer(call, **options):
        if call.func is function and when(*call.args):
            raise WorkerError(message)
        return canned(call, **options)

    return answer


def test_speed_publishes_what_was_measured(no_colour, monkeypatch, capsys):
    monkeypatch.setattr(speed_comparison, "call_apart", canned)
    assert main(["speed", "--quick", "--rounds", "3", "--threads", "1", "--publish", "published"]) == 0
    out = capsys.readouterr().out
    assert "not measured" in out
    assert "not installed" in out
    stored = json.loads(Path("published/speed.json").read_text())
    assert stored["settings"]["rounds"] == 3
    assert stored["settings"]["threads"] == 1
    assert {"torch", "zuko", "diffrax", "torchode", "pyro-ppl"} <= set(stored["versions"])
    by_name = {entry["competitor"]: entry for entry in stored["sizes"][0]["measurements"]}
    assert len(by_name[BASELINE]["seconds"]) == 3
    assert by_name[BASELINE]["process_bytes"] == 20
    assert by_name[PUBLISHED]["absent"] == "memory failed: took more than 300 s"
    assert by_name["recompute"]["process_bytes"] is None


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_told(no_colour, device, capsys):
    assert main(["speed", "--quick", "--device", device]) != 0
    assert "device: expected a device of this machine, such as cpu or cuda" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_the_device_is_that_of_every_call_and_is_told(no_colour, monkeypatch, capsys):
    devices = set()

    def recording(call, **options):
        devices.add(options["device"])
        return canned(call)

    monkeypatch.setattr(speed_comparison, "call_apart", recording)
    assert main(["speed", "--quick", "--device", "meta", "--folder", "speed"]) == 0
    assert devices == {"meta"}
    assert json.loads(Path("speed/speed.json").read_text())["settings"]["device"] == "meta"


def test_memory_is_measured_without_keeping_freed_memory_and_scaling_in_one_thread(no_colour, monkeypatch, capsys):
    made = []

    def recording(call, **options):
        made.append((call.func, options.get("keep_freed_memory", True), options["threads"]))
        return canned(call)

    monkeypatch.setattr(speed_comparison, "call_apart", recording)
    assert main(["speed", "--quick", "--threads", "2", "--folder", "speed"]) == 0
    assert {function for function, kept, _ in made if not kept} == {measure_memory}
    assert {function for function, _, threads in made if threads == 1} == {time_dimension}


def test_a_size_that_fails_does_not_stop_the_others(no_colour, monkeypatch, capsys):
    broken = failing(time_meeting, "MemoryError", lambda meeting, _: meeting.name == TINY_LOW_RANK.name)
    monkeypatch.setattr(speed_comparison, "call_apart", broken)
    assert main(["speed", "--quick", "--folder", "speed"]) == 0
    sizes = json.loads(Path("speed/speed.json").read_text())["sizes"]
    assert {entry["absent"] for entry in sizes[0]["measurements"]} == {"failed: MemoryError"}
    assert sizes[1]["measurements"][0]["seconds"]


@pytest.mark.parametrize("function", [measure_memory, time_dimension, time_products])
def test_another_call_that_fails_is_told_and_loses_nothing(function, no_colour, monkeypatch, capsys):
    monkeypatch.setattr(speed_comparison, "call_apart", failing(function, "took more than 300 s"))
    assert main(["speed", "--quick", "--folder", "speed"]) == 0
    stored = json.loads(Path("speed/speed.json").read_text())
    assert stored["failures"]
    assert all("took more than 300 s" in failure for failure in stored["failures"])
    assert stored["failures"][0] in Path("speed/speed.md").read_text()
    assert stored["sizes"][0]["measurements"][0]["seconds"]


def test_a_call_that_takes_too_long_is_ended(tmp_path):
    with pytest.raises(WorkerError, match="took more than 0 s"):
        call_apart(partial(time.sleep, 100), threads=1, seconds=0.01, cache=tmp_path)


@pytest.mark.slow
def test_a_call_returns_or_says_why_it_failed(tmp_path):
    assert call_apart(partial(divmod, 7, 2), threads=1, seconds=100, cache=tmp_path) == (3, 1)
    made = call_apart(partial(torch.get_default_device), threads=1, seconds=100, cache=tmp_path, device="meta")
    assert made == torch.device("meta")
    with pytest.raises(WorkerError, match="ZeroDivisionError: "):
        call_apart(partial(divmod, 7, 0), threads=1, seconds=100, cache=tmp_path)


@pytest.mark.slow
def test_a_real_comparison_with_every_peer_that_is_installed(tmp_path):
    command = [sys.executable, "-m", "experiments", "speed", "--quick", "--threads", "1", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for size in json.loads((tmp_path / "speed.json").read_text())["sizes"]:
        for entry in size["measurements"]:
            assert entry["seconds"] or entry["absent"].startswith("not installed"), entry
            assert max(entry["errors"].values(), default=0) < 1e-3, entry
