"""The time of convolutions in two orders in memory: each in its own order, and what was published is told truly."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch

from experiments.speed.likelihood_rate import RESULTS
from experiments.speed.memory_order import SIZES, measure_orders, measure_training
from vae_flows.networks import convolutional

PAGE = Path(__file__).parents[3] / "CHANGELOG.md"


def test_the_layers_compute_in_their_own_order_and_in_the_usual_one(monkeypatch):
    ordered = []

    def in_fastest_order(x, layer):
        ordered.append(x)
        return convolution_order(x, layer)

    convolution_order = convolutional._in_fastest_order
    monkeypatch.setattr(convolutional, "_in_fastest_order", in_fastest_order)
    times = measure_orders((1, 8, 8), 1, batch_size=2, rounds=2)
    layers = len([*convolutional.ConvDecoder(4, (1, 8, 8)).body.children()])
    assert len(ordered) == 2 * 2 * layers  # each timed step follows one that is not; none in the usual order
    assert min(times.own, times.usual) > 0
    assert times.ratio == times.usual / times.own


def test_training_is_timed_in_bfloat16_in_both_orders_and_in_float32(monkeypatch):
    ordered = []

    def in_fastest_order(x, layer):
        ordered.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype)
        return convolution_order(x, layer)

    convolution_order = convolutional._in_fastest_order
    monkeypatch.setattr(convolutional, "_in_fastest_order", in_fastest_order)
    times = measure_training((1, 8, 8), batch_size=2, rounds=2)
    networks = convolutional.ConvEncoder((1, 8, 8)), convolutional.ConvDecoder(4, (1, 8, 8))
    layers = sum(len([*network.body.children()]) for network in networks)
    # Two timed steps, and one before each or before both, in either type of number.
    assert ordered.count(torch.bfloat16) == ordered.count(torch.float32) >= 3 * layers
    assert min(times.own, times.usual, times.float32) > 0
    assert (times.ratio, times.ratio_of_float32) == (times.usual / times.own, times.float32 / times.own)


def test_the_changelog_tells_the_recorded_ratios():
    recorded = json.loads((RESULTS / "memory_order.json").read_text())
    rows, training = recorded["rows"], recorded["training"]
    assert len(rows) == len(SIZES)
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert f"takes {training['ratio']:.2f} times as long in the usual order" in page
    assert f"and {training['ratio_of_float32']:.2f} times as long in float32" in page
    told = re.search(r"they decode ([\d.]+) to ([\d.]+) times as fast", page)
    assert told is not None
    ratios = [row["ratio"] for row in rows]
    assert told.groups() == (f"{min(ratios):.2f}", f"{max(ratios):.2f}")
