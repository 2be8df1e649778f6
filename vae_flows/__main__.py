"""Entry of `python -m vae_flows` and of the console script."""

from __future__ import annotations

import signal
import sys
from importlib import import_module

from vae_flows.benchmark.parent import end_with_parent
from vae_flows.errors import MissingPackageError

__all__ = ["main"]


def main(commands: str = "vae_flows.cli.main") -> int:
    """Run the command line, ending with the process that started this one if it is a worker.

    Arguments:
        commands: The module whose `main` is the command line.
    """
    # A worker that is told to end does so at once. Its parent, and any other command, still ends what it has started:
    # the exception passes through every `finally`.
    if not end_with_parent():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as it is below nohup
                signal.signal(number, lambda received, _frame: sys.exit(128 + received))
    try:
        module = import_module(commands)
    except MissingPackageError as error:
        print(error, file=sys.stderr)  # noqa: T201 - without its console there is nothing else to tell it with
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201
        return 128 + signal.SIGINT
    return module.main()


if __name__ == "__main__":
    sys.exit(main())
