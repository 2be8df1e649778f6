"""What an engine of a grid is: something that starts runs, each of which finds all it needs in its folder."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vae_flows.checks import checked
from vae_flows.errors import require_number, require_positive
from vae_flows.runs.folder import LOG

__all__ = [
    "IN_USE",
    "RUN",
    "Engine",
    "RunExit",
    "RunHandle",
    "check_counts",
    "describe_exit",
    "last_lines",
    "package_root",
]

IN_USE = 75
"""Exit status of a run whose folder another process works in (EX_TEMPFAIL: try again later)."""
RUN = ("-m", "vae_flows", "run")
"""Arguments of Python that, with a folder after them, work on the run there."""
LOG_LINES = 5


@dataclass(frozen=True)
class RunExit:
    """How a run ended.

    Arguments:
        error: What went wrong in a few lines, or `None`.
        in_use: Whether it did not begin, because another process works on it.
    """

    error: str | None = None
    in_use: bool = False


class RunHandle(Protocol):
    """A run under way."""

    @property
    def begun(self) -> bool:
        """Whether it was taken up; until then it waits for a place."""
        ...

    def poll(self) -> RunExit | None:
        """Return how it ended, or `None` while it runs; never waits."""
        ...

    def stop(self) -> None:
        """End it and wait until it is gone. Its checkpoint stays, from which a later start goes on."""
        ...


class Engine(Protocol):
    """Starts runs, each of which finds all it needs in its folder and leaves all it makes there."""

    @property
    def workers(self) -> int:
        """How many runs may be under way at once, those that wait for a place included."""
        ...

    def start(self, folder: Path) -> RunHandle:
        """Start the run whose settings are in `folder`.

        Raises:
            FolderInUseError: Another driver follows it, and starts it again where that is needed.
            FileError: It cannot be started.
        """
        ...


@checked
def check_counts(engine: str, workers: int | None, threads: int | None, gpus_each: int, retries: int = 0) -> None:
    """Check the numbers that an engine was given.

    Raises:
        InvalidInputError: Workers or threads are given and less than one, or GPUs or retries less than zero.
    """
    given = {"workers": workers, "threads": threads}
    require_positive(engine, **{name: number for name, number in given.items() if number is not None})
    for name, number in (("gpus_each", gpus_each), ("retries", retries)):
        require_number(engine, name, number, least=0.0)


@checked
def describe_exit(folder: Path, code: int) -> RunExit:
    """Word the exit status of a run's process, with the last lines that it printed where it failed.

    Arguments:
        folder: The run's folder.
        code: The exit status, or the negative number of the signal that ended the process.
    """
    if code in (0, IN_USE):
        return RunExit(in_use=code == IN_USE)
    cause = f"ended by signal {_signal_name(-code)}" if code < 0 else f"ended with status {code}"
    return RunExit("\n".join([cause, *last_lines(folder / LOG)]))


@checked
def last_lines(path: Path, count: int = LOG_LINES, reach: int = 8192) -> list[str]:
    """Return the last lines of a log that are not empty, from its last `reach` bytes, or why there are none.

    Raises:
        InvalidInputError: A number is less than one.
    """
    require_positive("last_lines", count=count, reach=reach)
    try:
        with path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - reach))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError as error:
        return [f"its log cannot be read: {error}"]
    return [line.rstrip() for line in lines if line.strip()][-count:]


def package_root() -> Path:
    """Return the folder that holds the package, for processes that run where it is not installed."""
    return Path(__file__).resolve().parents[2]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of the real-time signals
        return str(number)
