"""Figures are saved at the width of a paper, shown in notebooks, and leave matplotlib's global state alone."""

import re
import zlib

import matplotlib
import pytest
import torch

from tests.reporting.plots.figures import RUNS, TIMED, model
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.evaluation import CalibrationResult, InferenceGap, WeightDiagnostics
from vae_flows.likelihoods import (
    GaussianLikelihood,
)
from vae_flows.reporting import (
    RunResult,
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
