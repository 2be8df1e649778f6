"""The command line: one function a command, its arguments made into options by tyro."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, suppress
from functools import partial, wraps
from pathlib import Path
from typing import Any

import tyro

from experiments.commands import benchmark, cell, density, evaluate, regularizers, report, speed, train
from vae_flows.errors import FileError, VAEFlowsError
from vae_flows.persistence.files import file_errors

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
INTERRUPTED, OUTPUT_CLOSED = 130, 128 + 13  # as shells have it after SIGINT and SIGPIPE
PLAIN = "vae-flows-plain"
PLAIN_SIGNS = {"−": "-", "±": "+-", "×": "x", "·": "*", "…": "...", "≥": ">=", "ε": "eps", "β": "beta", "’": "'"}
AFTER_AN_INTERRUPT: Mapping[str, str] = {
    "train": "the same command with --resume goes on from the last checkpoint",
    "benchmark": "the same command goes on from the last checkpoints",
    "density": "the same command keeps finished densities and begins the last one anew",
    "regularizers": "the same command keeps finished runs and begins the last one anew",
    "cell": "the same command goes on from the last checkpoint",
}
"""What the same command would do; the others begin anew."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    It is 0, 1 for an error, told in one line, 130 after an interrupt, and 141 where nobody reads the output any more.

    Arguments:
        arguments: Instead of those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    _print_anywhere()
    try:
        status = _parse(arguments)()
        print(end="", flush=True)  # while an error of the output can still be told
        return status
    except SystemExit:  # after --help, or wrong arguments
        with suppress(BrokenPipeError):
            print(end="", flush=True)
            raise
        _drop_output()
        return OUTPUT_CLOSED
    except BrokenPipeError:
        _drop_output()
        return OUTPUT_CLOSED
    except OSError as error:
        _tell(str(error if isinstance(error, VAEFlowsError) else _in_one_line(error)))
        return 1
    except VAEFlowsError as error:
        _tell(str(error))
        return 1
    except KeyboardInterrupt:
        told = AFTER_AN_INTERRUPT.get(next(iter(arguments), ""), "the same command begins anew")
        print(f"interrupted; {told}", file=sys.stderr)
        return INTERRUPTED


def _parse(arguments: Sequence[str]) -> Callable[[], int]:
    """Return the command that the arguments ask for, ready to be called.

    Raises:
        VAEFlowsError: A record of settings refuses a value. Tyro would tell that in a box, with a status of its own.
        SystemExit: Help was asked for, or the arguments are none of a command; told by tyro.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.extras.subcommand_cli_from_dict(
                {name: _postponed(command) for name, command in COMMANDS.items()},
                prog="python -m experiments",
                description="Train and compare variational autoencoders with flow posteriors.",
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except SystemExit as ended:
        cause: BaseException | None = ended
        while cause is not None:
            if isinstance(cause, VAEFlowsError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        print(said.getvalue(), end="", file=sys.stderr)
        raise


def _postponed(command: Callable[..., int]) -> Callable[..., Callable[[], int]]:
    @wraps(command)
    def prepare(*arguments: Any, **options: Any) -> Callable[[], int]:
        return partial(command, *arguments, **options)

    return prepare


def _tell(message: str) -> None:
    with suppress(OSError):
        print(f"error: {message}", file=sys.stderr)


def _in_one_line(error: OSError) -> FileError:
    """Word an error of the system that no other module took for its own."""
    try:
        with file_errors(Path(os.fsdecode(error.filename or "standard output")), "a place to read or write"):
            raise error
    except FileError as told:
        if error.filename is None and error.errno == errno.ENOSPC:
            _drop_output()
        return told


def _print_anywhere() -> None:
    """Let output go to a terminal or file of any encoding, signs that it does not have in the nearest plain ones."""
    codecs.register_error(PLAIN, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PLAIN)


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN_SIGNS.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


def _drop_output() -> None:
    """Send what is still to come of the output nowhere, so that the interpreter's last flush finds no fault."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
