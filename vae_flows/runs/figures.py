"""The figures of runs: what each draws of any runs on one data set, where it applies, with words for who cannot see it.

A report goes through `FIGURES`, or takes all that apply from `draw_figures`, which reads each run once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from vae_flows.errors import VAEFlowsError
from vae_flows.reporting import summarize
from vae_flows.runs.figure_source import RunSource, checked_runs
from vae_flows.runs.folder import data_name
from vae_flows.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "DrawnFigure", "RunFigure", "draw_figures"]

Width = Literal["screen", "column", "page"] | float
FALSE_ALARMS = 0.05
"""With which one of all latents of a calibrated posterior leaves the band."""
IMAGES, PAIRS, EXAMPLES = 10, 3, 2
"""Images of a row, rows of interpolations, and examples whose posteriors are drawn where there is one model."""


@dataclass(frozen=True)
class RunFigure:
    """One kind of figure of runs.

    Arguments:
        name: Short, for file names.
        title: Heading.
        description: What it shows, in a sentence: the begin of its alternative text.
        make: Draws it, or returns `None` where it does not apply.
    """

    name: str
    title: str
    description: str
    make: Callable[[RunSource, Width], Figure | None]

    def draw(self, runs: Iterable[Run], width: Width = "screen") -> Figure | None:
        """Draw it of runs on one data set; `None` where it does not apply to them.

        Arguments:
            runs: The runs, finished or not.
            width: `"screen"`, `"column"` or `"page"` of a paper, or inches.

        Raises:
            InvalidInputError: There are no runs, or they are on several data sets; or the width is none.
            DataError: A run, or its data set, is damaged or gone.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from vae_flows.benchmark.presets import PRESETS
            >>> from vae_flows.runs.folder import prepare
            >>> folder = Path(tempfile.mkdtemp())
            >>> prepare(folder, PRESETS["smoke"].settings("caltech101-silhouettes", "planar", 0))
            >>> [figure.name for figure in FIGURES if figure.draw([Run(folder)])]  # no epoch is over yet
            []
        """
        return self.make(RunSource(runs), width)


class DrawnFigure(NamedTuple):
    """A figure of runs, or why it could not be drawn.

    Arguments:
        name: That of its kind and of the data set, for file names.
        title: Heading.
        alternative: Words in its place.
        figure: The figure, `None` where it failed.
        error: Why, empty where it did not.
    """

    name: str
    title: str
    alternative: str
    figure: Figure | None
    error: str = ""


def draw_figures(runs: Iterable[Run], width: Width = "screen") -> tuple[DrawnFigure, ...]:
    """Draw all figures that apply to runs, one data set after the other.

    A figure that fails, since a run is damaged or its data are gone, is told in its place, the same error once; the
    others stand.

    Arguments:
        runs: Any runs, finished or not.
        width: `"screen"`, `"column"` or `"page"` of a paper, or inches.

    Raises:
        DataError: The settings of a run are damaged.
    """
    by_data: dict[str, list[Run]] = {}
    for run in checked_runs(runs):
        by_data.setdefault(data_name(run.settings), []).append(run)
    drawn = []
    for data, members in by_data.items():
        source, told = RunSource(members), set[str]()
        for kind in FIGURES:
            name, title = f"{data}-{kind.name}", f"{data}: {kind.title}"
            labels = ", ".join(group.label for group in source.groups)
            alternative = f"{kind.description} Data: {data}; posteriors: {labels}."
            try:
                figure = kind.make(source, width)
            except VAEFlowsError as error:
                if str(error) not in told:
                    drawn.append(DrawnFigure(name, title, alternative, None, str(error)))
                told.add(str(error))
                continue
            if figure is not None:
                drawn.append(DrawnFigure(name, title, alternative, figure))
    return tuple(drawn)


# Drawing brings matplotlib, which those who train need not have: it is imported by the functions that draw.


def _curves(source: RunSource, width: Width) -> Figure | None:
    from vae_flows.reporting.plots import plot_curves

    return plot_curves(source.records, width=width) if any(run.curve for run in source.records) else None


def _time(source: RunSource, width: Width) -> Figure | None:
    from vae_flows.reporting.plots import plot_elbo_by_time

    has = any(run.curve and run.epoch_seconds for run in source.records)
    return plot_elbo_by_time(source.records, width=width) if has else None


def _evaluations(source: RunSource, width: Width) -> Figure | None:
    from vae_flows.reporting.plots import plot_evaluations_by_epoch

    has = any(run.epoch_evaluations for run in source.records)
    return plot_evaluations_by_epoch(source.records, width=width) if has else None


def _results(source: RunSource, width: Width) -> Figure | None:
    from vae_flows.reporting.plots import plot_results

    if all(run.negative_elbo is None for run in source.records):
        return None
    return plot_results(source.records, summarize(source.records)[source.data_name], width=width)


def _costs(source: RunSource, width: Width) -> Figure | None:
    from vae_flows.reporting.plots import plot_costs

    finished = [run for run in source.records if run.status == "finished"]
    return plot_costs(finished, width=width) if finished else None


def _reconstructions(source: RunSource, width: Width) -> Figure | None:
    from vae_flows.reporting.plots import plot_reconstructions

    if source.images is None:
        return None
    return plot_reconstructions(source.models, source.images.test.take(IMAGES).batch(), width=width)


def _samples(source: RunSource, width: Width) -> Figure | None:
    from vae_flows.reporting.plots import plot_samples

    return None if source.images is None else plot_samples(source.models, IMAGES, width=width)


def _traversals(source: RunSource, width: Width) -> Figure | None:
    from vae_flows.reporting.plots import plot_traversals

    if source.images is None or source.best is None:
        return None
    title = f"{source.best}, 1st to 99th percentile of the prior"
    return plot_traversals(source.models[source.best], source.images.test.take(1).batch(), title=title, width=width)


def _interpolations(source: RunSource, width: Width) -> Figure | None:
    from vae_flows.reporting.plots import plot_interpolations

    if source.images is None or source.best is None or len(source.images.test) < 2 * PAIRS:
        return None
    start, end = source.images.test.take(2 * PAIRS).batch().split(PAIRS)
    return plot_interpolations(source.models[source.best], start, end, title=source.best, width=width)


def _marginals(source: RunSource, width: Width) -> Figure | None:
    from vae_flows.reporting.plots import plot_marginals

    if source.data is None or source.best is None or len(source.data.event_shape) != 1:
        return None
    return plot_marginals(source.models[source.best], source.data.test, title=source.best, width=width)


def _posteriors(source: RunSource, width: Width) -> Figure | None:
    from vae_flows.reporting.plots import plot_posteriors

    models = {label: vae for label, vae in source.models.items() if vae.latent_dim == 2}
    if source.data is None or not models:
        return None
    x = source.data.test.take(1 if len(models) > 1 else EXAMPLES).batch()
    return plot_posteriors(models, x, width=width)


def _aggregate(source: RunSource, width: Width) -> Figure | None:
    from vae_flows.reporting.plots import plot_aggregate_posterior

    if source.data is None or source.best is None or source.models[source.best].latent_dim < 2:
        return None
    return plot_aggregate_posterior(source.models[source.best], source.data.test, title=source.best, width=width)


def _pareto(source: RunSource, width: Width) -> Figure | None:
    from vae_flows.reporting.plots import plot_pareto_k

    found = {label: details.weights for label, details in source.details.items() if details.weights is not None}
    return plot_pareto_k(found, width=width) if found else None


def _calibration(source: RunSource, width: Width) -> Figure | None:
    from vae_flows.reporting.plots import plot_calibration_ecdf

    ranks = {label: details.calibration for label, details in source.details.items() if details.calibration is not None}
    label = source.best if source.best in ranks else next(iter(ranks), None)
    if label is None:
        return None
    found = ranks[label]
    together = 1 - FALSE_ALARMS / found.ranks.shape[1]
    return plot_calibration_ecdf(found, probability=together, title=label, width=width)


FIGURES = (
    RunFigure(
        "test-elbo",
        "test −ELBO",
        "The mean of the test −ELBO of each posterior with the standard deviation over seeds, and each seed.",
        _results,
    ),
    RunFigure(
        "elbo-by-epoch",
        "validation −ELBO by epoch",
        "Lines of validation −ELBO by epoch, each the mean of a posterior's seeds in the band of their range.",
        _curves,
    ),
    RunFigure(
        "elbo-by-time",
        "what each posterior reaches in a given time",
        "Lines of the lowest validation −ELBO so far by wall-clock time of training.",
        _time,
    ),
    RunFigure(
        "evaluations-by-epoch",
        "evaluations per solve by epoch",
        "Lines of the evaluations of the dynamics per ODE solve by epoch.",
        _evaluations,
    ),
    RunFigure(
        "costs",
        "what each posterior costs",
        "Bars of seconds per epoch, parameters and evaluations per solve of each posterior.",
        _costs,
    ),
    RunFigure(
        "reconstructions",
        "test images and reconstructions",
        "Rows of images: test images, and for each posterior the mean of their reconstruction and a draw from it.",
        _reconstructions,
    ),
    RunFigure(
        "samples",
        "samples",
        "Rows of images: samples of each posterior's model, the mean of p(x | z) and a draw from it.",
        _samples,
    ),
    RunFigure(
        "traversals",
        "what each latent does",
        "Rows of images, in each of which one latent of a test image changes, for the posterior of lowest −ELBO.",
        _traversals,
    ),
    RunFigure(
        "interpolations",
        "between two test images",
        "Rows of images from one test image to another through the latents of the posterior of lowest −ELBO.",
        _interpolations,
    ),
    RunFigure(
        "marginals",
        "values in the data and drawn",
        "Histograms of each column in the test data and in draws of the model of lowest −ELBO.",
        _marginals,
    ),
    RunFigure(
        "posteriors",
        "approximate and true posteriors",
        "For an example, the true posterior on a grid, the approximate one beside it, and the paths of its flow.",
        _posteriors,
    ),
    RunFigure(
        "aggregate-posterior",
        "aggregate posterior and prior",
        "Points of the aggregate posterior beside points of the prior, for the posterior of lowest −ELBO.",
        _aggregate,
    ),
    RunFigure(
        "pareto-k",
        "how far importance weights can be trusted",
        "Lines of the Pareto shape of the importance weights of test images, smallest first, and their threshold.",
        _pareto,
    ),
    RunFigure(
        "calibration",
        "calibration on data that the model draws",
        "For each latent, the ECDF of the ranks of true values less the uniform one, in the band of uniform ranks.",
        _calibration,
    ),
)
"""All kinds, in the order in which a report shows them."""
