"""The command line: one function a command, its arguments made into options by tyro."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from inspect import cleandoc
from pathlib import Path
from typing import Any, NamedTuple

from vae_flows.cli.commands import (
    benchmark,
    benchmark_flags,
    compare,
    data,
    evaluate,
    flows,
    report,
    run,
    train,
    train_flags,
)
from vae_flows.cli.flags import HELP, Group, flags_of_call, parse
from vae_flows.errors import FileError, VAEFlowsError, unknown_name
from vae_flows.extras import needing
from vae_flows.persistence.files import file_errors

with needing("cli"):
    import tyro

__all__ = ["COMMANDS", "Command", "main"]


class Command(NamedTuple):
    """One command.

    Arguments:
        function: What it does; its arguments become flags.
        further: Further flags, of what was given by those, and of all that was typed.
        after_an_interrupt: What the same command would do then.
    """

    function: Callable[..., int]
    further: Callable[[Mapping[str, Any], Sequence[str]], Group] | None = None
    after_an_interrupt: str = "the same command begins anew"


COMMANDS: Mapping[str, Command] = {
    "train": Command(train, train_flags, "the same command with --resume goes on from the last checkpoint"),
    "evaluate": Command(evaluate, None, "the same command goes on from what is finished"),
    "benchmark": Command(benchmark, benchmark_flags, "the same command goes on from the last checkpoints"),
    "report": Command(report),
    "compare": Command(compare),
    "flows": Command(flows),
    "data": Command(data),
    "run": Command(run, None, "the same command goes on from the last checkpoint"),
}
PROGRAM, DESCRIPTION = "vae-flows", "Train and compare variational autoencoders with flow posteriors."
INTERRUPTED, OUTPUT_CLOSED = 130, 128 + 13  # as shells have it after SIGINT and SIGPIPE
PLAIN = "vae-flows-plain"
PLAIN_SIGNS = {"−": "-", "±": "+-", "×": "x", "·": "*", "…": "...", "≥": ">=", "ε": "eps", "β": "beta", "’": "'"}


def main(
    arguments: Sequence[str] | None = None, commands: Mapping[str, Command] = COMMANDS, program: str = PROGRAM
) -> int:
    """Run one command and return the exit status.

    It is 0, 1 for an error, told in one line, 130 after an interrupt, and 141 where nobody reads the output any more.

    Arguments:
        arguments: Instead of those of the process.
        commands: What can be asked for, by name.
        program: Its name in the help.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    _print_anywhere()
    try:
        status = _parse(arguments, commands, program)()
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
        command = commands.get(next(iter(arguments), ""), Command(main))
        print(f"interrupted; {command.after_an_interrupt}", file=sys.stderr)
        return INTERRUPTED


def _parse(arguments: Sequence[str], commands: Mapping[str, Command], program: str) -> Callable[[], int]:
    """Return the command that the arguments ask for, ready to be called.

    Raises:
        VAEFlowsError: The arguments are none of a command.
        SystemExit: Help was asked for, and printed.
    """
    name, *rest = arguments or ["--help"]
    if name in HELP:
        described = {name: _described(command.function) for name, command in commands.items()}
        tyro.extras.subcommand_cli_from_dict(described, prog=program, description=DESCRIPTION, args=["--help"])
    if name not in commands:
        raise unknown_name("command", name, commands)
    function, further, _ = commands[name]
    members, program = flags_of_call(function), f"{program} {name}"
    if further is not None:  # which the flags that others choose depend on
        chosen = parse(members, rest, program, partly=True)
        members = (*members, further(chosen, rest))
    return partial(function, **parse(members, rest, program, cleandoc(_about(function))))


def _about(function: Callable[..., int]) -> str:
    """Return what the help of a command says first: its docstring as far as its arguments."""
    return (function.__doc__ or "").partition("    Arguments:")[0].strip()


def _described(command: Callable[..., int]) -> Callable[[], None]:
    def described() -> None: ...

    described.__doc__ = _about(command)
    return described


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
