"""The plot of the comparison: time of a step by size and competitor, and cost against the dimension."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.speed.competitors.roster import BASELINE, DIFFRAX, PUBLISHED, ZUKO
from experiments.speed.one_evaluation import METHODS
from experiments.speed.speed_records import Comparison, Measurement, SizeResult
from vae_flows.reporting.plots.looks import COLOURS, INK
from vae_flows.reporting.plots.sheets import Sheet, dress, new_plot, sheet_of

__all__ = ["plot_comparison"]

OWN, PEERS = "#0072B2", "#D55E00"
"""Colours of this library and of others."""
OTHERS = (PUBLISHED, ZUKO, DIFFRAX)
MARKERS = ("o", "s", "^", "D")
ROW_INCHES, MARGIN_INCHES, LAST_INCHES = 0.17, 0.62, 2.3
"""Heights: of a competitor, of what is around the panel of a size, and of the last row."""


def plot_comparison(comparison: Comparison) -> Figure:
    """Draw a panel for each size, its competitors sorted by time, and one for the cost against the dimension."""
    sheet, sizes = sheet_of("screen"), comparison.sizes
    rows = -(-len(sizes) // 2)
    pairs = [sizes[2 * row : 2 * row + 2] for row in range(rows)]
    heights = [MARGIN_INCHES + ROW_INCHES * max(len(_measured(result)) for result in pair) for pair in pairs]
    heights.append(LAST_INCHES)
    figure, panels = new_plot(sheet, sum(heights), rows + 1, 2, height_ratios=heights)
    drawn = list(panels[:-1].flat)
    for axes, result in zip(drawn, sizes, strict=False):
        _draw_size(axes, sheet, result)
    _share_scale(drawn[: len(sizes)], sheet)
    for axes in drawn[len(sizes) :]:
        axes.remove()
    _draw_scaling(panels[-1, 0], sheet, comparison)
    _explain(panels[-1, 1], sheet, comparison)
    return figure


def _measured(result: SizeResult) -> list[tuple[Measurement, float]]:
    """Return the competitors that have times, the fastest first, with their medians."""
    found = [(entry, entry.median) for entry in result.measurements if entry.median is not None]
    return sorted(found, key=lambda pair: pair[1])


def _has_own_dynamics(entry: Measurement) -> bool:
    """Whether there is nothing to compare with the common solve in double precision."""
    return not entry.errors


def _draw_size(axes: Axes, sheet: Sheet, result: SizeResult) -> None:
    names = []
    for row, (entry, median) in enumerate(_measured(result)):
        own = _has_own_dynamics(entry)
        colour = PEERS if entry.competitor in OTHERS else OWN
        face = "white" if own else colour
        axes.hlines(row, min(entry.seconds), max(entry.seconds), color=colour, linewidth=1.2)
        axes.plot(median, row, marker="o", markersize=5, color=colour, markerfacecolor=face, linestyle="")
        names.append(f"{entry.competitor} (own dynamics)" if own else entry.competitor)
    if result.floor_seconds is not None:
        axes.axvline(result.floor_seconds, color=INK, linestyle=":", linewidth=1.2)
    dress(axes, sheet, title=result.size, grid="x")
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelsize=sheet.font - 1.5)
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == BASELINE else "normal")


def _share_scale(panels: list[Axes], sheet: Sheet) -> None:
    """Give all sizes one scale of time, named below the last of each column."""
    if not panels:
        return
    low = min(axes.get_xlim()[0] for axes in panels)
    high = max(axes.get_xlim()[1] for axes in panels)
    for axes in panels:
        axes.set_xlim(low, high)
    for axes in panels[-2:]:
        axes.set_xlabel("s per step, forward and backward", fontsize=sheet.font, color=INK)


def _draw_scaling(axes: Axes, sheet: Sheet, comparison: Comparison) -> None:
    for place, method in enumerate(METHODS):
        points = [point for point in comparison.scaling if point.method == method]
        dims, seconds = [point.dim for point in points], [point.seconds for point in points]
        look = {"color": COLOURS[(0, 3, 5, 6)[place % 4]], "marker": MARKERS[place % 4], "markersize": 3.5}
        axes.plot(dims, seconds, linewidth=sheet.line, label=method, **look)
    if comparison.scaling:  # without any, there is nothing that a logarithm could scale
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
    dress(axes, sheet, title="Change of log-density", x="D", y="s per evaluation", grid="both")


def _explain(axes: Axes, sheet: Sheet, comparison: Comparison) -> None:
    """Write the legends of both kinds of panels where nothing is drawn."""
    axes.set_axis_off()
    point = {"marker": "o", "linestyle": "", "markersize": 5}
    handles = [
        Line2D([], [], color=OWN, **point, label="this library, median and range"),
        Line2D([], [], color=PEERS, **point, label="others, equal dynamics"),
        Line2D([], [], color=PEERS, markerfacecolor="white", **point, label="others, dynamics of their own"),
        Line2D([], [], color=INK, linestyle=":", label="matrix products alone"),
    ]
    style = {"frameon": False, "fontsize": sheet.font - 1, "alignment": "left", "labelcolor": INK}
    style |= {"title_fontsize": sheet.font, "borderaxespad": 0.0}
    axes.add_artist(
        axes.legend(handles=handles, title="Posterior alone", loc="upper left", bbox_to_anchor=(0.0, 1.06), **style)
    )
    methods = [
        Line2D([], [], color=COLOURS[(0, 3, 5, 6)[place % 4]], marker=MARKERS[place % 4], markersize=3.5, label=method)
        for place, method in enumerate(METHODS)
    ]
    if comparison.scaling:
        axes.legend(
            handles=methods, title="Change of log-density", loc="lower left", bbox_to_anchor=(0.0, -0.12), **style
        )
