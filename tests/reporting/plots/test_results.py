"""Results and costs show means, spreads and seeds."""

import numpy as np

from tests.reporting.plots.figures import RUNS
from vae_flows.reporting import (
    RunResult,
    plot_costs,
    plot_results,
    summarize,
)


def test_results_draw_mean_spread_and_seeds():
    axes = plot_results(RUNS, summarize(RUNS)["mnist"]).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["none", "iaf"]
    assert [text.get_text() for text in axes.texts] == ["86.00 ± 1.41", "84.00"]
    seeds = np.sort(np.asarray(axes.collections[0].get_offsets())[:, 0])
    np.testing.assert_array_equal(seeds, [85.0, 87.0])


def test_costs_are_bars_of_means_and_what_no_run_has_is_left_out():
    runs = [
        RunResult("mnist", "none", 0, seconds_per_epoch=1.0, parameters=1000),
        RunResult("mnist", "ffjord", 0, seconds_per_epoch=2.0, parameters=3000, evaluations_per_solve=20.0),
        RunResult("mnist", "ffjord", 1, seconds_per_epoch=4.0, parameters=3000, evaluations_per_solve=26.0),
    ]
    axes = plot_costs(runs).axes
    assert [[bar.get_width() for bar in panel.patches] for panel in axes] == [[1.0, 3.0], [1000.0, 3000.0], [23.0]]
    assert [panel.get_xlabel() for panel in plot_costs(runs[:1]).axes] == ["seconds per epoch", "parameters"]
