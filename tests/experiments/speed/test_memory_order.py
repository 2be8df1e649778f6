"""The time of convolutions in two orders in memory: both compute the same, and what was published is told truly."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch

from experiments.speed.likelihood_rate import RESULTS
from experiments.speed.memory_order import SIZES, in_usual_order, measure_orders
from vae_flows.networks import ConvDecoder

PAGE = Path(__file__).parents[3] / "CHANGELOG.md"


def test_times_are_of_one_computation():
    decoder = ConvDecoder(4, (3, 8, 8)).double()
    z = torch.randn(2, 4, dtype=torch.float64)
    with torch.no_grad():
        usual = in_usual_order(decoder.body, z)
        torch.testing.assert_close(decoder.body(z), usual, rtol=1e-11, atol=1e-12)  # another order of sums
    times = measure_orders((1, 8, 8), 1, batch_size=2, rounds=2)
    assert min(times.own, times.usual) > 0
    assert times.ratio == times.usual / times.own


def test_the_changelog_tells_the_recorded_ratios():
    rows = json.loads((RESULTS / "memory_order.json").read_text())["rows"]
    assert len(rows) == len(SIZES)
    told = re.search(r"([\d.]+) to ([\d.]+) times as fast", " ".join(PAGE.read_text(encoding="utf-8").split()))
    assert told is not None
    ratios = [row["ratio"] for row in rows]
    assert told.groups() == (f"{min(ratios):.2f}", f"{max(ratios):.2f}")
