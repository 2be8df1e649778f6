"""What an engine of a grid is: something that starts runs, each of which finds all it needs in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["Engine", "RunExit", "RunHandle"]


@dataclass(frozen=True)
class RunExit:
    """How a cell ended.

    Arguments:
        error: What went wrong in a few lines, or `None`.
        in_use: Whether it did not begin, because another process works on it.
    """

    error: str | None = None
    in_use: bool = False


class RunHandle(Protocol):
    """A cell under way."""

    def poll(self) -> RunExit | None:
        """Return how it ended, or `None` while it runs; never waits."""
        ...

    def stop(self) -> None:
        """End it and wait until it is gone. Its checkpoint stays, from which a later start goes on."""
        ...


class Engine(Protocol):
    """Starts cells, each of which finds all it needs in its folder and leaves all it makes there."""

    @property
    def workers(self) -> int:
        """How many cells may be under way at once."""
        ...

    def start(self, folder: Path) -> RunHandle:
        """Start the cell whose settings are in `folder`."""
        ...
