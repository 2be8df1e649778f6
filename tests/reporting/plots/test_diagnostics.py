"""Diagnostics show what was measured, and what leaves its bounds."""

import numpy as np
import pytest
import torch

from tests.reporting.plots.figures import legend
from tests.seeds import reseed
from vae_flows.evaluation import CalibrationResult, InferenceGap, WeightDiagnostics
from vae_flows.reporting import (
    plot_calibration_ecdf,
    plot_inference_gaps,
    plot_pareto_k,
    plot_rank_histograms,
)


def test_ranks_are_counted_over_the_interval_of_uniform_ones():
    result = CalibrationResult(torch.arange(100).repeat(3).unsqueeze(-1), num_draws=99)
    axes = plot_rank_histograms(result, num_bins=5, names=["slope"]).axes[0]
    assert [bar.get_height() for bar in axes.containers[0]] == [60.0] * 5
    assert axes.get_title(loc="left") == "slope"


def test_the_ecdf_is_drawn_in_its_band_and_what_leaves_it_is_told():
    reseed()
    ranks = torch.stack([torch.arange(100).repeat(2), torch.randint(40, 60, (200,))], -1)
    result = CalibrationResult(ranks, num_draws=99)
    figure, band = plot_calibration_ecdf(result), result.ecdf_band()
    zero, first, second = figure.axes[0].lines
    np.testing.assert_array_equal(zero.get_ydata(), [0, 0])
    for place, line in enumerate((first, second)):
        np.testing.assert_array_equal(line.get_ydata(), band.differences[:, place].numpy())
    edges = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert edges.max() == pytest.approx(float(band.upper.max()))
    assert legend(figure)[:2] == ["z₁", "z₂ (leaves the band)"]


def test_pareto_shapes_are_drawn_sorted_with_their_threshold():
    found = WeightDiagnostics(torch.ones(3), torch.tensor([0.9, -float("inf"), 0.2], dtype=torch.float64), 1000)
    figure = plot_pareto_k({"planar": found})
    line, threshold = figure.axes[0].lines
    np.testing.assert_array_equal(line.get_ydata()[1:], [0.2, 0.9])
    assert threshold.get_ydata()[0] == found.threshold
    assert legend(figure) == ["planar: 67 % reliable", "threshold 0.67"]


def test_gaps_are_stacked_on_their_side_of_zero():
    zero = torch.zeros(2)
    gap = InferenceGap(torch.tensor([-81.0, -89.0]), zero - 83, zero - 88, zero, zero, torch.zeros(2, 4))
    negative = InferenceGap(zero - 84, zero - 83, zero - 88, zero, zero, torch.zeros(2, 4))
    bars = plot_inference_gaps({"planar": gap, "iaf": negative}).axes[0].patches
    assert [(bar.get_x(), bar.get_width()) for bar in bars] == [(0, -2), (0, 5), (0, -1), (0, 5)]
