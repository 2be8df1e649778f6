"""Plots of learned densities: all of one run, several runs beside each other, and what regularisers do."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from experiments.density.picture import Array, Picture
from vae_flows.reporting.plots import COLOURS, DPI, FAINT, INK

__all__ = ["Comparison", "plot_comparisons", "plot_densities", "plot_density", "plot_trials"]

SHADES = LinearSegmentedColormap.from_list("shades", ["#FFFFFF", "#C6E6F8", "#56B4E9", "#0072B2", "#06304F"])
PATHS = LinearSegmentedColormap.from_list("paths", ["#D8D8D8", "#9CCBE8", "#0072B2"])
POINT, START, END = "#0072B2", "#999999", "#D55E00"
SMALL_INCHES, SMALL_DPI, SMALL_SCALE, SMALL_POINTS = 1.5, 100, 0.6, 1500
"""Side of a panel, resolution, size of points and lines, and number of points, where several runs share a figure."""


def plot_density(picture: Picture, *, title: str = "") -> Figure:
    """Draw one run: data, density, samples and paths above, the density on its way below.

    Arguments:
        picture: What to draw.
        title: Line above.
    """
    figure = Figure(figsize=(12.0, 5.6), dpi=DPI, layout="constrained")
    figure.suptitle(title, x=0.008, ha="left", fontsize=12, color=INK)
    grid = figure.add_gridspec(2, 12, height_ratios=(3, 2))
    data, density, samples, paths = (figure.add_subplot(grid[0, left : left + 3]) for left in range(0, 12, 3))
    below = [figure.add_subplot(grid[1, left : left + 2]) for left in range(0, 12, 2)]
    _scatter(data, picture.data, picture.limit, "data")
    _shade(density, picture.density, picture.limit, "density")
    _scatter(samples, picture.samples, picture.limit, "samples")
    _trace(paths, picture.paths, picture.limit, "trajectories")
    for axes, (time, frame) in zip(below, picture.frames.items(), strict=True):
        _shade(axes, frame, picture.limit, f"t = {time:.2f}")
    return figure


def plot_densities(pictures: Mapping[str, Picture]) -> Figure:
    """Draw several runs, one per column: data, density, samples and paths below each other.

    Arguments:
        pictures: What to draw, by the names to write above.
    """
    rows = ("data", "density", "samples", "trajectories")
    size = (SMALL_INCHES * len(pictures), SMALL_INCHES * len(rows))
    figure = Figure(figsize=size, dpi=SMALL_DPI, layout="constrained")
    panels = figure.subplots(len(rows), len(pictures), squeeze=False)
    for (data, density, samples, paths), (name, picture) in zip(panels.T, pictures.items(), strict=True):
        _scatter(data, picture.data[:SMALL_POINTS], picture.limit, name, scale=SMALL_SCALE)
        _shade(density, picture.density, picture.limit)
        _scatter(samples, picture.samples[:SMALL_POINTS], picture.limit, scale=SMALL_SCALE)
        _trace(paths, picture.paths, picture.limit, scale=SMALL_SCALE)
    for axes, row in zip(panels[:, 0], rows, strict=True):
        axes.set_ylabel(row, fontsize=9, color=INK)
    return figure


@dataclass(frozen=True)
class Comparison:
    """Densities of several models of the same data, to draw below each other.

    Arguments:
        limit: The square drawn is [−limit, limit]².
        data: Points of the data `(N, 2)`.
        densities: Densities on a grid by model, by row from below.
        excess: −log p of each model less that of the true density, in nats.
    """

    limit: float
    data: Array
    densities: Mapping[str, Array]
    excess: Mapping[str, float]


def plot_comparisons(panels: Mapping[str, Comparison]) -> Figure:
    """Draw data and the densities of several models below each other, one column per data set, in equal shades.

    Arguments:
        panels: What to draw, by the names to write above.
    """
    models = list(next(iter(panels.values())).densities)
    size = (SMALL_INCHES * len(panels), (SMALL_INCHES + 0.1) * (1 + len(models)))
    figure = Figure(figsize=size, dpi=SMALL_DPI, layout="constrained")
    grid = figure.subplots(1 + len(models), len(panels), squeeze=False)
    for (above, *below), (name, panel) in zip(grid.T, panels.items(), strict=True):
        _scatter(above, panel.data[:SMALL_POINTS], panel.limit, name, scale=SMALL_SCALE)
        darkest = min(float(density.max()) for density in panel.densities.values())
        for axes, model in zip(below, models, strict=True):
            _shade(axes, panel.densities[model], panel.limit, darkest=darkest)
            axes.set_xlabel(f"{panel.excess[model]:+.3f} nats", fontsize=8, color=INK)
    for axes, row in zip(grid[:, 0], ["data", *models], strict=True):
        axes.set_ylabel(row, fontsize=9, color=INK)
    return figure


def _scatter(axes: Axes, points: Array, limit: float, name: str = "", *, scale: float = 1.0) -> None:
    axes.scatter(*points.T, s=1.2 * scale**2, color=POINT, alpha=0.35, linewidths=0)
    _dress(axes, limit, name)


def _shade(axes: Axes, density: Array, limit: float, name: str = "", *, darkest: float | None = None) -> None:
    extent = (-limit, limit, -limit, limit)
    axes.imshow(density, cmap=SHADES, origin="lower", extent=extent, interpolation="bilinear", vmax=darkest)
    _dress(axes, limit, name)


def _trace(axes: Axes, paths: Array, limit: float, name: str = "", *, scale: float = 1.0) -> None:
    segments = np.stack([paths[:-1], paths[1:]], -2)
    steps, particles = segments.shape[:2]
    lines = LineCollection(list(segments.reshape(-1, 2, 2)), cmap=PATHS, linewidths=0.8 * scale, alpha=0.8)
    lines.set_array(np.repeat(np.arange(steps), particles))
    axes.add_collection(lines)
    axes.scatter(*paths[0].T, s=5 * scale**2, color=START, linewidths=0, zorder=3)
    axes.scatter(*paths[-1].T, s=7 * scale**2, color=END, linewidths=0, zorder=3)
    _dress(axes, limit, name)


def _dress(axes: Axes, limit: float, name: str) -> None:
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_color(FAINT)
    axes.set_title(name, loc="left", fontsize=11, color=INK)


def plot_trials(points: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> Figure:
    """Draw evaluations of a solve against the excess: a circle a seed, a dot for the mean of each trial.

    Arguments:
        points: Evaluations and excess of each seed, by toy density and trial.
    """
    figure = Figure(figsize=(4.2 * len(points) + 2.4, 3.6), dpi=SMALL_DPI, layout="constrained")
    panels = figure.subplots(1, len(points), squeeze=False)[0]
    for axes, (data, trials) in zip(panels, points.items(), strict=True):
        for colour, (trial, seeds) in zip(itertools.cycle(COLOURS), trials.items(), strict=False):
            pairs = np.asarray(seeds)
            axes.scatter(*pairs.T, s=14, facecolors="none", edgecolors=colour, linewidths=0.8)
            axes.scatter(*pairs.mean(0), s=36, color=colour, label=trial)
        axes.set_xlabel("evaluations / solve", color=INK)
        axes.set_ylabel("excess of −log p(x) (nats)", color=INK)
        axes.set_title(data, loc="left", fontsize=11, color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
    panels[-1].legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
