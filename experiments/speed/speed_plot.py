"""The plot of the comparison: time of a step by size and competitor, and cost against the dimension."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.speed.competitors.roster import BASELINE, PEERS
from experiments.speed.one_evaluation import METHODS
from experiments.speed.speed_records import Comparison, Measurement, SizeResult
from vae_flows.reporting.plots.looks import COLOURS, INK
from vae_flows.reporting.plots.sheets import Sheet, dress, name_rows, new_plot, sheet_of

__all__ = ["plot_comparison"]

OWN, OTHERS = "#0072B2", "#D55E00"
"""Colours of this library and of others."""
LOOKS = tuple(zip(METHODS, (COLOURS[place] for place in (0, 3, 5, 6)), "os^D", strict=True))
ROW_INCHES, MARGIN_INCHES, LAST_INCHES = 0.17, 0.62, 2.3
"""Heights: of a competitor, of what is around the panel of a size, and of the last row."""


def plot_comparison(comparison: Comparison) -> Figure:
    """Draw a panel for each size, its competitors sorted by time, and one for the cost against the dimension."""
    sheet, sizes = sheet_of("screen"), comparison.sizes
    pairs = [sizes[start : start + 2] for start in range(0, len(sizes), 2)]
    heights = [MARGIN_INCHES + ROW_INCHES * max(len(_measured(result)) for result in pair) for pair in pairs]
    heights.append(LAST_INCHES)
    figure, panels = new_plot(sheet, sum(heights), len(heights), 2, height_ratios=heights)
    drawn = list(panels[:-1].flat)
    for axes, result in zip(drawn, sizes, strict=False):
        _draw_size(axes, sheet, result)
    while len(drawn) > len(sizes):
        drawn.pop().remove()
    limits = [limit for axes in drawn for limit in axes.get_xlim()]
    for axes in drawn:
        axes.set_xlim(min(limits), max(limits))
    for axes in drawn[-2:]:
        axes.set_xlabel("s per step, forward and backward", fontsize=sheet.font, color=INK)
    _draw_scaling(panels[-1, 0], sheet, comparison)
    _explain(panels[-1, 1], sheet)
    return figure


def _measured(result: SizeResult) -> list[tuple[Measurement, float]]:
    """Return the competitors that have times, the fastest first, with their medians."""
    found = [(entry, entry.median) for entry in result.measurements if entry.median is not None]
    return sorted(found, key=lambda pair: pair[1])


def _draw_size(axes: Axes, sheet: Sheet, result: SizeResult) -> None:
    names = []
    for row, (entry, median) in enumerate(_measured(result)):
        own = not entry.errors  # there is nothing to compare with the common solve in double precision
        colour = OTHERS if entry.competitor in PEERS else OWN
        face = "white" if own else colour
        axes.hlines(row, min(entry.seconds), max(entry.seconds), color=colour, linewidth=1.2)
        axes.plot(median, row, marker="o", markersize=5, color=colour, markerfacecolor=face, linestyle="")
        names.append(f"{entry.competitor} (own dynamics)" if own else entry.competitor)
    if result.floor_seconds is not None:
        axes.axvline(result.floor_seconds, color=INK, linestyle=":", linewidth=1.2)
    dress(axes, sheet, title=result.size, grid="x")
    axes.set_xscale("log")
    name_rows(axes, names or [""])
    axes.tick_params(axis="y", labelsize=sheet.font - 1.5)
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == BASELINE else "normal")


def _draw_scaling(axes: Axes, sheet: Sheet, comparison: Comparison) -> None:
    for method, colour, marker in LOOKS:
        points = [point for point in comparison.scaling if point.method == method]
        dims, seconds = [point.dim for point in points], [point.seconds for point in points]
        axes.plot(dims, seconds, linewidth=sheet.line, color=colour, marker=marker, markersize=3.5)
    if comparison.scaling:  # without any, there is nothing that a logarithm could scale
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
    dress(axes, sheet, title="Change of log-density", x="D", y="s per evaluation", grid="both")


def _explain(axes: Axes, sheet: Sheet) -> None:
    """Write the legend of both kinds of panels where nothing is drawn."""
    axes.set_axis_off()
    point = {"marker": "o", "linestyle": "", "markersize": 5}
    handles = [
        Line2D([], [], color=OWN, **point, label="this library, median and range"),
        Line2D([], [], color=OTHERS, **point, label="others, equal dynamics"),
        Line2D([], [], color=OTHERS, markerfacecolor="white", **point, label="others, dynamics of their own"),
        Line2D([], [], color=INK, linestyle=":", label="matrix products alone"),
        *(Line2D([], [], color=colour, marker=marker, markersize=3.5, label=name) for name, colour, marker in LOOKS),
    ]
    axes.legend(handles=handles, loc="upper left", frameon=False, fontsize=sheet.font - 1, labelcolor=INK)
