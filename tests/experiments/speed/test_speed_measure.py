"""Rounds are interleaved, memory is seen, slopes are fitted."""

import sys

import numpy as np
import pytest
import torch

from experiments.speed.competitors import BASELINE
from experiments.speed.measure import interleave, measure_memory, peak_bytes
from experiments.speed.problems import TINY_SIZES, Size
from experiments.speed.records import ScalingPoint, StepsPoint
from experiments.speed.scaling import (
    METHODS,
    loglog_slope,
    make_evaluation,
    make_field,
    measure_products,
    measure_scaling,
)
from experiments.speed.steps import MODES, growth, measure_steps_memory, measure_steps_time

MEGABYTES = 1 << 20


def test_steps_are_timed_in_turn():
    order = []
    steps = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = interleave(steps, 3, {"b": 1})
    assert "".join(order) == "aabcc" + "aacc" + "aacc"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 1, "c": 3}
    assert all(time >= 0 for times in seconds.values() for time in times)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of the past may be higher")
def test_a_peak_is_seen_after_it_is_gone():
    before = peak_bytes()
    np.ones(64 * MEGABYTES, dtype=np.uint8)
    assert peak_bytes() >= before + 32 * MEGABYTES or before > 400 * MEGABYTES


def test_memory_of_a_competitor():
    measured = measure_memory(TINY_SIZES[0], BASELINE)
    assert measured.absent == ""
    assert 0 <= measured.step_bytes < measured.process_bytes


@pytest.mark.parametrize("dim", [3, 5])
def test_scaling_has_a_point_for_each_method(dim):
    points = measure_scaling(dim, (8, 8), batch=4, rounds=1)
    assert [(point.dim, point.method) for point in points] == [(dim, name) for name in METHODS]
    assert all(point.forward_seconds > 0 and point.seconds > 0 for point in points)


def test_brute_force_and_the_closed_form_are_the_same_trace():
    field, z = make_field(6, (8, 8), batch=4), torch.randn(4, 1, 6)
    evaluations = [make_evaluation(method, field, z) for method in ("brute force", "closed form", "Hutchinson")]
    values, (brute, closed, estimate) = zip(*(evaluation.evaluate(z) for evaluation in evaluations), strict=True)
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(brute, closed)
    assert not torch.allclose(brute, estimate)


def test_a_slope_needs_two_large_dimensions():
    points = [ScalingPoint("a", dim, 0.0, dim**1.5) for dim in (16, 128)]
    assert loglog_slope(points, "a") is None
    assert loglog_slope([*points, ScalingPoint("a", 256, 0.0, 256**1.5)], "a") == pytest.approx(1.5)


def test_products_are_compared_with_f():
    products = measure_products(Size((8, 8), "bias", latent_dim=4, batch=3), rounds=3)
    assert len(products.ratios) == 3
    assert all(ratio > 0 for ratio in products.ratios.values())


def test_every_gradient_mode_is_measured_over_steps():
    seconds = measure_steps_time(TINY_SIZES[1], 3, rounds=2)
    assert list(seconds) == list(MODES)
    assert all(taken > 0 for taken in seconds.values())
    assert measure_steps_memory(TINY_SIZES[1], "recompute", 3) >= 0


def test_memory_grows_by_a_step():
    points = [StepsPoint("a", steps, 1.0, 100 + 7 * steps) for steps in (64, 4, 16)]
    assert growth(points, "a") == 7
    assert growth(points[:1], "a") is None
