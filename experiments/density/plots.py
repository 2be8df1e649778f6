"""The picture of a run: data, density, samples and trajectories, and the density on its way from the Gaussian."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.distributions import Distribution

from experiments.density.fit import log_density
from vae_flows.cnf import ContinuousNormalizingFlow
from vae_flows.data.toy import ToyDensity
from vae_flows.evaluation.randomness import seeded
from vae_flows.reporting.plots import DPI, FAINT, INK

__all__ = ["Picture", "plot_density", "take_picture"]

Array = NDArray[np.floating]
POINTS, PARTICLES = 5000, 150
FINE, COARSE = 160, 72
"""Cells along a side of the grids on which the density, and the densities on its way, are drawn."""
STEPS, FRAMES = 40, 5
"""Times at which paths are known, and those of them, beside t = 0, at which the density is drawn."""
MARGIN = 1.15
"""Side of the square that is drawn, by the largest coordinate of the data."""
SHADES = LinearSegmentedColormap.from_list("shades", ["#FFFFFF", "#C6E6F8", "#56B4E9", "#0072B2", "#06304F"])
PATHS = LinearSegmentedColormap.from_list("paths", ["#D8D8D8", "#9CCBE8", "#0072B2"])
START, END = "#999999", "#D55E00"


@dataclass(frozen=True)
class Picture:
    """What is drawn, as arrays.

    Arguments:
        limit: The square drawn is [−limit, limit]².
        data: Points of the data `(N, 2)`.
        samples: As many of the model.
        density: The model's density on a grid, by row from below.
        frames: The same on the way from the Gaussian, coarser, by time.
        paths: States `(times, particles, 2)` of particles on that way.
    """

    limit: float
    data: Array
    samples: Array
    density: Array
    frames: Mapping[float, Array]
    paths: Array

    @property
    def mass(self) -> float:
        """The integral of the density over the square: 1, but for what lies outside and the grid's width."""
        return float(self.density.mean()) * (2 * self.limit) ** 2


@torch.no_grad()
def take_picture(flow: ContinuousNormalizingFlow, toy: ToyDensity, seed: int) -> Picture:
    """Compute what `plot_density` draws.

    Arguments:
        flow: A trained density, put into evaluation mode.
        toy: The true density.
        seed: Seed of all points.
    """
    flow.eval()
    with seeded(torch.device("cpu"), seed, "picture") as generator:
        data = toy.sample(POINTS, generator)
        limit = MARGIN * float(data.abs().max())
        samples = flow().sample((POINTS,))
        start = flow.base().sample((PARTICLES,))
        times = [flow.duration * step / STEPS for step in range(1, STEPS + 1)]
        shown = times[STEPS // FRAMES - 1 :: STEPS // FRAMES]
        return Picture(
            limit=limit,
            data=data.numpy(),
            samples=samples.numpy(),
            density=_on_grid(flow(), limit, FINE),
            frames={0.0: _on_grid(flow.base(), limit, COARSE)}
            | {time: _on_grid(flow(until=time), limit, COARSE) for time in shown},
            paths=torch.stack([start, *(flow.transform(until=time)(start) for time in times)]).numpy(),
        )


def plot_density(picture: Picture, *, title: str = "") -> Figure:
    """Draw a picture: data, density, samples and paths above, the density on its way below.

    Arguments:
        picture: What to draw.
        title: Line above.
    """
    figure = Figure(figsize=(12.0, 5.6), dpi=DPI, layout="constrained")
    figure.suptitle(title, x=0.008, ha="left", fontsize=12, color=INK)
    grid = figure.add_gridspec(2, 12, height_ratios=(3, 2))
    data, density, samples, paths = (figure.add_subplot(grid[0, left : left + 3]) for left in range(0, 12, 3))
    below = [figure.add_subplot(grid[1, left : left + 2]) for left in range(0, 12, 2)]
    for axes, points, name in ((data, picture.data, "data"), (samples, picture.samples, "samples")):
        axes.scatter(*points.T, s=1.2, color="#0072B2", alpha=0.35, linewidths=0)
        _dress(axes, picture.limit, name)
    _shade(density, picture.density, picture.limit, "density")
    _trace(paths, picture.paths)
    _dress(paths, picture.limit, "trajectories")
    for axes, (time, frame) in zip(below, picture.frames.items(), strict=True):
        _shade(axes, frame, picture.limit, f"t = {time:.2f}")
    return figure


def _on_grid(density: Distribution, limit: float, cells: int) -> Array:
    centres = limit * ((torch.arange(cells) + 0.5) * (2 / cells) - 1)
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return log_density(density, torch.stack([x, y], -1).flatten(0, 1)).exp().reshape(cells, cells).numpy()


def _shade(axes: Axes, density: Array, limit: float, name: str) -> None:
    axes.imshow(density, cmap=SHADES, origin="lower", extent=(-limit, limit, -limit, limit), interpolation="bilinear")
    _dress(axes, limit, name)


def _trace(axes: Axes, paths: Array) -> None:
    segments = np.stack([paths[:-1], paths[1:]], -2)
    steps, particles = segments.shape[:2]
    lines = LineCollection(list(segments.reshape(-1, 2, 2)), cmap=PATHS, linewidths=0.8, alpha=0.8)
    lines.set_array(np.repeat(np.arange(steps), particles))
    axes.add_collection(lines)
    axes.scatter(*paths[0].T, s=5, color=START, linewidths=0, zorder=3)
    axes.scatter(*paths[-1].T, s=7, color=END, linewidths=0, zorder=3)


def _dress(axes: Axes, limit: float, name: str) -> None:
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_color(FAINT)
    axes.set_title(name, loc="left", fontsize=11, color=INK)
