"""The command line: one function a command, its arguments made into options by tyro.

What all commands need is imported here, and no more: PyTorch is loaded with the command that is asked for.
"""

from __future__ import annotations

import ast
import codecs
import errno
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from inspect import cleandoc
from pathlib import Path
from pkgutil import get_data, resolve_name
from typing import TYPE_CHECKING, NamedTuple

from vae_flows.errors import FileError, VAEFlowsError, unknown_name
from vae_flows.extras import needing
from vae_flows.persistence.files import file_errors
from vae_flows.version import __version__

with needing("cli"):
    import tyro

if TYPE_CHECKING:
    from vae_flows.cli.flags import Flag, Group

__all__ = ["COMMANDS", "Command", "main"]


class Command(NamedTuple):
    """One command, told without loading what it needs.

    Arguments:
        function: What does it, as `module:name`; its arguments become flags.
        further: Returns further flags, of what was given by those, and of all that was typed; as `module:name`.
        after_an_interrupt: What the same command would do then.
    """

    function: str
    further: str | None = None
    after_an_interrupt: str = "the same command begins anew"


LIBRARY = "vae_flows.cli.commands"
COMMANDS: Mapping[str, Command] = {
    "train": Command(
        f"{LIBRARY}:train",
        f"{LIBRARY}:train_flags",
        "the same command with --resume goes on from the last checkpoint",
    ),
    "evaluate": Command(f"{LIBRARY}:evaluate", None, "the same command goes on from what is finished"),
    "benchmark": Command(
        f"{LIBRARY}:benchmark", f"{LIBRARY}:benchmark_flags", "the same command goes on from the last checkpoints"
    ),
    "report": Command(f"{LIBRARY}:report"),
    "compare": Command(f"{LIBRARY}:compare"),
    "flows": Command(f"{LIBRARY}:flows"),
    "data": Command(f"{LIBRARY}:data"),
    "run": Command(f"{LIBRARY}:run", None, "the same command goes on from the last checkpoint"),
}
PROGRAM = "vae-flows"
DESCRIPTION = "Train and compare variational autoencoders with flow posteriors. --version tells the release."
HELP, VERSION = ("-h", "--help"), "--version"
INTERRUPTED, OUTPUT_CLOSED = 130, 128 + 13  # as shells have it after SIGINT and SIGPIPE
PLAIN = "vae-flows-plain"
PLAIN_SIGNS = {"−": "-", "±": "+-", "×": "x", "·": "*", "…": "...", "≥": ">=", "ε": "eps", "β": "beta", "’": "'"}


def main(
    arguments: Sequence[str] | None = None, commands: Mapping[str, Command] = COMMANDS, program: str = PROGRAM
) -> int:
    """Run one command and return the exit status.

    It is 0, 1 for an error, told in one line, 130 after an interrupt, and 141 where nobody reads the output any more.
    Warnings are told in one line, too, once each.

    Arguments:
        arguments: Instead of those of the process.
        commands: What can be asked for, by name.
        program: Its name in the help.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    _print_anywhere()
    try:
        with plain_warnings():
            status = _run(arguments, commands, program)
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
        command = commands.get(next(iter(arguments), ""))
        told = f"interrupted; {command.after_an_interrupt}" if command else "interrupted"
        with suppress(OSError):
            print(told, file=sys.stderr)
        return INTERRUPTED


def _run(arguments: Sequence[str], commands: Mapping[str, Command], program: str) -> int:
    """Run the command that the arguments ask for.

    Raises:
        VAEFlowsError: The arguments are none of a command, or it failed.
        SystemExit: Help was asked for, and printed.
    """
    name, *rest = arguments or ["--help"]
    if name == VERSION:
        print(f"{PROGRAM} {__version__}")
        return 0
    if name in HELP:
        described = {name: _described(command) for name, command in commands.items()}
        tyro.extras.subcommand_cli_from_dict(described, prog=program, description=DESCRIPTION, args=["--help"])
    if name not in commands:
        raise unknown_name("command", name, commands)
    return _call(commands[name], rest, f"{program} {name}")


def _call(command: Command, arguments: Sequence[str], program: str) -> int:
    """Read the arguments of a command, and run it; what is wrong with a flag's value is told of the flag as typed."""
    from vae_flows.cli.flags import flags_of_call
    from vae_flows.cli.parsing import parse, worded_as_typed

    function: Callable[..., int] = resolve_name(command.function)
    members: tuple[Flag | Group, ...] = flags_of_call(function)
    try:
        if command.further is not None:  # flags which depend on what others choose
            without_help = [word for word in arguments if word not in HELP]
            chosen = parse(members, without_help, program, partly=True)
            members = (*members, resolve_name(command.further)(chosen, without_help))
        about = (function.__doc__ or "").partition("    Arguments:")[0]
        return function(**parse(members, arguments, program, cleandoc(about).strip()))
    except VAEFlowsError as error:
        _tell(worded_as_typed(str(error), members, arguments))
        return 1


def _described(command: Command) -> Callable[[], None]:
    def described() -> None: ...

    described.__doc__ = summary_of(command)
    return described


def summary_of(command: Command) -> str:
    """Return the first paragraph of a command's docstring, from the source: to import it would take seconds."""
    module, _, name = command.function.partition(":")
    source = get_data(module.rpartition(".")[0], f"{module.rpartition('.')[2]}.py") or b""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == name]
    return " ".join((ast.get_docstring(functions[0]) or "").partition("\n\n")[0].split())


def _tell(message: str) -> None:
    with suppress(OSError):
        print(f"error: {message}", file=sys.stderr)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Tell each warning in one line, and once, within the block."""
    told: set[str] = set()

    def tell(message: Warning | str, *_where: object, **_also: object) -> None:
        line = " ".join(str(message).split())
        if line not in told:
            told.add(line)
            with suppress(OSError):
                print(f"warning: {line}", file=sys.stderr)

    before, warnings.showwarning = warnings.showwarning, tell
    try:
        yield
    finally:
        warnings.showwarning = before


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
