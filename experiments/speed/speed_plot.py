"""The plot of the comparison: time of a step by size and competitor, and cost against the dimension."""

from __future__ import annotations

import itertools

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.speed.one_evaluation import METHODS
from experiments.speed.speed_records import Comparison, SizeResult
from vae_flows.reporting.plots import COLOURS, DPI, FAINT, INK

__all__ = ["plot_comparison"]

_BAR = 0.1
"""Height of a bar; a size takes one unit, of which eight bars leave a gap."""


def plot_comparison(comparison: Comparison) -> Figure:
    """Draw both plots side by side."""
    figure = Figure(figsize=(12.0, 1.8 + 1.1 * len(comparison.sizes)), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_sizes(left, comparison.sizes)
    _draw_scaling(right, comparison)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(INK)
        axes.tick_params(colors=INK)
    return figure


def _draw_sizes(axes: Axes, sizes: tuple[SizeResult, ...]) -> None:
    names = list(dict.fromkeys(entry.competitor for result in sizes for entry in result.measurements))
    looks = dict(zip(names, itertools.product(("", "////"), COLOURS), strict=False))
    for row, result in enumerate(sizes):
        shown = [(entry.competitor, entry.median) for entry in result.measurements if entry.median is not None]
        for place, (name, seconds) in enumerate(shown):
            hatch, colour = looks[name]
            height = row + (place - (len(shown) - 1) / 2) * _BAR
            axes.barh(height, seconds, 0.9 * _BAR, color=colour, hatch=hatch, edgecolor="white", linewidth=0)
        if result.floor_seconds is not None:
            extent = (row - len(shown) * _BAR / 2, row + len(shown) * _BAR / 2)
            axes.vlines(result.floor_seconds, *extent, colors=INK, linestyles=":", linewidth=1.2)
    for name, (hatch, colour) in looks.items():
        axes.barh(0, 0, color=colour, hatch=hatch, edgecolor="white", linewidth=0, label=name)
    axes.plot([], [], color=INK, linestyle=":", linewidth=1.2, label="matrix products alone")
    axes.set_xscale("log")
    axes.set_yticks(range(len(sizes)), [result.size for result in sizes])
    axes.invert_yaxis()
    axes.set_xlabel("s per step, forward and backward")
    axes.set_title("Posterior alone", loc="left", fontsize=11, color=INK)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _draw_scaling(axes: Axes, comparison: Comparison) -> None:
    for place, method in enumerate(METHODS):
        points = [point for point in comparison.scaling if point.method == method]
        dims, seconds = [point.dim for point in points], [point.seconds for point in points]
        axes.plot(dims, seconds, color=COLOURS[place], marker="o", markersize=4, linewidth=1.6, label=method)
    if comparison.scaling:  # without any, there is nothing that a logarithm could scale
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
    axes.set_xlabel("D")
    axes.set_ylabel("s per evaluation, forward and backward")
    axes.set_title("Change of log-density", loc="left", fontsize=11, color=INK)
    axes.grid(color=FAINT, linewidth=0.8)
    axes.legend(fontsize=8, frameon=False)
