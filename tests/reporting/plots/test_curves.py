"""Curves show means and ranges of the seeds, in units and scales that suit."""

import matplotlib
import numpy as np
import pytest

from tests.reporting.plots.figures import RUNS, TIMED, legend, png
from vae_flows.reporting import (
    RunResult,
    image_grid,
    plot_curves,
    plot_elbo_by_time,
    plot_evaluations_by_epoch,
)


def test_curves_are_means_as_long_as_all_seeds_ran():
    figure = plot_curves(RUNS, title="mnist")
    none, iaf = figure.axes[0].lines
    np.testing.assert_array_equal(none.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(none.get_ydata(), [119.0, 99.0, 91.0])
    np.testing.assert_array_equal(iaf.get_ydata(), [110.0, 95.0, 91.0])
    assert sorted(legend(figure)) == ["iaf", "none"]
    assert none.get_color() != iaf.get_color()


def test_bands_are_the_range_of_the_seeds():
    (band,) = plot_curves(RUNS).axes[0].collections
    (path,) = band.get_paths()
    edges = {tuple(vertex) for vertex in path.vertices.tolist()}
    assert {(1, 120), (2, 100), (3, 92), (1, 118), (2, 98), (3, 90)} <= edges


def test_no_text_is_inside_the_axes_of_curves():
    for width in ("screen", "column"):
        figure = plot_curves(RUNS, width=width)
        figure.draw_without_rendering()
        (axes,) = figure.axes
        assert not axes.texts
        assert not figure.legends[0].get_window_extent().overlaps(axes.get_window_extent())


def test_curves_are_zoomed_to_where_they_differ():
    steep = [
        RunResult("mnist", name, 0, curve=(900.0, 500.0, 101.0 + i, 100.0 + i))
        for i, name in enumerate(("none", "iaf"))
    ]
    low, high = plot_curves(steep).axes[0].get_ylim()
    assert 99 < low < 100
    assert 102 < high < 103


def test_a_line_that_diverged_is_told_and_does_not_set_the_scale():
    runs = [
        RunResult("mnist", name, 0, curve=(30.0, 20.0, 11.0 + i)) for i, name in enumerate(("none", "iaf", "planar"))
    ]
    diverged = RunResult("mnist", "ffjord", 0, curve=(1e6, 2e6, 3e6))
    figure = plot_curves([*runs, diverged])
    assert figure.axes[0].get_ylim()[1] < 100
    assert "ffjord (above the axis)" in legend(figure)


@pytest.mark.parametrize("width", ["screen", "column"])
def test_long_titles_are_broken_within_the_width(width):
    title = "validation −ELBO of all posteriors on a data set with a name that is rather long, in two lines or more"
    for figure in (
        plot_curves(RUNS, title=title, width=width),
        image_grid({"a": np.ones((3, 1, 4, 4))}, title=title, width=width),
    ):
        figure.draw_without_rendering()
        written = [
            text for text in figure.findobj(matplotlib.text.Text) if text.get_text().startswith("validation −ELBO of")
        ]
        assert written
        assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in written)


def test_curves_with_nan_are_drawn():
    runs = [
        *RUNS,
        RunResult("mnist", "ffjord", 0, curve=(float("nan"),) * 3),
        RunResult("mnist", "planar", 0, curve=(90.0, np.inf)),
    ]
    assert png(plot_curves(runs)).startswith(b"\x89PNG")
    assert png(plot_curves([RunResult("mnist", "ffjord", 0, curve=(float("nan"),))])).startswith(b"\x89PNG")


def test_curves_draw_one_epoch_and_more_posteriors_than_colours():
    runs = [RunResult("mnist", f"flow-{index}", 0, curve=(100.0 + index,)) for index in range(9)]
    figure = plot_curves(runs)
    looks = {(line.get_color(), line.get_marker(), str(line._dash_pattern)) for line in figure.axes[0].lines}
    assert len(looks) == 9
    assert png(figure).startswith(b"\x89PNG")


def test_time_draws_the_lowest_value_so_far_while_all_seeds_train():
    (line,) = plot_elbo_by_time(TIMED).axes[0].lines
    # Epochs end at 2, 4, 6 with lowest 9, 5, 5, and at 3, 7 with 8, 7.
    np.testing.assert_array_equal(line.get_xdata(), [3, 4, 6])
    np.testing.assert_array_equal(line.get_ydata(), [8.5, 6.5, 6.5])


@pytest.mark.parametrize(("seconds", "unit"), [(10.0, "(s)"), (200.0, "(min)"), (8000.0, "(h)")])
def test_times_are_in_a_unit_that_suits(seconds, unit):
    run = RunResult("mnist", "none", 0, curve=(9.0, 5.0), epoch_seconds=(seconds, seconds))
    (axes,) = plot_elbo_by_time([run]).axes
    assert axes.get_xlabel().endswith(unit)
    factor = {"(s)": 1, "(min)": 60, "(h)": 3600}[unit]
    assert axes.lines[0].get_xdata()[-1] * factor == pytest.approx(2 * seconds)


def test_evaluations_are_means_over_seeds():
    (line,) = plot_evaluations_by_epoch([*TIMED, *RUNS]).axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), [15.0, 21.0])
