"""Figures as files."""

from __future__ import annotations

import io
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vae_flows.checks import checked
from vae_flows.errors import unknown_name
from vae_flows.extras import needing
from vae_flows.persistence.files import checked_path
from vae_flows.persistence.json_files import write_atomically

with needing("plots"):
    import matplotlib
    from matplotlib.figure import Figure

__all__ = ["save_figure"]

METADATA = MappingProxyType({"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}})
"""Formats, and what is left out so that the same figure gives the same bytes."""


@checked
def save_figure(figure: Figure, path: Path | str) -> Path:
    """Write a figure as SVG, PDF or PNG, as its name ends, of the width that it was drawn for.

    PDF keeps text as text, in TrueType fonts, as publishers want.

    Arguments:
        figure: Any figure; those of this library are drawn for a paper with `width="column"` or `width="page"`.
        path: Where to; a file of that name is replaced once the new one is whole.

    Returns:
        The path.

    Raises:
        UnknownNameError: The name ends otherwise.
        FileError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> from vae_flows.reporting import RunResult, plot_curves
        >>> figure = plot_curves([RunResult("mnist", "planar", 0, curve=(120.0, 101.0, 99.0))], width="column")
        >>> save_figure(figure, Path(tempfile.mkdtemp()) / "curves.pdf").name
        'curves.pdf'
    """
    path = checked_path(path, "file of a figure")
    ending = path.suffix.removeprefix(".").lower()
    if ending not in METADATA:
        raise unknown_name("format of a figure", ending, METADATA)
    stream = io.BytesIO()
    metadata: Any = METADATA[ending]
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "vae-flows"}):
        figure.savefig(stream, format=ending, metadata=metadata)
    write_atomically(path, stream.getvalue())
    return path
