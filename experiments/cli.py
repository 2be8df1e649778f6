"""The command line: one function a command, its arguments made into options by tyro."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

import tyro

from experiments.commands import benchmark, cell, density, evaluate, regularizers, report, speed, train
from vae_flows.errors import VAEFlowsError

__all__ = ["COMMANDS", "main"]

COMMANDS: Mapping[str, Callable[..., int]] = {
    "train": train,
    "evaluate": evaluate,
    "benchmark": benchmark,
    "report": report,
    "density": density,
    "regularizers": regularizers,
    "speed": speed,
    "cell": cell,
}
INTERRUPTED = 130
AFTER_AN_INTERRUPT: Mapping[str, str] = {
    "train": "the same command with --resume goes on from the last checkpoint",
    "benchmark": "the same command goes on from the last checkpoints",
    "density": "the same command keeps finished densities and begins the last one anew",
    "regularizers": "the same command keeps finished runs and begins the last one anew",
    "cell": "the same command goes on from the last checkpoint",
}
"""What the same command would do; the others begin anew."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0, 1 for an error, told in one line, 130 after an interrupt.

    Arguments:
        arguments: Instead of those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return tyro.extras.subcommand_cli_from_dict(
            dict(COMMANDS),
            prog="python -m experiments",
            description="Train and compare variational autoencoders with flow posteriors.",
            args=arguments,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    except VAEFlowsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        told = AFTER_AN_INTERRUPT.get(next(iter(arguments), ""), "the same command begins anew")
        print(f"interrupted; {told}", file=sys.stderr)
        return INTERRUPTED
