"""A worker ends when the process that started it does, whatever ended that one.

The parent keeps one end of a pipe and never writes to it; the system closes it with the parent, killed or not, and its
workers, which hold the other end, read its end.
"""

from __future__ import annotations

import os
import signal
import threading

__all__ = ["PIPE", "end_with_parent"]

PIPE = "VAE_FLOWS_PARENT_PIPE"
"""The variable of the environment that holds the descriptor."""


def end_with_parent() -> bool:
    """Watch over the parent from now on, if this process is such a worker, and tell whether it is.

    When the parent is gone, this process is killed with all that it started: checkpoints are whole at any time.
    """
    text = os.environ.pop(PIPE, "")
    if not text.isdecimal():
        return False
    descriptor = int(text)
    os.set_inheritable(descriptor, False)

    def watch() -> None:
        os.read(descriptor, 1)
        # The worker leads a group of its own; started by hand, it has company there that is not to be ended.
        (os.killpg if os.getpgrp() == os.getpid() else os.kill)(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent", daemon=True).start()
    return True
