"""Plots show the numbers they are given and leave matplotlib's global state alone."""

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from vae_flows.errors import InvalidInputError
from vae_flows.reporting import Run, image_grid, plot_curves, plot_results, summarize
from vae_flows.reporting.plots import _spread

RUNS = (
    Run("mnist", "none", 0, negative_elbo=87.0, curve=(120.0, 100.0, 92.0, 90.0)),
    Run("mnist", "none", 1, negative_elbo=85.0, curve=(118.0, 98.0, 90.0)),
    Run("mnist", "iaf", 0, negative_elbo=84.0, curve=(110.0, 95.0, 91.0)),
)


def png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def test_curves_are_means_as_long_as_all_seeds_ran():
    axes = plot_curves(RUNS, title="mnist").axes[0]
    none, iaf = axes.lines
    np.testing.assert_array_equal(none.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(none.get_ydata(), [119.0, 99.0, 91.0])
    np.testing.assert_array_equal(iaf.get_ydata(), [110.0, 95.0, 91.0])
    assert [text.get_text() for text in axes.texts] == ["none", "iaf"]
    assert none.get_color() != iaf.get_color()


def test_curves_draw_one_epoch_and_more_posteriors_than_colours():
    runs = [Run("mnist", f"flow-{index}", 0, curve=(100.0 + index,)) for index in range(9)]
    figure = plot_curves(runs)
    assert len({(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}) == 9
    assert png(figure).startswith(b"\x89PNG")


def test_a_posterior_has_one_colour_in_all_plots():
    runs = [Run("mnist", "failing", 0, "failed"), *RUNS]
    lines = plot_curves(runs).axes[0].lines
    bars = plot_results(runs, summarize(runs)["mnist"]).axes[0].lines
    assert [line.get_color() for line in lines] == [bars[0].get_color(), bars[-1].get_color()]
    assert lines[0].get_color() != plot_curves(RUNS).axes[0].lines[0].get_color()


def test_results_draw_mean_spread_and_seeds():
    axes = plot_results(RUNS, summarize(RUNS)["mnist"]).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["none", "iaf"]
    assert [text.get_text() for text in axes.texts] == ["86.00 ± 1.41", "84.00"]
    seeds = np.sort(np.asarray(axes.collections[0].get_offsets())[:, 0])
    np.testing.assert_array_equal(seeds, [85.0, 87.0])


def test_image_grid_puts_images_row_by_row():
    dark, light = np.zeros((2, 1, 3, 4)), np.ones((2, 1, 3, 4))
    light[1, 0, 0, 0] = 0.25
    (picture,) = image_grid({"dark": dark, "light": light}).axes[0].images
    mosaic = np.asarray(picture.get_array())
    assert mosaic.shape == (3 + 2 + 3, 4 + 2 + 4, 3)
    assert mosaic[0, 0, 0] == 0.0
    np.testing.assert_array_equal(mosaic[5, 6], [0.25] * 3)


def test_grids_of_colour_are_taken():
    assert len(image_grid({"samples": np.full((1, 3, 2, 2), 0.5)}).axes[0].images) == 1


@pytest.mark.parametrize(
    "rows",
    [
        {},
        {"flat": np.zeros((2, 16))},
        {"a": np.zeros((2, 1, 4, 4)), "b": np.zeros((3, 1, 4, 4))},
        {"two channels": np.zeros((2, 2, 4, 4))},
        {"none": np.zeros((0, 1, 4, 4))},
    ],
)
def test_grids_of_other_shapes_are_refused(rows):
    with pytest.raises(InvalidInputError, match="rows of one shape"):
        image_grid(rows)


def test_plots_of_nothing_are_refused():
    failed = [Run("mnist", "none", 0, "failed")]
    with pytest.raises(InvalidInputError, match="that have a curve"):
        plot_curves(failed)
    with pytest.raises(InvalidInputError, match="a posterior with a test −ELBO"):
        plot_results(failed, summarize(failed)["mnist"])


def test_the_same_figure_gives_the_same_bytes():
    assert png(plot_curves(RUNS)) == png(plot_curves(RUNS))


@pytest.mark.parametrize("places", [[0.5] * 5, [0.1, 0.11, 0.12, 0.9], [0.0, 0.3, 0.32, 0.35, 0.36]])
def test_crowded_labels_are_moved_apart_in_order(places):
    moved = _spread(places, 0.1)
    assert np.diff(moved).min() >= 0.1 - 1e-12
    assert sum(moved) == pytest.approx(sum(places))


def test_plotting_leaves_the_global_settings_and_no_window():
    before = dict(matplotlib.rcParams)
    figure = plot_curves(RUNS)
    assert figure.canvas.manager is None
    assert dict(matplotlib.rcParams) == before
