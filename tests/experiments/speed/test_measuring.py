"""Rounds are interleaved, and memory is seen."""

import sys
import time

import numpy as np
import pytest

from experiments.speed.competitors.roster import BASELINE, MODES
from experiments.speed.measuring import interleave, medians, peak_bytes
from experiments.speed.meeting import measure_memory, meeting_at, modes_at, time_meeting
from experiments.speed.problems import TINY_CONCAT, TINY_LOW_RANK

MEGABYTES = 1 << 20


def test_steps_are_timed_in_turn():
    order = []
    steps = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = interleave(steps, 3, {"b": 1})
    assert "".join(order) == "aabcc" + "aacc" + "aacc"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 1, "c": 3}


def test_what_is_timed_is_the_step_alone(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert interleave({"a": list, "b": lambda: next(clock)}, 2) == {"a": [1, 1], "b": [2, 2]}
    assert medians({"b": lambda: next(clock)}, 3) == {"b": 2}


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of the past may be higher")
def test_a_peak_is_seen_after_it_is_gone():
    before = peak_bytes()
    np.ones(64 * MEGABYTES, dtype=np.uint8)
    assert peak_bytes() >= before + 32 * MEGABYTES or before > 400 * MEGABYTES


def test_memory_of_a_competitor():
    step_bytes, process_bytes = measure_memory(meeting_at(TINY_LOW_RANK), BASELINE)
    assert 0 <= step_bytes < process_bytes


def test_every_gradient_mode_is_measured_over_steps():
    meeting = modes_at(TINY_CONCAT, 3)
    measured = time_meeting(meeting, rounds=2).measurements
    assert [entry.competitor for entry in measured] == list(MODES)
    assert {len(entry.seconds) for entry in measured} == {2}
    assert {entry.forward_evaluations for entry in measured} == {3 * 4}
    assert measure_memory(meeting, "recompute").step_bytes >= 0
