"""What is drawn of a run, as arrays: data, density, samples and trajectories, and the density on its way."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.density.fit import log_density
from vae_flows.cnf import ContinuousNormalizingFlow, ODESolver
from vae_flows.data import ToyDensity
from vae_flows.errors import DataError, complaint
from vae_flows.persistence.archives import read_npz, write_npz
from vae_flows.randomness import seeded

__all__ = ["Array", "Picture", "density_on_grid", "picture_density", "read_picture", "take_picture", "write_picture"]

Array = NDArray[np.floating]
POINTS, PARTICLES = 5000, 150
FINE, COARSE = 160, 72
"""Cells along a side of the grids on which the density, and the densities on its way, are drawn."""
STEPS, FRAMES = 40, 5
"""Times at which paths are known, and those of them, beside t = 0, at which the density is drawn."""
MARGIN = 1.15
"""Side of the square that is drawn, by the largest coordinate of the data."""
SOLVER = ODESolver(rtol=1e-4, atol=1e-4)
"""Errors that no eye can see."""


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
    """Compute what is drawn.

    Arguments:
        flow: A trained density.
        toy: The true density.
        seed: Seed of all points.
    """
    flow = copy.deepcopy(flow).eval()
    flow.eval_solver = SOLVER
    with seeded(torch.device("cpu"), seed, "picture") as generator:
        data, limit = _draw_data(toy, generator)
        samples = flow().sample((POINTS,))
        start = flow.base().sample((PARTICLES,))
        times = [flow.duration * step / STEPS for step in range(1, STEPS + 1)]
        shown = times[STEPS // FRAMES - 1 :: STEPS // FRAMES]
        return Picture(
            limit=limit,
            data=data.numpy(),
            samples=samples.numpy(),
            density=density_on_grid(flow().log_prob, limit, FINE),
            frames={0.0: density_on_grid(flow.base().log_prob, limit, COARSE)}
            | {time: density_on_grid(flow(until=time).log_prob, limit, COARSE) for time in shown},
            paths=torch.stack([start, *(flow.transform(until=time)(start) for time in times)]).numpy(),
        )


@torch.no_grad()
def picture_density(log_prob: Callable[[Tensor], Tensor], toy: ToyDensity, seed: int) -> Array:
    """Compute another density of the same data on the grid of the picture of that seed."""
    with seeded(torch.device("cpu"), seed, "picture") as generator:
        return density_on_grid(log_prob, _draw_data(toy, generator)[1], FINE)


def _draw_data(toy: ToyDensity, generator: torch.Generator) -> tuple[Tensor, float]:
    """Draw the points that a picture shows, and return them with the limit of the square that holds them."""
    data = toy.sample(POINTS, generator)
    return data, MARGIN * float(data.abs().max())


def write_picture(path: Path, picture: Picture) -> None:
    """Write the arrays as a compressed `.npz`."""
    arrays = {name: getattr(picture, name) for name in ("limit", "data", "samples", "density", "paths")}
    frames = {"times": list(picture.frames), "frames": np.stack(list(picture.frames.values()))}
    write_npz(path, {**arrays, **frames})


def read_picture(path: Path) -> Picture:
    """Read what `write_picture` wrote.

    Raises:
        DataError: The file is missing or damaged.
    """
    stored = read_npz(path, ["limit", "data", "samples", "density", "times", "frames", "paths"])
    try:
        return Picture(
            limit=float(stored["limit"]),
            data=stored["data"],
            samples=stored["samples"],
            density=stored["density"],
            frames=dict(zip(stored["times"].tolist(), stored["frames"], strict=True)),
            paths=stored["paths"],
        )
    except (TypeError, ValueError) as error:
        raise DataError(complaint(str(path), "the arrays of a picture", f"{error}")) from None


def density_on_grid(log_prob: Callable[[Tensor], Tensor], limit: float, cells: int) -> Array:
    """Return a density in the centres of cells of the square [−limit, limit]², by row from below."""
    centres = limit * ((torch.arange(cells) + 0.5) * (2 / cells) - 1)
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return log_density(log_prob, torch.stack([x, y], -1).flatten(0, 1)).exp().reshape(cells, cells).numpy()
