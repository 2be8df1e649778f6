"""Entry of `python -m experiments`."""

import sys

from vae_flows.__main__ import main

if __name__ == "__main__":
    sys.exit(main("experiments.cli"))
