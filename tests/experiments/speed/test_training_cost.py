from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from experiments.speed.training_cost import RESULTS, TrainingCosts, measure_costs, paired_share, write_costs
from tests.seeds import numpy_generator
from vae_flows.benchmark.presets import PRESETS
from vae_flows.runs.settings import with_changes

ROOT = Path(__file__).parents[3]
MOST = 0.03
"""Of a quick epoch, for average, callbacks and loggers together."""


def test_the_share_is_that_of_the_paired_differences():
    generator = numpy_generator(0)
    machine = generator.gamma(2.0, 1.0, 500)  # what changes on the machine meets both halves of a pair
    without = machine + generator.normal(0, 0.01, 500)
    with_it = machine + 0.05 + generator.normal(0, 0.01, 500)
    found = paired_share(with_it.tolist(), without.tolist())
    assert found.low < found.share < found.high
    expected = 0.05 / np.median(without)
    # Six standard errors of the median of 500 differences, 1.25 · 0.014 / √500 each.
    assert found.share == pytest.approx(expected, abs=6 * 1.25 * 0.0142 / 500**0.5 / np.median(without))


def test_costs_are_measured_and_written_with_their_provenance(tmp_path: Path):
    settings = PRESETS["smoke"].settings("caltech101-silhouettes", "none", 0)
    settings = with_changes(settings, {"max_images": 200, "training.batch_size": 20})
    costs = measure_costs(settings, pairs=9, repetitions=5)
    assert isinstance(costs, TrainingCosts)
    assert costs.epoch > 0
    assert 0 < costs.loggers.share < 10
    assert costs.average.low <= costs.average.share <= costs.average.high
    written = json.loads(write_costs([costs], 9, tmp_path / "results").read_text())
    assert written["costs"][0]["average"]["share"] == costs.average.share
    assert written["costs"][0]["total"] == pytest.approx(costs.total)
    assert {"versions", "hardware", "commit"} <= written.keys()


def test_the_recorded_costs_are_below_the_limit_and_what_the_page_says():
    recorded = json.loads((RESULTS / "cost.json").read_text())
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    pattern = r"cost ([\d.]+) % of a quick epoch with `none` and ([\d.]+) % with `ffjord`"
    told = re.search(pattern, " ".join(page.split()))
    assert told is not None
    for row, text in zip(recorded["costs"], told.groups(), strict=True):
        assert f"{row['total']:.1%}" == f"{text}%"
        assert row["average"]["high"] + row["loggers"]["high"] + row["callbacks"]["high"] < MOST
