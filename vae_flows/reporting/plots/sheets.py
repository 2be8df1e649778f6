"""The paper on which figures are drawn: its width, its fonts, and the figure itself, which pyplot does not know.

The width is decided where a figure is drawn, since labels, legends and panels are laid out for it.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from vae_flows.checks import described
from vae_flows.errors import InvalidInputError, complaint, unknown_name
from vae_flows.extras import needing
from vae_flows.reporting.plots.looks import FAINT, INK

with needing("plots"):
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "DPI",
    "WIDTHS",
    "Plot",
    "Sheet",
    "Width",
    "add_legend",
    "dress",
    "name_rows",
    "new_plot",
    "sheet_of",
    "to_png",
    "wrapped",
    "write_beside",
]

DPI = 150
Width = Literal["screen", "column", "page"] | float
WIDTHS: Mapping[str, float] = MappingProxyType({"screen": 7.5, "column": 3.25, "page": 6.75})
"""Inches: a screen, and one column and both columns of a paper (of ICML's style; others differ by a quarter inch)."""
LEAST, MOST = 1.5, 40.0
LEGEND_INCHES, LETTER = 2.3, 0.56
"""Width that a legend at the right may take, and that of a letter by its height."""


class Sheet(NamedTuple):
    """What a width asks for.

    Arguments:
        width: Inches.
        font: Size of text in points.
        line: Width of lines in points.
    """

    width: float
    font: float
    line: float

    @property
    def is_narrow(self) -> bool:
        """Whether panels stand below each other and legends below the panels."""
        return self.width < 5.0


def sheet_of(width: Width) -> Sheet:
    """Return the sheet of a width: text of 7 points in a column, of 8 over both, of 9 on a screen.

    Arguments:
        width: `"screen"`, `"column"`, `"page"`, or inches.

    Raises:
        InvalidInputError: It is no width, or one on which nothing can be drawn.
        UnknownNameError: There is no width of that name.

    Example:
        >>> sheet_of("column")
        Sheet(width=3.25, font=7.0, line=1.1)
    """
    if isinstance(width, str):
        if width not in WIDTHS:
            raise unknown_name("width of a figure", width, WIDTHS)
        inches = WIDTHS[width]
    elif isinstance(width, bool) or not isinstance(width, int | float) or not LEAST <= width <= MOST:
        expected = f"{', '.join(map(repr, WIDTHS))}, or inches from {LEAST} to {MOST}"
        raise InvalidInputError(complaint("width of a figure", expected, described(width)))
    else:
        inches = float(width)
    if inches < 5.0:
        return Sheet(inches, 7.0, 1.1)
    return Sheet(inches, 8.0, 1.3) if inches < 7.0 else Sheet(inches, 9.0, 1.6)


class Plot(Figure):
    """A matplotlib figure without pyplot: no window, no global state, and notebooks show it as a picture."""

    def _repr_png_(self) -> bytes:
        """Return what a notebook shows."""
        return to_png(self)


def new_plot(
    sheet: Sheet, height: float, rows: int = 1, columns: int = 1, *, title: str = "", **options: Any
) -> tuple[Plot, Any]:
    """Return a figure and its axes `(rows, columns)`.

    Arguments:
        sheet: Its width and fonts.
        height: Inches.
        rows: Rows of axes.
        columns: Columns of axes.
        title: Line above all.
        options: Further arguments of `Figure.subplots`.
    """
    figure = Plot(figsize=(sheet.width, height), dpi=DPI, layout="constrained")
    if title:
        free = sheet.width - (0 if sheet.is_narrow else LEGEND_INCHES)
        text = wrapped(title, free, sheet.font + 1)
        figure.suptitle(text, x=0.01, horizontalalignment="left", fontsize=sheet.font + 1, color=INK)
    panels = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in panels.flat:
        dress(axes, sheet)
    return figure, panels


def wrapped(text: str, inches: float, points: float) -> str:
    """Break a text into lines that fit a width, by the mean width of letters.

    Example:
        >>> wrapped("principal components of eight latents", 3.25, 8.0)
        'principal components of eight latents'
        >>> wrapped("principal components of eight latents", 1.5, 8.0)
        'principal components of\\neight latents'
    """
    return textwrap.fill(text, max(8, int(72 * inches / (LETTER * points))))


def dress(
    axes: Axes, sheet: Sheet, *, title: str = "", x: str = "", y: str = "", grid: Literal["x", "y", "both", ""] = ""
) -> None:
    """Give axes the ink and the fonts of all figures, and its title and the names of its axes where they are given."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(which="both", colors=INK, labelsize=sheet.font - 0.5)
    axes.set_axisbelow(True)
    for text in (axes.xaxis.get_offset_text(), axes.yaxis.get_offset_text()):
        text.set(fontsize=sheet.font - 0.5, color=INK)
    if title:
        axes.set_title(title, loc="left", fontsize=sheet.font, color=INK)
    if x:
        axes.set_xlabel(x, fontsize=sheet.font, color=INK)
    if y:
        axes.set_ylabel(y, fontsize=sheet.font, color=INK)
    if grid:
        axes.grid(axis=grid, color=FAINT, linewidth=0.6)


def add_legend(figure: Figure, sheet: Sheet, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Put a legend outside of all panels, where it cannot be taken for data: to the right, or below where it is narrow.

    Arguments:
        figure: Figure.
        sheet: Its sheet.
        handles: What lines and markers look like.
        labels: A name for each.
    """
    if not sheet.is_narrow:
        place, columns = "outside right upper", 1
    else:
        letters = max(map(len, labels), default=1)
        inches = (letters * 0.55 + 4.5) * sheet.font / 72
        place, columns = "outside lower left", int(np.clip(sheet.width / inches, 1, max(1, len(labels))))
    legend = figure.legend(
        handles, labels, loc=place, ncols=columns, frameon=False, fontsize=sheet.font - 0.5, handlelength=2.6,
        labelcolor=INK, columnspacing=1.2,
    )  # fmt: skip
    legend.set_in_layout(True)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name rows from top to bottom."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def write_beside(axes: Axes, index: int, text: str, font: float) -> None:
    """Write a number to the right of the axes, where it is part of no bar."""
    label = axes.annotate(
        text, (1.0, index), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points"
    )
    label.set(color=INK, fontsize=font - 1, verticalalignment="center")


def to_png(figure: Figure) -> bytes:
    """Return the PNG without the drawing library's version in it, so that the same figure gives the same bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
