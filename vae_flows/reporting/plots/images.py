"""Rows of pictures: those that are given, and those that a model makes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.extras import needing
from vae_flows.reporting.plots.looks import INK
from vae_flows.reporting.plots.sheets import DPI, Plot, Width, dress, sheet_of, wrapped

with needing("plots"):
    from matplotlib.textpath import TextPath

__all__ = ["image_grid"]

GAP = 0.07
"""Between pictures, by their height."""
TALLEST = 0.85
"""Inches of a picture's height, where there are few of them."""


@checked
def image_grid(rows: Mapping[str, ArrayLike], *, title: str = "", width: Width = "screen") -> Plot:
    """Draw rows of images, each row with its label at the left.

    Arguments:
        rows: Images (N, C, H, W) with grey values or colours in [0, 1] by label, all of one shape; C is 1 or 3.
        title: Line above the images.
        width: `"screen"`, `"column"` or `"page"` of a paper, or inches. Few pictures do not fill it.

    Raises:
        InvalidInputError: There are no rows, the arrays are not images of one shape, or the width is none.

    Example:
        >>> figure = image_grid({"original": np.zeros((3, 1, 4, 4)), "planar": np.ones((3, 1, 4, 4))})
        >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
        ['original', 'planar']
    """
    images = [_as_images(row) for row in rows.values()]
    shapes = {row.shape for row in images}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 4 or shape[1] not in (1, 3) or 0 in shape:
        found = [row.shape for row in images] or "none"
        raise InvalidInputError(complaint("image_grid", "rows of one shape (N, C, H, W) with C 1 or 3", found))
    sheet = sheet_of(width)
    mosaic, tops = _mosaic(images)
    # In inches: labels get what they need, the pictures the rest of the width, or less where they are few.
    left = 0.12 + max(_text_inches(label, sheet.font) for label in rows)
    heading = wrapped(title, sheet.width - 0.12, sheet.font + 1)
    above = (0.12 + 1.4 * len(heading.splitlines()) * (sheet.font + 1) / 72) if title else 0.06
    high, wide = mosaic.shape[:2]
    scale = min((sheet.width - left - 0.06) / wide, TALLEST / shape[2])
    if scale <= 0:
        raise InvalidInputError(complaint("image_grid width", "inches for labels and images", sheet.width))
    whole = np.array([sheet.width, high * scale + above + 0.06])
    figure = Plot(figsize=tuple(whole), dpi=DPI)
    axes = figure.add_axes((*(np.array([left, 0.06]) / whole), *(np.array([wide, high]) * scale / whole)))
    dress(axes, sheet)
    if title:
        figure.text(0.06 / whole[0], 1 - 0.06 / whole[1], heading, va="top", fontsize=sheet.font + 1, color=INK)
    axes.imshow(mosaic, interpolation="nearest")
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([top + (shape[2] - 1) / 2 for top in tops], list(rows))
    axes.tick_params(length=0, labelsize=sheet.font)
    return figure


def _as_images(row: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.asarray(row, dtype=np.float64)
    except (TypeError, ValueError) as error:
        got = f"others ({type(error).__name__}: {error})"
        raise InvalidInputError(complaint("image_grid rows", "arrays of numbers", got)) from None


def _mosaic(images: list[NDArray[np.float64]]) -> tuple[NDArray[np.float64], list[int]]:
    """Return one picture (H, W, 3) of all, white between them, and where each row begins."""
    count, _, height, width = images[0].shape
    gap = max(1, round(GAP * height))
    mosaic = np.ones((len(images) * (height + gap) - gap, count * (width + gap) - gap, 3))
    tops = [r * (height + gap) for r in range(len(images))]
    for top, row in zip(tops, images, strict=True):
        for c, image in enumerate(np.nan_to_num(row, nan=0.0).clip(0.0, 1.0)):
            left = c * (width + gap)
            mosaic[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return mosaic, tops


def _text_inches(text: str, points: float) -> float:
    return float(TextPath((0, 0), text, size=points).get_extents().width) / 72 if text.strip() else 0.0
