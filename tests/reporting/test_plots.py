"""Plots show the numbers they are given and leave matplotlib's global state alone."""

import io
import re
import zlib

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tests.seeds import reseed
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.evaluation import CalibrationResult, InferenceGap, WeightDiagnostics
from vae_flows.likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    DiscretizedLogisticLikelihood,
    GaussianLikelihood,
    Likelihood,
)
from vae_flows.networks import MLPDecoder, MLPEncoder
from vae_flows.posterior import AmortizedPosterior
from vae_flows.reporting import (
    RunResult,
    draw_aggregate,
    image_grid,
    plot_aggregate_posterior,
    plot_calibration_ecdf,
    plot_costs,
    plot_curves,
    plot_elbo_by_time,
    plot_evaluations_by_epoch,
    plot_inference_gaps,
    plot_interpolations,
    plot_marginals,
    plot_pareto_k,
    plot_posteriors,
    plot_rank_histograms,
    plot_reconstructions,
    plot_results,
    plot_samples,
    plot_traversals,
    save_figure,
    summarize,
)
from vae_flows.reporting.plots.looks import FIXED, OTHERS, looks_of
from vae_flows.vae import VAE

RUNS = (
    RunResult("mnist", "none", 0, negative_elbo=87.0, curve=(120.0, 100.0, 92.0, 90.0)),
    RunResult("mnist", "none", 1, negative_elbo=85.0, curve=(118.0, 98.0, 90.0)),
    RunResult("mnist", "iaf", 0, negative_elbo=84.0, curve=(110.0, 95.0, 91.0)),
)
TIMED = (
    RunResult(
        "mnist", "ffjord", 0, curve=(9.0, 5.0, 6.0), epoch_seconds=(2.0, 2.0, 2.0), epoch_evaluations=(14.0, 20.0)
    ),
    RunResult("mnist", "ffjord", 1, curve=(8.0, 7.0), epoch_seconds=(3.0, 4.0), epoch_evaluations=(16.0, 22.0, 26.0)),
)
SHAPES = {"grey": (1, 5, 4), "colour": (3, 4, 6), "without channels": (5, 4)}
LIKELIHOODS = {"grey": CategoricalLikelihood, "colour": DiscretizedLogisticLikelihood}


def png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def model(
    shape: tuple[int, ...], likelihood: Likelihood | None = None, latent_dim: int = 2, flow: str = "planar"
) -> VAE:
    reseed()
    likelihood = likelihood or BernoulliLikelihood(event_dim=len(shape))
    decoder = MLPDecoder(latent_dim, shape, (8,), likelihood.parameters_per_pixel)
    return VAE(MLPEncoder(shape, (8,), 6), decoder, AmortizedPosterior(latent_dim, 6, flow=flow), likelihood)


def shown(figure: Figure) -> np.ndarray:
    (picture,) = figure.axes[0].images
    return np.asarray(picture.get_array())


def labels(figure: Figure) -> list[str]:
    return [tick.get_text() for tick in figure.axes[0].get_yticklabels()]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


# Curves


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


# Results and costs


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


# Looks


def test_a_posterior_has_one_look_in_all_figures():
    lines = plot_curves(RUNS).axes[0].lines
    bars = plot_results(RUNS, summarize(RUNS)["mnist"]).axes[0].lines
    assert [line.get_color() for line in lines] == [bars[0].get_color(), bars[-1].get_color()]
    assert [line.get_color() for line in lines] == [FIXED["none"].colour, FIXED["iaf"].colour]
    assert looks_of(["zuko:NSF", "none"])["zuko:NSF"] == looks_of(["pyro:radial", "zuko:NSF"])["zuko:NSF"]


def test_looks_of_one_figure_differ_without_colour():
    names = [*FIXED, "mine", "zuko:NSF", "ffjord (rank 3)", "ffjord (rank 20)"]
    looks = looks_of(names)
    assert list(looks) == names
    assert len(set(looks.values())) == len(names)
    assert len({(look.dashes, look.marker) for name, look in looks.items() if name in FIXED}) == len(FIXED)
    assert looks["ffjord (rank 3)"].colour == looks["ffjord"].colour


def test_colours_of_built_in_posteriors_differ_in_grey():
    # Luminance of ITU-R BT.709. Neighbours that are near each other have other dashes and markers.
    greys = sorted(float(np.dot(to_rgb(look.colour), [0.2126, 0.7152, 0.0722])) for look in FIXED.values())
    assert greys[-1] - greys[0] > 0.5
    assert all(look not in FIXED.values() for look in OTHERS)


# Images


def test_image_grid_puts_images_row_by_row():
    dark, light = np.zeros((2, 1, 3, 4)), np.ones((2, 1, 3, 4))
    light[1, 0, 0, 0] = 0.25
    mosaic = shown(image_grid({"dark": dark, "light": light}))
    assert mosaic.shape == (3 + 1 + 3, 4 + 1 + 4, 3)
    assert mosaic[0, 0, 0] == 0.0
    np.testing.assert_array_equal(mosaic[4, 5], [0.25] * 3)


def test_grids_of_colour_keep_their_channels():
    image = np.arange(12.0).reshape(1, 3, 2, 2) / 12
    np.testing.assert_array_equal(shown(image_grid({"samples": image})), image[0].transpose(1, 2, 0))


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


@pytest.mark.parametrize("kind", SHAPES)
def test_reconstructions_show_originals_means_and_draws(kind):
    shape = SHAPES[kind]
    vae = model(shape, LIKELIHOODS[kind]() if kind in LIKELIHOODS else None)
    x = (torch.rand(3, *shape) * 255).round() / 255 if kind in LIKELIHOODS else torch.rand(3, *shape).round()
    figure = plot_reconstructions(vae, x)
    assert labels(figure) == ["original", "mean", "drawn"]
    channels = x[0].reshape(-1, *shape[-2:]).numpy()
    expected = np.broadcast_to(channels.transpose(1, 2, 0), (*shape[-2:], 3))
    height, width = shape[-2:]
    mosaic = shown(figure)
    np.testing.assert_allclose(mosaic[:height, :width], expected, atol=1e-7)  # rounding of float32
    drawn = mosaic[-height:, :width]
    mean = mosaic[height + 1 : 2 * height + 1, :width]
    assert not np.array_equal(drawn, mean)
    if kind == "without channels":
        assert set(np.unique(drawn)) <= {0.0, 1.0}
        assert len(np.unique(mean)) > 2


def test_several_models_share_the_originals():
    vae = model((1, 4, 4))
    figure = plot_reconstructions({"none": vae, "planar": vae}, torch.rand(2, 1, 4, 4).round())
    assert labels(figure) == ["original", "none, mean", "none, drawn", "planar, mean", "planar, drawn"]


def test_samples_are_draws_from_the_likelihood_at_the_means_below_them():
    mosaic = shown(plot_samples(model((1, 6, 6)), 400, width=40.0))
    mean, drawn = mosaic[:6], mosaic[-6:]
    assert set(np.unique(drawn)) <= {0.0, 1.0}
    pixels = mean[..., 0] != 1.0  # not the white between images
    # Standard error of the difference of 400·36 Bernoulli draws to their means: at most 0.5 / 120; five of them.
    assert abs((drawn[..., 0] - mean[..., 0])[pixels].mean()) < 5 * 0.5 / 120


def test_the_same_seed_gives_the_same_picture_and_the_model_stays_as_it_was():
    vae = model((1, 4, 4)).train()
    first, second = (shown(plot_samples(vae, 5, seed=3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, shown(plot_samples(vae, 5, seed=4)))
    assert vae.training
    assert vae.decoder.training


class Coordinates(torch.nn.Module):
    """Logits of two pixels: the first follows z₁, the second z₂ at half the slope; z₃ does nothing."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.stack([4 * z[:, 0], 2 * z[:, 1]], -1).reshape(-1, 1, 1, 2)


def test_traversals_move_one_latent_and_put_the_strongest_first():
    vae = model((1, 1, 2), latent_dim=3)
    vae.decoder = Coordinates()
    figure = plot_traversals(vae, torch.ones(1, 1, 1, 2), num_latents=2, num_steps=5)
    assert labels(figure) == ["z₁", "z₂"]
    mosaic = shown(figure)[..., 0]
    first, second = mosaic[0, ::3], mosaic[0, 1::3]
    assert (np.diff(first) > 0).all()
    assert np.ptp(second) == 0
    # From the 1st to the 99th percentile of the standard Gaussian, ±2.33: 2,000 draws are within 0.35 of that.
    low, high = np.log(first[[0, -1]] / (1 - first[[0, -1]])) / 4
    assert low == pytest.approx(-2.33, abs=0.35)
    assert high == pytest.approx(2.33, abs=0.35)


def test_interpolations_go_from_one_image_to_the_other():
    vae = model((1, 1, 2))
    vae.decoder = Coordinates()
    start, end = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[1.0, 0.0]]]])
    for path in ("linear", "spherical"):
        mosaic = shown(plot_interpolations(vae, start, end, num_steps=4, path=path))[0, :, 0]
        np.testing.assert_array_equal(mosaic[:2], [0.0, 1.0])
        np.testing.assert_array_equal(mosaic[-2:], [1.0, 0.0])
        inner = mosaic[3:-3].reshape(-1)
        logits = np.log(inner[::3] / (1 - inner[::3]))
        if path == "linear":
            np.testing.assert_allclose(np.diff(logits), np.diff(logits)[0], atol=1e-4)  # rounding of float32


def test_tables_have_marginals_instead_of_pictures():
    vae = model((3,), GaussianLikelihood(event_dim=1, scale=1.0))
    x = torch.randn(200, 3)
    for make in (lambda: plot_reconstructions(vae, x), lambda: plot_samples(vae), lambda: plot_traversals(vae, x[:1])):
        with pytest.raises(InvalidInputError, match="plot_marginals"):
            make()
    figure = plot_marginals(vae, x, names=["a", "b", "c"])
    assert [axes.get_xlabel() for axes in figure.axes] == ["a", "b", "c"]
    (data, _) = figure.axes[0].patches
    heights = np.asarray(data.get_xy())[:, 1]
    low, high = torch.cat([x[:, 0]]).aminmax()
    assert heights.max() > 0
    assert data.get_xy()[:, 0].min() <= float(low) + 1.0
    assert data.get_xy()[:, 0].max() >= float(high) - 1.0
    with pytest.raises(InvalidInputError, match="plot_samples"):
        plot_marginals(model((1, 4, 4)), torch.rand(5, 1, 4, 4))


# Latents


@pytest.mark.parametrize("flow", ["none", "planar", "ffjord"])
def test_posteriors_stand_beside_the_true_ones(flow):
    vae = model((1, 3, 3), flow=flow)
    figure = plot_posteriors({flow: vae}, torch.rand(2, 1, 3, 3).round(), num_cells=20)
    assert len(figure.axes) == 8
    true, approximate = (np.asarray(axes.images[0].get_array()) for axes in figure.axes[1:3])
    for axes, density in zip(figure.axes[1:3], (true, approximate), strict=True):
        left, right, bottom, top = axes.images[0].get_extent()
        area = (right - left) * (top - bottom) / 400
        assert density.shape == (20, 20)
        assert density.sum() * area == pytest.approx(1.0, abs=0.05)  # the width of the cells


def test_more_latents_than_two_are_refused_or_said():
    vae, x = model((1, 4, 4), latent_dim=5), torch.rand(30, 1, 4, 4)
    with pytest.raises(InvalidInputError, match="two"):
        plot_posteriors(vae, x[:1])
    for projection, told in (("active", "the two most active of 5 latents"), ("pca", "principal components")):
        figure = plot_aggregate_posterior(vae, x, projection=projection, title="planar")
        draws = draw_aggregate(vae, x, projection=projection)
        assert told in figure._suptitle.get_text()
        for axes, points in zip(figure.axes, draws[:2], strict=True):
            np.testing.assert_array_equal(axes.collections[0].get_offsets(), points.numpy())
    with pytest.raises(InvalidInputError, match="two or more"):
        plot_aggregate_posterior(model((1, 4, 4), latent_dim=1, flow="none"), x)


def test_the_most_active_latents_are_found():
    class Encoder(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)

    class Posterior(torch.nn.Module):
        def forward(self, h: torch.Tensor) -> torch.distributions.Distribution:
            loc = torch.stack([0 * h[:, 0], 5 * h[:, 0], 0 * h[:, 0], 3 * h[:, 1]], -1)
            return torch.distributions.Independent(torch.distributions.Normal(loc, 0.1), 1)

    vae = VAE(Encoder(), MLPDecoder(4, (1, 2, 2), (4,)), Posterior(), BernoulliLikelihood(), latent_dim=4)
    reseed()
    assert draw_aggregate(vae, torch.rand(100, 1, 2, 2)).names == ("z₂", "z₄")


# Diagnostics


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


# Files and notebooks


def _figures(width):
    vae, x = model((1, 4, 4)), torch.rand(4, 1, 4, 4).round()
    table = model((3,), GaussianLikelihood(event_dim=1, scale=1.0))
    ranks, zero = CalibrationResult(torch.arange(100).unsqueeze(-1), num_draws=99), torch.zeros(2)
    gap = InferenceGap(zero - 80, zero - 83, zero - 88, zero, zero, torch.zeros(2, 4))
    found = WeightDiagnostics(torch.ones(3), torch.rand(3), 1000)
    costs = [RunResult("mnist", "ffjord", 0, seconds_per_epoch=1.0, parameters=9, evaluations_per_solve=20.0)]
    return {
        "curves": lambda: plot_curves(RUNS, width=width),
        "time": lambda: plot_elbo_by_time(TIMED, width=width),
        "evaluations": lambda: plot_evaluations_by_epoch(TIMED, width=width),
        "results": lambda: plot_results(RUNS, summarize(RUNS)["mnist"], width=width),
        "costs": lambda: plot_costs(costs, width=width),
        "grid": lambda: image_grid({"original": x.numpy()}, width=width),
        "reconstructions": lambda: plot_reconstructions(vae, x, width=width),
        "samples": lambda: plot_samples(vae, width=width),
        "traversals": lambda: plot_traversals(vae, x[:1], width=width),
        "interpolations": lambda: plot_interpolations(vae, x[:2], x[2:], width=width),
        "marginals": lambda: plot_marginals(table, torch.randn(20, 3), width=width),
        "posteriors": lambda: plot_posteriors(vae, x[:1], num_cells=10, width=width),
        "aggregate": lambda: plot_aggregate_posterior(vae, x, width=width),
        "histograms": lambda: plot_rank_histograms(ranks, width=width),
        "ecdf": lambda: plot_calibration_ecdf(ranks, width=width),
        "pareto": lambda: plot_pareto_k({"planar": found}, width=width),
        "gaps": lambda: plot_inference_gaps({"planar": gap}, width=width),
    }


@pytest.mark.parametrize(("width", "inches"), [("column", 3.25), (5.5, 5.5)])
@pytest.mark.parametrize("name", _figures("column"))
def test_every_figure_is_saved_at_the_width_of_a_paper(name, width, inches, tmp_path):
    figure = _figures(width)[name]()
    svg = save_figure(figure, tmp_path / "figure.svg").read_text(encoding="utf-8")
    points = re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)
    assert points is not None
    assert float(points.group(1)) == pytest.approx(72 * inches)
    pdf = save_figure(figure, str(tmp_path / "figure.pdf")).read_bytes()
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", pdf)
    assert box is not None
    assert float(box.group(1)) == pytest.approx(72 * inches)
    assert b"/Type3" not in pdf
    sizes = {text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()}
    assert min(sizes) >= 5
    assert max(sizes) <= 10


@pytest.mark.parametrize("ending", ["svg", "pdf", "png"])
def test_the_same_figure_gives_the_same_file(ending, tmp_path):
    files = [save_figure(plot_curves(RUNS), tmp_path / f"{name}.{ending}").read_bytes() for name in "ab"]
    assert files[0] == files[1]


def test_other_formats_and_widths_are_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="pdf, png, svg"):
        save_figure(plot_curves(RUNS), tmp_path / "figure.jpg")
    for width in ("collumn", 0.5, True, float("nan")):
        with pytest.raises((InvalidInputError, UnknownNameError), match="width"):
            plot_curves(RUNS, width=width)


def test_a_notebook_shows_a_figure():
    picture = plot_curves(RUNS)._repr_png_()
    assert picture.startswith(b"\x89PNG")
    assert len(zlib.compress(picture)) > 1000


def test_plots_of_nothing_are_refused():
    failed = [RunResult("mnist", "none", 0, "failed")]
    for plot, told in (
        (plot_curves, "that have a curve"),
        (plot_elbo_by_time, "durations"),
        (plot_evaluations_by_epoch, "evaluations"),
        (plot_costs, "seconds per epoch"),
    ):
        with pytest.raises(InvalidInputError, match=told):
            plot(failed)
        with pytest.raises(InvalidInputError):
            plot([])
    with pytest.raises(InvalidInputError, match="a posterior with a test −ELBO"):
        plot_results(failed, summarize(failed)["mnist"])
    for plot in (plot_pareto_k, plot_inference_gaps):
        with pytest.raises(InvalidInputError, match="one example or more"):
            plot({})


def test_curves_of_two_units_are_refused():
    runs = [
        RunResult("frey-faces", "none", 0, curve=(5.0,)),
        RunResult("frey-faces", "iaf", 0, unit="bits/dim", curve=(5.0,)),
    ]
    with pytest.raises(InvalidInputError, match="one unit"):
        plot_curves(runs)


def test_plotting_leaves_the_global_settings_and_no_window(tmp_path):
    before = dict(matplotlib.rcParams)
    figure = plot_curves(RUNS)
    save_figure(figure, tmp_path / "figure.pdf")
    assert figure.canvas.manager is None
    assert dict(matplotlib.rcParams) == before
