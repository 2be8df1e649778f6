"""What runs came to and what they cost: test −ELBO, and seconds, parameters and evaluations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.extras import needing
from vae_flows.reporting.plots.looks import INK, looks_of
from vae_flows.reporting.plots.sheets import Plot, Width, dress, name_rows, new_plot, sheet_of, write_beside
from vae_flows.reporting.summaries import Estimate, PosteriorSummary, Recorded, RunResult

with needing("plots"):
    from matplotlib.ticker import EngFormatter

__all__ = ["plot_costs", "plot_results"]

ROW_INCHES = 0.034
"""Height of a row for each point of its text."""


@checked
def plot_results(
    runs: Iterable[Recorded], summaries: Sequence[PosteriorSummary], *, title: str = "", width: Width = "screen"
) -> Plot:
    """Draw test −ELBO: a dot for the mean of each posterior, a bar for the standard deviation, small dots for seeds.

    Arguments:
        runs: The single runs on one data set.
        summaries: The same, summarised; their order is the order from top to bottom.
        title: Line above the plot.
        width: `"screen"`, `"column"` or `"page"` of a paper, or inches.

    Raises:
        InvalidInputError: No posterior has a test −ELBO, or the width is none.

    Example:
        >>> from vae_flows.reporting.summaries import summarize
        >>> runs = [RunResult("mnist", "planar", seed, negative_elbo=86.0 + seed) for seed in range(3)]
        >>> [tick.get_text() for tick in plot_results(runs, summarize(runs)["mnist"]).axes[0].get_yticklabels()]
        ['planar']
    """
    shown = [(summary, summary.negative_elbo) for summary in summaries if summary.negative_elbo]
    if not shown:
        raise InvalidInputError(complaint("summaries", "a posterior with a test −ELBO", "none"))
    records, sheet = [run.to_record() for run in runs], sheet_of(width)
    figure, panels = new_plot(sheet, 0.9 + ROW_INCHES * sheet.font * len(shown), title=title)
    axes, looks = panels[0, 0], looks_of(summary.posterior for summary, _ in shown)
    for index, (summary, estimate) in enumerate(shown):
        bounds = [run.negative_elbo for run in records if run.posterior == summary.posterior]
        if not bounds:
            expected = f"runs of {summary.posterior!r}, which is summarised"
            raise InvalidInputError(complaint("runs of plot_results", expected, "none"))
        colour, _, marker = looks[summary.posterior]
        single = [bound for bound in bounds if bound is not None]
        axes.scatter(single, [index] * len(single), s=14, facecolors="white", edgecolors=colour, zorder=3)
        axes.errorbar(estimate.mean, index, xerr=estimate.std, color=colour, marker=marker, markersize=6, capsize=3)
        write_beside(axes, index, estimate.text(), sheet.font)
    name_rows(axes, [summary.posterior for summary, _ in shown])
    axes.margins(x=0.08)
    dress(axes, sheet, x=f"test −ELBO ({shown[0][0].unit}), lower is better", grid="x")
    return figure


@checked
def plot_costs(runs: Iterable[Recorded], *, title: str = "", width: Width = "screen") -> Plot:
    """Draw what each posterior costs: bars of seconds per epoch, parameters and evaluations per solve.

    Bars are means over the seeds, with the standard deviation as a line. What none of the runs has is left out.

    Arguments:
        runs: Runs on one data set.
        title: Line above the plot.
        width: `"screen"`, `"column"` or `"page"` of a paper, or inches.

    Raises:
        InvalidInputError: No run has any of them, or the width is none.

    Example:
        >>> runs = [RunResult("mnist", "ffjord", seed, seconds_per_epoch=2.0 + seed, parameters=9) for seed in range(2)]
        >>> [float(axes.patches[0].get_width()) for axes in plot_costs(runs).axes]
        [2.5, 9.0]
    """
    records = [run.to_record() for run in runs]
    names = list(dict.fromkeys(record.posterior for record in records))
    costs = {label: [_estimate(records, name, field) for name in names] for label, field in COSTS.items()}
    costs = {label: estimates for label, estimates in costs.items() if any(estimates)}
    if not costs:
        raise InvalidInputError(complaint("runs of plot_costs", f"runs with {', '.join(COSTS)}", "none"))
    sheet = sheet_of(width)
    rows, columns = (len(costs), 1) if sheet.is_narrow else (1, len(costs))
    height = rows * (0.65 + ROW_INCHES * sheet.font * len(names))
    figure, panels = new_plot(sheet, height + 0.2, rows, columns, title=title, sharey=True)
    looks = looks_of(names)
    for axes, (label, estimates) in zip(panels.flat, costs.items(), strict=True):
        for index, (name, estimate) in enumerate(zip(names, estimates, strict=True)):
            if estimate is None:
                write_beside(axes, index, "–", sheet.font)
                continue
            axes.barh(index, estimate.mean, 0.62, color=looks[name].colour, xerr=estimate.std, ecolor=INK)
            write_beside(
                axes, index, f"{estimate.mean:,.3g}" if estimate.mean < 1000 else f"{estimate.mean:,.0f}", sheet.font
            )
        dress(axes, sheet, x=label, grid="x")
        name_rows(axes, names)
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=4)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 100k
    return figure


COSTS = {
    "seconds per epoch": "seconds_per_epoch",
    "parameters": "parameters",
    "evaluations per solve": "evaluations_per_solve",
}


def _estimate(records: Sequence[RunResult], posterior: str, field: str) -> Estimate | None:
    values = [getattr(record, field) for record in records if record.posterior == posterior]
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    return Estimate.of(known) if known else None
