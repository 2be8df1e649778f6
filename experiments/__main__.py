"""Entry of `python -m experiments`."""

import signal
import sys

from experiments.cli import main

if __name__ == "__main__":
    # Ended from outside, a benchmark still ends its runs: the exception passes through every `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
