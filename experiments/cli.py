"""The command line of a clone: the library's commands, and those about this project's own figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vae_flows.cli import main as library
from vae_flows.cli.main import Command

__all__ = ["COMMANDS", "main"]

COMMANDS: Mapping[str, Command] = {
    **library.COMMANDS,
    "ablations": Command("experiments.commands:ablations", None, "the same command goes on where this one stopped"),
    "density": Command(
        "experiments.commands:density",
        "experiments.commands:density_flags",
        "the same command keeps finished runs; of a toy density it begins the last anew, of a table it goes on",
    ),
    "density-glow": Command(
        "experiments.commands:density_glow",
        None,
        "the same command keeps finished runs and begins the last one anew",
    ),
    "density-images": Command(
        "experiments.commands:density_images", None, "the same command goes on where this one stopped"
    ),
    "regularizers": Command(
        "experiments.commands:regularizers", None, "the same command keeps finished runs and begins the last one anew"
    ),
    "speed": Command("experiments.commands:speed"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status, as `vae_flows.cli.main.main` does."""
    return library.main(arguments, COMMANDS, "python -m experiments")
