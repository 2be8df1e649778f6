"""Competitors meet in problems of any kind: here a shift by the context, which no library of flows knows."""

from dataclasses import replace

import torch

from experiments.speed.competitors.competitor import Entrant, TorchCompetitor
from experiments.speed.competitors.roster import BASELINE
from experiments.speed.meeting import Meeting, measure_memory, time_meeting
from experiments.speed.problems import Pass
from experiments.speed.speed_report import make_tables


class Shift(TorchCompetitor):
    """z, context -> z + factor · context."""

    def __init__(self, inputs: Pass, factor: float) -> None:
        self._factor = torch.full((), factor, requires_grad=True)
        super().__init__(inputs, {"shared factor": self._factor})

    def solve(self, block, z, context):
        return z + self._factor * context, context.sum(-1)

    def count(self):
        return 0


def make_inputs() -> Pass:
    context, start, of_end = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0))
    return Pass(context=context, start=start, of_end=of_end, of_log_det=torch.ones(5))


def make_entrants() -> dict[str, Entrant]:
    entrants = [
        Entrant(BASELINE, lambda inputs: Shift(inputs, 2.0), divergence="any"),
        Entrant("wrong", lambda inputs: Shift(inputs, 3.0), divergence="any", max_rounds=1),
        Entrant("absent", lambda inputs: Shift(inputs, 2.0), packages=("no_such_package",)),
    ]
    return {entrant.name: entrant for entrant in entrants}


def reference(inputs: Pass, divergence: str):
    assert divergence == "any"
    truth = Shift(inputs, 2.0)
    truth.step()
    return truth.outcome()


MEETING = Meeting("shift", make_inputs, make_entrants, reference)


def test_any_problem_is_timed_and_checked(comparison):
    result = time_meeting(MEETING, rounds=3)
    right, wrong, absent = result.measurements
    assert (len(right.seconds), len(wrong.seconds), len(absent.seconds)) == (3, 1, 0)
    assert (right.value_error, right.gradient_error) == (0.0, 0.0)
    assert wrong.value_error > 0.1
    assert set(wrong.errors) == {"end", "log_det", "context", "start", "shared"}
    assert absent.absent == "not installed: no_such_package"
    assert (result.multiply_adds, len(result.rates)) == (None, 3)
    table = next(table for table in make_tables(replace(comparison, sizes=(result,))) if table.title == "shift")
    assert [row[0].text for row in table.rows] == [BASELINE, "wrong", "absent"]


def test_its_memory_is_measured():
    step_bytes, process_bytes = measure_memory(MEETING, BASELINE)
    assert 0 <= step_bytes < process_bytes
