"""Records and results show what they hold in a line, and as a table in notebooks."""

from __future__ import annotations

import html.parser
import importlib
import pkgutil
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import vae_flows as vf
from vae_flows.evaluation import EvaluationResult, LikelihoodResult
from vae_flows.runs import RunHistory
from vae_flows.shown import html_table, shown
from vae_flows.training import EpochRecord, TrainingResult


class Pair(NamedTuple):
    value: float
    error: float


@shown
@dataclass(frozen=True)
class Record:
    name: str
    number: float
    pair: Pair
    values: torch.Tensor
    array: np.ndarray
    few: tuple[float, ...]
    many: tuple[int, ...]
    nothing: None = None


RECORD = Record("a <b>", 1 / 3, Pair(1 / 7, 2.0), torch.zeros(40, 2), np.zeros(3), (0.5,), tuple(range(30)))
EPOCH = EpochRecord(1, 1.0, 90.123456789, 8.0, 95.0, None, None, 100.0, 2.0)


class Cells(html.parser.HTMLParser):
    """The texts of the cells of tables, row by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_a_record_is_a_line_of_short_values():
    assert repr(RECORD) == (
        "Record(name='a <b>', number=0.333333, pair=Pair(value=0.142857, error=2), values=<tensor (40, 2)>, "
        "array=<array (3,)>, few=(0.5,), many=<30 ints>, nothing=None)"
    )


def test_a_record_is_a_table_whose_texts_are_escaped():
    rows = Cells(RECORD._repr_html_()).rows  # type: ignore[attr-defined]
    assert rows[0] == ["", "Record"]
    assert rows[1] == ["name", "a <b>"]
    assert dict(rows[1:]).keys() == {field.name for field in fields(RECORD)}


def test_tables_may_have_a_caption():
    assert html_table(("a",), [(1.0,)], "x < y").startswith("<table><caption>x &lt; y</caption>")


def results() -> list[type]:
    """Every data class that says what training, evaluation, an objective or a test of a run found."""
    places = ("evaluation", "objectives", "training.records", "runs.evaluations", "runs.scores")
    found = set()
    for module in pkgutil.walk_packages(vf.__path__, "vae_flows."):
        if module.name.removeprefix("vae_flows.").startswith(places):
            names = vars(importlib.import_module(module.name)).values()
            kinds = (value for value in names if isinstance(value, type) and is_dataclass(value))
            found |= {kind for kind in kinds if kind.__module__ == module.name and not kind.__name__.startswith("_")}
    return sorted(found, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", results(), ids=lambda kind: kind.__name__)
def test_every_result_shows_itself_shortly(kind: type):
    assert kind.__repr__.__module__ == "vae_flows.shown"
    assert hasattr(kind, "_repr_html_")


def test_results_of_a_thousand_images_are_still_short():
    values = torch.zeros(1000, dtype=torch.float64)
    found = LikelihoodResult((1, 10), torch.zeros(1000, 2).double(), values, values, values + 1, 10, 16, 1.0)
    trained = TrainingResult((EPOCH,) * 300, 1, 95.0, stopped_early=False, seconds=2.0, forward_evaluations=None)
    assert max(len(repr(found)), len(repr(trained))) < 400
    assert "history=<300 EpochRecords>" in repr(trained)
    assert [row[0] for row in Cells(found._repr_html_()).rows] == ["K", "1", "10"]


def test_a_history_shows_its_first_and_last_epochs():
    rows = Cells(RunHistory((EPOCH,) * 300)._repr_html_()).rows
    assert len(rows) == 1 + 20 + 1
    assert rows[11] == ["…"] * len(fields(EpochRecord))
    assert rows[1][2] == "90.1235"
    assert len(Cells(RunHistory((EPOCH,) * 5)._repr_html_()).rows) == 6


def test_a_table_without_any_epoch_is_one():
    assert Cells(RunHistory()._repr_html_()).rows == [[field.name for field in fields(EpochRecord)]]


def test_the_bits_of_a_test_are_told_by_name():
    result = EvaluationResult(6.0, 1.0, 5.0, 1.0, None, None, 0, 4, 16, None, 1.0)
    assert Cells(result._repr_html_()).rows[1] == ["negative_elbo", "6"]  # type: ignore[attr-defined]


def test_distributions_tell_their_parts_and_shapes():
    posterior = vf.AmortizedPosterior(2, 5, flow="planar")
    text = repr(posterior(torch.zeros(3, 5)))
    assert text.startswith("FlowDistribution(DiagonalNormal → ")
    assert text.endswith("batch (3,), event (2,))")


def test_modules_that_are_loaded_when_first_used_are_listed():
    lazy = {"training", "evaluation", "reporting", "runs", "export", "data", "Run", "compare"}
    assert lazy <= set(dir(vf))
    assert all(hasattr(vf, name) for name in dir(vf))
