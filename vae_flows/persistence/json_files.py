"""JSON and other small files, whole or absent."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vae_flows.errors import DataError, FileError, complaint
from vae_flows.persistence.files import file_errors, read_file, sweep, written_whole

__all__ = [
    "check_destination",
    "read_json",
    "to_json",
    "to_lines",
    "write_atomically",
    "write_files",
    "write_json",
]


MAX_JSON_BYTES = 2**28


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that a crash leaves the old one or the new one, never a part."""
    with written_whole(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_files(folder: Path, contents: Mapping[str, bytes | str]) -> tuple[Path, ...]:
    """Write files by name to a folder, in which no killed process's temporary files are left, and return their paths.

    Raises:
        FileError: One cannot be written.
    """
    if folder.is_dir():
        sweep(folder)
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return tuple(folder / name for name in contents)


def check_destination(folder: Path, *names: str) -> None:
    """Make a folder and try to write to it, before a computation whose results are to go there.

    Arguments:
        folder: The folder.
        names: Of the files to come.

    Raises:
        FileError: It cannot be made or written to, or a folder bears the name of a file to come.
    """
    with file_errors(folder, "a folder that can be written to"):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"room for a byte")
    for name in names:
        with file_errors(folder / name, "a file that can be written"):
            if (folder / name).is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def write_json(path: Path, value: Any) -> None:
    """Write `to_json` of a value."""
    write_atomically(path, to_json(value))


def to_json(value: Any) -> str:
    """Return JSON, indented, for people too; NaN and infinities become `null`, which every reader understands."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n"


def to_lines(name: str, records: Iterable[Mapping[str, Any]]) -> str:
    """Return JSON of records under one name, a line each: small, and easy to compare by version control.

    Example:
        >>> print(to_lines("runs", [{"seed": 0}, {"seed": 1}]), end="")
        {"runs": [
        {"seed":0},
        {"seed":1}
        ]}
    """
    lines = ",\n".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")) for record in records)
    return f'{{"{name}": [\n{lines}\n]}}\n'


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: There is no such file, or it does not hold JSON.
        FileError: It cannot be read, or is no regular file.
    """
    try:
        return json.loads(read_file(path, limit=MAX_JSON_BYTES).decode())
    except FileError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        raise DataError(complaint(str(path), "a JSON file", "no file")) from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(complaint(str(path), "a JSON file", f"something else: {error}")) from None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
