"""Posteriors of two latents beside the true ones, with the paths of their flows; the aggregate beside the prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Size, Tensor

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.evaluation import FlowPaths, PosteriorGrid, active_units, flow_paths, posterior_grid
from vae_flows.evaluation.batches import evaluating, examples_for
from vae_flows.extras import needing
from vae_flows.modules import placement
from vae_flows.reporting.plots.generated import name_of_latent
from vae_flows.reporting.plots.looks import FAINT, INK, MUTED, SHADES
from vae_flows.reporting.plots.sheets import Plot, Sheet, Width, dress, new_plot, sheet_of
from vae_flows.vae import VAE

with needing("plots"):
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap

__all__ = ["AggregateDraws", "draw_aggregate", "plot_aggregate_posterior", "plot_posteriors"]

DENSITY = LinearSegmentedColormap.from_list("density", SHADES)
WAY = LinearSegmentedColormap.from_list("way", ["#CFCFCF", "#9CCBE8", "#0072B2"])
START, END = "#999999", "#D55E00"
PATHS, STEPS = 60, 24
"""Draws whose paths are drawn, and stations of each."""
ROUGH_POINTS, ROUGH_DRAWS = 1000, 10
"""Examples and draws by which active latents are found."""


@checked
@torch.no_grad()
def plot_posteriors(
    models: VAE | Mapping[str, VAE],
    x: Tensor,
    *,
    num_cells: int = 60,
    seed: int = 0,
    title: str = "",
    width: Width = "screen",
) -> Plot:
    r"""Draw the posteriors of models with two latents: the true one on a grid, q, and the paths of its flow.

    One row for each example and model. The true posterior, :math:`p(x|z)\,p(z) / \int p(x|z)\,p(z)\,dz`, is that of the
    row's own decoder; both densities have one scale. In the panel of q stands KL(q ‖ p) in nats, that between
    log p(x) and the ELBO.

    Arguments:
        models: A model, or several by name; each is put in evaluation mode meanwhile.
        x: Examples `(B, *event)`; images are shown at the left.
        num_cells: Cells along a side of the grid.
        seed: The same seed gives the same picture.
        title: Line above the panels.
        width: `"screen"`, `"column"` or `"page"` of a paper, or inches.

    Raises:
        InvalidInputError: A model has another number of latents, examples do not fit, or the width is none.

    Example:
        >>> from vae_flows.reporting.plots.generated import _example
        >>> figure = plot_posteriors({"planar": _example()}, torch.rand(1, 1, 4, 4), num_cells=20)
        >>> [axes.get_title(loc="left") for axes in figure.axes]
        ['planar', 'true p(z | x)', 'q(z | x)', 'z₀ (grey) to z']
    """
    sheet = sheet_of(width)
    models = models if isinstance(models, Mapping) else {"": models}
    rows: list[tuple[str, Tensor, PosteriorGrid, FlowPaths | None, int]] = []
    for name, vae in models.items():
        grid = posterior_grid(vae, x, num_cells=num_cells, seed=seed)
        with evaluating(vae, seed, "plot_posteriors"):
            q = vae.encode(x)
            paths = flow_paths(q, PATHS, STEPS) if hasattr(q, "transforms") else None
        rows += [(name, image, grid, paths, place) for place, image in enumerate(x)]
    if not rows:
        raise InvalidInputError(complaint("models of plot_posteriors", "one or more by name", "none"))
    has_images = _as_picture(x[0]) is not None or any(models)
    columns = 4 if has_images else 3
    side = sheet.width / (columns + 0.4)
    figure, panels = new_plot(sheet, (side + 0.24) * len(rows) + 0.3, len(rows), columns, title=title)
    for panel, row in zip(panels, rows, strict=True):
        if has_images:
            _show_example(panel[0], sheet, row[0], row[1])
        _show_densities(panel[-3:], sheet, row[2], row[3], row[4], first=row is rows[0])
    return figure


def _show_example(axes: Axes, sheet: Sheet, name: str, example: Tensor) -> None:
    picture = _as_picture(example)
    if picture is not None:
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(picture is not None)
    axes.spines[:].set_color(FAINT)
    axes.set_title(name, loc="left", fontsize=sheet.font, color=INK, fontweight="bold")


def _show_densities(
    panels: Any, sheet: Sheet, grid: PosteriorGrid, paths: FlowPaths | None, place: int, *, first: bool
) -> None:
    true, approximate, way = panels
    centres = grid.centres[place].double().cpu().numpy()
    margin = (centres[:, 1] - centres[:, 0]) / 2
    (left, bottom), (right, top) = centres[:, 0] - margin, centres[:, -1] + margin
    p, q = (log_density[place].exp().cpu().numpy() for log_density in (grid.log_p, grid.log_q))
    gap = f"KL {float(grid.kl_divergence[place]):.2f}"
    titles = ("true p(z | x)", "q(z | x)", "z₀ (grey) to z") if first else ("", "", "")
    for axes, density in ((true, p), (approximate, q), (way, None)):
        dress(axes, sheet, title=titles[(true, approximate, way).index(axes)])
        if density is not None:
            axes.imshow(
                density, cmap=DENSITY, vmin=0, vmax=max(p.max(), q.max()), origin="lower",
                extent=(left, right, bottom, top), interpolation="bilinear",
            )  # fmt: skip
        axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color(FAINT)
        axes.locator_params(nbins=3)
        axes.tick_params(length=2, labelsize=sheet.font - 1.5, labelleft=axes is true)
    approximate.text(
        0.97, 0.96, gap, transform=approximate.transAxes, ha="right", va="top", fontsize=sheet.font - 1.5, color=INK,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
    )  # fmt: skip
    if paths is not None:
        _show_paths(way, sheet, paths.states[:, :, place].double().cpu().numpy())


def _show_paths(axes: Axes, sheet: Sheet, states: NDArray[np.float64]) -> None:
    """Draw states `(T, S, 2)` as lines from a grey dot to an orange one, all of those that leave the square too."""
    low = np.minimum(states.min((0, 1)), [axes.get_xlim()[0], axes.get_ylim()[0]])
    high = np.maximum(states.max((0, 1)), [axes.get_xlim()[1], axes.get_ylim()[1]])
    if len(states) > 1:
        segments = np.stack([states[:-1], states[1:]], -2)
        lines = LineCollection(list(segments.reshape(-1, 2, 2)), cmap=WAY, linewidths=0.45 * sheet.line, alpha=0.8)
        lines.set_array(np.repeat(np.arange(len(segments)), states.shape[1]))
        axes.add_collection(lines)
        axes.scatter(*states[0].T, s=0.22 * sheet.width + 1, color=START, linewidths=0, zorder=3)
    axes.scatter(*states[-1].T, s=0.25 * sheet.width + 1, color=END, linewidths=0, zorder=4)
    middle, half = (low + high) / 2, float((high - low).max()) / 2
    if (low < [axes.get_xlim()[0], axes.get_ylim()[0]]).any() or (
        high > [axes.get_xlim()[1], axes.get_ylim()[1]]
    ).any():
        half *= 1.05
        axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
        axes.tick_params(labelleft=True)  # a square of its own


def _as_picture(example: Tensor) -> NDArray[np.float64] | None:
    """Return an image as matplotlib takes it, `None` for what is none."""
    if example.dim() == 3 and example.shape[0] in (1, 3):
        example = example.permute(1, 2, 0).squeeze(-1)
    elif example.dim() != 2:
        return None
    return example.double().clamp(0, 1).cpu().numpy()


class AggregateDraws(NamedTuple):
    """Draws of the aggregate posterior and of the prior in the same two coordinates.

    Arguments:
        posterior: `(N, 2)`, one draw of q(z | x) for each example.
        prior: `(N, 2)`.
        names: Of both coordinates.
        told: How they were chosen, empty for models with two latents.
    """

    posterior: Tensor
    prior: Tensor
    names: tuple[str, str]
    told: str


@checked
@torch.no_grad()
def draw_aggregate(
    vae: VAE, data: Any, *, count: int = 2000, projection: Literal["active", "pca"] = "active", seed: int = 0
) -> AggregateDraws:
    r"""Draw from the aggregate posterior, :math:`q(z) = E_x[q(z|x)]`, and from the prior, in two coordinates.

    Arguments:
        vae: The model, of at least two latents; it is put in evaluation mode meanwhile.
        data: Examples, such as `data.test`.
        count: Draws at most; there is one for each example.
        projection: Of more latents than two: `"active"`, those two whose posterior means vary most between examples
            (`vae_flows.evaluation.active_units`), or `"pca"`, the principal components of the draws of q(z).
        seed: The same seed gives the same draws.

    Raises:
        InvalidInputError: A model of one latent, fewer than three examples, or examples that do not fit the model.

    Example:
        >>> from vae_flows.reporting.plots.generated import _example
        >>> draws = draw_aggregate(_example(), torch.rand(20, 1, 4, 4))
        >>> draws.posterior.shape, draws.prior.shape, draws.names
        (torch.Size([20, 2]), torch.Size([20, 2]), ('z₁', 'z₂'))
    """
    require_positive("draw_aggregate", count=count)
    examples, (device, dtype) = examples_for(vae, data), placement(vae)
    if len(examples) < 3 or count < 3:
        raise InvalidInputError(complaint("draw_aggregate data", "three examples or more", min(len(examples), count)))
    with evaluating(vae, seed, "draw_aggregate") as generator:
        order = torch.randperm(len(examples))[:count]
        parts = [
            vae.encode(examples.batch(indices, generator=generator, dtype=dtype)).sample()
            for indices in order.to(device).split(100)
        ]
        z = torch.cat(parts)
        prior = vae.prior(z).sample(Size([len(z)]))
    size = z.shape[-1]
    if size == 1:
        raise InvalidInputError(complaint("latents of draw_aggregate", "two or more", size))
    z, prior = z.double().cpu(), prior.double().cpu()
    if size == 2:
        return AggregateDraws(z, prior, ("z₁", "z₂"), "")
    if projection == "active":
        some = examples.take(min(ROUGH_POINTS, len(examples)))
        variances = active_units(vae, some, num_samples=ROUGH_DRAWS, seed=seed).variances
        first, second = variances.topk(2).indices.sort().values.tolist()
        told = f"the two most active of {size} latents"
        return AggregateDraws(
            z[:, [first, second]], prior[:, [first, second]], (name_of_latent(first), name_of_latent(second)), told
        )
    centre = z.mean(0)
    _, deviations, axes = torch.linalg.svd(z - centre, full_matrices=False)
    shares = (deviations.square() / deviations.square().sum())[:2].tolist()
    names = tuple(f"component {place + 1} ({100 * share:.0f} %)" for place, share in enumerate(shares))
    told = f"principal components of {size} latents (share of variance)"
    return AggregateDraws((z - centre) @ axes[:2].T, (prior - centre) @ axes[:2].T, (names[0], names[1]), told)


@checked
def plot_aggregate_posterior(
    vae: VAE,
    data: Any,
    *,
    count: int = 2000,
    projection: Literal["active", "pca"] = "active",
    seed: int = 0,
    title: str = "",
    width: Width = "screen",
) -> Plot:
    """Draw the aggregate posterior beside the prior: where codes lie, and where samples come from.

    Holes of q(z) where the prior has mass are where samples look like nothing in the data.

    Arguments:
        vae: The model, of at least two latents; it is put in evaluation mode meanwhile.
        data: Examples, such as `data.test`.
        count: Draws at most; there is one for each example, and as many of the prior.
        projection: Of more latents than two, which is said in the picture: `"active"` or `"pca"`; see `draw_aggregate`.
        seed: The same seed gives the same picture.
        title: Line above the panels.
        width: `"screen"`, `"column"` or `"page"` of a paper, or inches.

    Raises:
        InvalidInputError: A model of one latent, examples that do not fit, or no width.

    Example:
        >>> from vae_flows.reporting.plots.generated import _example
        >>> figure = plot_aggregate_posterior(_example(), torch.rand(20, 1, 4, 4))
        >>> [axes.get_title(loc="left") for axes in figure.axes]
        ['aggregate posterior q(z)', 'prior p(z)']
    """
    sheet = sheet_of(width)
    draws = draw_aggregate(vae, data, count=count, projection=projection, seed=seed)
    told = ", ".join(filter(None, [title, draws.told]))
    side = (sheet.width - 0.5) / 2
    figure, panels = new_plot(sheet, side + (0.75 if told else 0.5), 1, 2, title=told, sharex=True, sharey=True)
    both = torch.cat([draws.posterior, draws.prior]).numpy()
    low, high = both.min(0), both.max(0)
    middle, half = (low + high) / 2, 1.05 * float((high - low).max()) / 2 or 1.0
    titles = {"aggregate posterior q(z)": (draws.posterior, "#0072B2"), "prior p(z)": (draws.prior, MUTED)}
    for axes, (label, (points, colour)) in zip(panels[0], titles.items(), strict=True):
        axes.scatter(*points.numpy().T, s=2.5 * sheet.line, color=colour, alpha=0.4, linewidths=0)
        axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half), aspect="equal")
        dress(axes, sheet, title=label, x=draws.names[0], grid="both")
    panels[0, 0].set_ylabel(draws.names[1], fontsize=sheet.font, color=INK)
    return figure
