"""The process of a run, on the machine that runs it.

With the standard library alone: clusters send this module to their nodes by value, so that who starts a run there need
not import PyTorch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence

from vae_flows.benchmark.parent import PIPE

__all__ = ["ParentPipe", "RunProcess", "run_environment"]

INHERITS_DESCRIPTORS = sys.platform != "win32"
"""Whether workers are given the pipe by which they end with their parent."""
STANDARD_STREAMS = 3
"""Descriptors below this number are the standard streams of the processes that are started."""
GRACE_SECONDS = 2.0


def run_environment(root: str, threads: int) -> dict[str, str]:
    """Return the environment of a run's process, which is this one's and its threads.

    Arguments:
        root: Folder that holds the package, where it is not installed.
        threads: Threads of the run.
    """
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    return environment | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))


class ParentPipe:
    """Workers hold the reading end, and end when the writing one is closed, which this process alone has."""

    def __init__(self) -> None:
        self.reading, writing = map(_beside_standard_streams, os.pipe())
        weakref.finalize(self, _close, self.reading, writing)


class RunProcess:
    """A process that works on a run and ends with this one.

    Arguments:
        command: What to start.
        log: The file that takes what it prints, after what it holds.
        environment: Its environment.
        pipe: The pipe by which it ends with this process; it lasts as long as the process is wanted.
        working_folder: Where it works; `None` for where this process does.

    Raises:
        OSError: The log cannot be written to, or the process not be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: str,
        environment: Mapping[str, str],
        pipe: ParentPipe,
        working_folder: str | None = None,
    ) -> None:
        self._pipe = pipe
        with open(log, "ab") as output:
            # A session of its own keeps the terminal's Ctrl-C away: the grid decides how its runs end.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment, PIPE: str(pipe.reading)} if INHERITS_DESCRIPTORS else environment,
                cwd=working_folder,
                start_new_session=True,
                pass_fds=(pipe.reading,) if INHERITS_DESCRIPTORS else (),
            )

    @property
    def number(self) -> int:
        """The system's number of the process."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return its exit status, the negative number of the signal that ended it, or `None` while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """End it with all that it has started, and wait until it is gone."""
        self._end(at_once=False)
        deadline = time.monotonic() + GRACE_SECONDS
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        self._end(at_once=True)
        self._process.wait()

    def _end(self, *, at_once: bool) -> None:
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL if at_once else signal.SIGTERM)
            elif at_once:
                self._process.kill()
            else:
                self._process.terminate()


def _beside_standard_streams(descriptor: int) -> int:
    """Move a descriptor away from the numbers of standard streams, which it gets where those are closed here."""
    taken = []
    while descriptor < STANDARD_STREAMS:
        taken.append(descriptor)
        descriptor = os.dup(descriptor)
    _close(*taken)
    return descriptor


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
