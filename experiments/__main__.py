"""Entry of `python -m experiments`."""

import signal
import sys

from experiments.parent import end_with_parent

if __name__ == "__main__":
    # A worker that is told to end does so at once. Its parent, and any other command, still ends what it has started:
    # the exception passes through every `finally`.
    if not end_with_parent():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as it is below nohup
                signal.signal(number, lambda received, _frame: sys.exit(128 + received))
    from experiments.cli import main  # takes seconds, in which the parent may end

    sys.exit(main())
