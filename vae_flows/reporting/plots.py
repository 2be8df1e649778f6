"""Plots of results. Each function returns a matplotlib `Figure`: no global state, no window, no backend chosen.

`figure.savefig("name.png")` writes one to disk.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.extras import needing
from vae_flows.reporting.summaries import PosteriorSummary, Run

with needing("plots"):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["image_grid", "plot_curves", "plot_results"]

# Okabe and Ito's colours without the yellow, which is too faint for lines: apart for every kind of colour vision.
COLOURS = ("#000000", "#56B4E9", "#009E73", "#E69F00", "#CC79A7", "#0072B2", "#D55E00")
LINE_STYLES = ("-", "--", ":")
INK, FAINT = "#333333", "#DDDDDD"
DPI = 150
IMAGE_INCHES, LETTER_INCHES = 0.48, 0.075
LABEL_GAP = 0.055
"""Least distance of two labels at the lines' ends, as a share of the axes' height."""


@checked
def plot_curves(runs: Iterable[Run], *, title: str = "") -> Figure:
    """Draw validation −ELBO by epoch: one line per posterior, the mean of its seeds within the band of their range.

    A line goes as far as all of its seeds were trained. The axis is cut above where the lines have come close to each
    other, for the first epochs would hide what follows.

    Arguments:
        runs: Runs on one data set; those without a curve are left out.
        title: Line above the plot.

    Raises:
        InvalidInputError: No run has a curve, or runs are in different units.

    Example:
        >>> figure = plot_curves([Run("mnist", "planar", 0, curve=(120.0, 101.0, 99.0))], title="mnist")
        >>> figure.axes[0].get_xlabel()
        'epoch'
    """
    runs = list(runs)
    drawn = [run for run in runs if run.curve]
    if not drawn or len({run.unit for run in drawn}) != 1:
        raise InvalidInputError(complaint("runs", "runs in one unit that have a curve", f"{len(drawn)} with a curve"))
    bands = {
        posterior: _band([run.curve for run in drawn if run.posterior == posterior])
        for posterior in dict.fromkeys(run.posterior for run in drawn)
    }
    figure, axes = _figure(8.0, 4.8, title)
    looks, ends = _looks(runs), []
    for posterior, band in bands.items():
        colour, style = looks[posterior]
        epochs = np.arange(1, band.shape[1] + 1)
        mean = band.mean(axis=0)
        axes.fill_between(epochs, band.min(axis=0), band.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        axes.plot(epochs, mean, color=colour, linestyle=style, linewidth=1.6, marker="o" if len(epochs) == 1 else "")
        ends.append((posterior, colour, float(epochs[-1]), float(mean[-1])))
    axes.set_ylim(_limits(list(bands.values())))
    axes.set_xlim(1, max(2, *(band.shape[1] for band in bands.values())))
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"validation −ELBO ({drawn[0].unit})")
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    _label_ends(axes, ends)
    return figure


@checked
def plot_results(runs: Iterable[Run], summaries: Sequence[PosteriorSummary], *, title: str = "") -> Figure:
    """Draw test −ELBO: a dot for the mean of each posterior, a bar for the standard deviation, small dots for seeds.

    Arguments:
        runs: The single runs on one data set.
        summaries: The same, summarised; their order is the order from top to bottom.
        title: Line above the plot.

    Raises:
        InvalidInputError: No posterior has a test −ELBO.

    Example:
        >>> from vae_flows.reporting.summaries import summarize
        >>> runs = [Run("mnist", "planar", seed, negative_elbo=86.0 + seed) for seed in range(3)]
        >>> [tick.get_text() for tick in plot_results(runs, summarize(runs)["mnist"]).axes[0].get_yticklabels()]
        ['planar']
    """
    shown = [(summary, summary.negative_elbo) for summary in summaries if summary.negative_elbo]
    if not shown:
        raise InvalidInputError(complaint("summaries", "a posterior with a test −ELBO", "none"))
    runs = list(runs)
    figure, axes = _figure(8.0, 1.2 + 0.42 * len(shown), title)
    looks = _looks(runs)
    for index, (summary, estimate) in enumerate(shown):
        if summary.posterior not in looks:
            expected = f"runs of {summary.posterior!r}, which is summarised"
            raise InvalidInputError(complaint("runs of plot_results", expected, "none"))
        colour, _ = looks[summary.posterior]
        bounds = [run.negative_elbo for run in runs if run.posterior == summary.posterior]
        single = [bound for bound in bounds if bound is not None]
        axes.scatter(single, [index] * len(single), s=16, facecolors="white", edgecolors=colour, zorder=3)
        axes.errorbar(estimate.mean, index, xerr=estimate.std, color=colour, marker="o", markersize=7, capsize=3)
        label = axes.annotate(
            estimate.text(), (1.0, index), xycoords=("axes fraction", "data"), xytext=(8, 0), textcoords="offset points"
        )
        label.set(color=INK, fontsize=9, verticalalignment="center")
    axes.set_yticks(range(len(shown)), [summary.posterior for summary, _ in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.set_xlabel(f"test −ELBO ({shown[0][0].unit}), lower is better")
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    return figure


@checked
def image_grid(rows: Mapping[str, ArrayLike], *, title: str = "") -> Figure:
    """Draw rows of images, each row with its label at the left.

    Arguments:
        rows: Images (N, C, H, W) with grey values or colours in [0, 1] by label, all of one shape; C is 1 or 3.
        title: Line above the images.

    Raises:
        InvalidInputError: There are no rows, or the arrays are not images of one shape.

    Example:
        >>> figure = image_grid({"original": np.zeros((3, 1, 4, 4)), "planar": np.ones((3, 1, 4, 4))})
        >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
        ['original', 'planar']
    """
    images = [np.asarray(row, dtype=np.float64) for row in rows.values()]
    shapes = {row.shape for row in images}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 4 or shape[1] not in (1, 3) or 0 in shape:
        found = [row.shape for row in images] or "none"
        raise InvalidInputError(complaint("image_grid", "rows of one shape (N, C, H, W) with C 1 or 3", found))
    count, _, height, width = shape
    gap = 2
    mosaic = np.ones((len(images) * (height + gap) - gap, count * (width + gap) - gap, 3))
    for r, row in enumerate(images):
        for c, image in enumerate(row.clip(0.0, 1.0)):
            top, left = r * (height + gap), c * (width + gap)
            mosaic[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    # In inches: the picture gets what it needs, the labels what their length asks for.
    size = np.array([mosaic.shape[1], mosaic.shape[0]]) / height * IMAGE_INCHES
    corner = np.array([0.2 + LETTER_INCHES * max(map(len, rows)), 0.1])
    whole = corner + size + [0.1, 0.35 if title else 0.1]
    figure = Figure(figsize=tuple(whole), dpi=DPI)
    axes = figure.add_axes((*(corner / whole), *(size / whole)))
    _dress(axes, title)
    axes.imshow(mosaic, interpolation="nearest")
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([r * (height + gap) + (height - 1) / 2 for r in range(len(images))], list(rows))
    axes.tick_params(length=0)
    return figure


def _figure(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    _dress(axes, title)
    return figure, axes


def _dress(axes: Axes, title: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK)
    if title:
        axes.set_title(title, loc="left", fontsize=11, color=INK)


def _looks(runs: Iterable[Run]) -> dict[str, tuple[str, str]]:
    """Return colour and line style of each posterior, the same for the same runs; styles tell more than colours do."""
    styles = itertools.cycle(itertools.product(LINE_STYLES, COLOURS))
    names = dict.fromkeys(run.posterior for run in runs)
    return {name: (colour, style) for name, (style, colour) in zip(names, styles, strict=False)}


def _band(curves: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    length = min(map(len, curves))
    return np.asarray([curve[:length] for curve in curves], dtype=np.float64)


def _limits(bands: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Return limits that show the last two thirds of every line whole."""
    late = [band[:, band.shape[1] // 3 :] for band in bands]
    low, high = min(map(np.nanmin, late)), max(map(np.nanmax, late))
    margin = 0.05 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def _label_ends(axes: Axes, ends: Sequence[tuple[str, str, float, float]]) -> None:
    """Write each line's name beside its end, kept apart, and lead from end to name."""
    low, high = axes.get_ylim()
    ordered = sorted(ends, key=lambda end: end[3])
    heights = _spread([(value - low) / (high - low) for *_, value in ordered], LABEL_GAP)
    heights = [height + max(0.0, -heights[0]) for height in heights]
    for (name, colour, epoch, value), height in zip(ordered, heights, strict=True):
        axes.annotate(
            name,
            (epoch, value),
            xytext=(1.06, height),
            textcoords="axes fraction",
            color=INK,
            fontsize=9,
            verticalalignment="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 1.6, "relpos": (0, 0.5), "shrinkB": 2},
        )


def _spread(places: Sequence[float], gap: float) -> list[float]:
    """Move ascending places apart to at least `gap`, each run of crowded ones around the mean of where they were.

    Example:
        >>> [round(place, 2) for place in _spread([0.1, 0.5, 0.5, 0.9], 0.1)]
        [0.1, 0.45, 0.55, 0.9]
    """
    clusters: list[list[float]] = []
    for place in places:
        clusters.append([place])
        while len(clusters) > 1 and _top(clusters[-2], gap) + gap > _bottom(clusters[-1], gap):
            last = clusters.pop()
            clusters[-1] += last
    return [_bottom(cluster, gap) + gap * step for cluster in clusters for step in range(len(cluster))]


def _bottom(cluster: Sequence[float], gap: float) -> float:
    return sum(cluster) / len(cluster) - gap * (len(cluster) - 1) / 2


def _top(cluster: Sequence[float], gap: float) -> float:
    return sum(cluster) / len(cluster) + gap * (len(cluster) - 1) / 2


def to_png(figure: Figure) -> bytes:
    """Return the PNG without the drawing library's version in it, so that the same figure gives the same bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
