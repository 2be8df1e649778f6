"""Where commands print to."""

from __future__ import annotations

from vae_flows.extras import needing

with needing("cli"):
    from rich.console import Console

__all__ = ["open_console"]

PLAIN_WIDTH = 140
"""Columns of a table that goes to a file or a pipe."""


def open_console() -> Console:
    """Return a console as wide as the terminal, or as a table wants where the output goes elsewhere."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)
