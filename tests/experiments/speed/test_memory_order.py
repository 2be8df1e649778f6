"""The time of convolutions in two orders in memory: each in its own order, and what was published is told truly."""

from __future__ import annotations

import json
import re
from pathlib import Path

from experiments.speed.likelihood_rate import RESULTS
from experiments.speed.memory_order import SIZES, measure_orders
from vae_flows.networks import convolutional

PAGE = Path(__file__).parents[3] / "CHANGELOG.md"


def test_the_layers_compute_in_their_own_order_and_in_the_usual_one(monkeypatch):
    ordered = []

    def in_fastest_order(x):
        ordered.append(x)
        return convolution_order(x)

    convolution_order = convolutional._in_fastest_order
    monkeypatch.setattr(convolutional, "_in_fastest_order", in_fastest_order)
    times = measure_orders((1, 8, 8), 1, batch_size=2, rounds=2)
    layers = len(convolutional.ConvDecoder(4, (1, 8, 8)).body)
    assert len(ordered) == 2 * 2 * layers  # each timed step follows one that is not; none in the usual order
    assert min(times.own, times.usual) > 0
    assert times.ratio == times.usual / times.own


def test_the_changelog_tells_the_recorded_ratios():
    rows = json.loads((RESULTS / "memory_order.json").read_text())["rows"]
    assert len(rows) == len(SIZES)
    told = re.search(
        r"they decode ([\d.]+) to ([\d.]+) times as fast", " ".join(PAGE.read_text(encoding="utf-8").split())
    )
    assert told is not None
    ratios = [row["ratio"] for row in rows]
    assert told.groups() == (f"{min(ratios):.2f}", f"{max(ratios):.2f}")
