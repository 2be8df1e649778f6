"""Arrays in `.npz` and `.npy` files, which anyone may have sent: what they declare is checked before it is read."""

from __future__ import annotations

import math
import os
import stat
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from vae_flows.errors import DataError, complaint

__all__ = ["fits_in_memory", "map_npy", "read_npz", "require_memory"]

MAX_BYTES = 16 * 2**30
"""Bytes that one source of data may take, or half of the machine's memory where that is less."""
MAX_EXPANSION, SMALL_BYTES = 500, 64 * 2**20
"""How many times its packed size an array may take, where it takes more than `SMALL_BYTES`: pictures pack ten-fold."""
CHUNK_BYTES = 2**24
REMEDY = "Write it anew with numpy.savez_compressed from arrays of numbers."


def read_npz(
    path: Path, names: Collection[str] | None = None, *, all_needed: bool = True, content: IO[bytes] | None = None
) -> dict[str, np.ndarray]:
    """Read arrays of numbers from an `.npz` file, and nothing else: no pickles, no pipes, no more than fits in memory.

    Arguments:
        path: The file.
        names: The arrays wanted, by default all; others are not read.
        all_needed: Whether each of them must be there.
        content: What the file holds, where it has been read already; then `path` is for messages.

    Raises:
        DataError: The file is missing, damaged, encrypted, no archive, too large once unpacked, or lacks an array.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.npz"
        >>> np.savez(path, images=np.arange(3), notes="one")
        >>> read_npz(path, ["images"])
        {'images': array([0, 1, 2])}
    """
    try:
        if content is None and not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            raise ValueError("a folder, a device, a pipe or a socket")
        with zipfile.ZipFile(content or path) as archive:
            members = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            names = list(members) if names is None else names
            missing = [name for name in names if name not in members]
            if missing and all_needed:
                raise ValueError(f"no array {', '.join(missing)}")
            chosen = {name: members[name] for name in names if name in members}
            _check_sizes(str(path), list(chosen.values()))
            return {name: _read_array(archive, member) for name, member in chosen.items()}
    except DataError:
        raise
    except Exception as error:  # each way to be damaged, encrypted or unreadable has an exception of its own
        reason = str(error) or type(error).__name__
        raise DataError(complaint(str(path), "an .npz file of plain arrays", reason, REMEDY)) from error


def map_npy(path: Path) -> np.ndarray:
    """Map the array of an `.npy` file into memory without reading it; pickled objects are refused.

    Raises:
        DataError: The file is missing, no such file, of another size than it declares, or has no numbers.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.npy"
        >>> np.save(path, np.eye(2))
        >>> map_npy(path).shape
        (2, 2)
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            raise ValueError("a folder, a device, a pipe or a socket")
        array = np.lib.format.open_memmap(path, mode="r")
        if array.dtype.kind not in "bufi":
            raise ValueError(f"values of type {array.dtype}")
    except Exception as error:  # each way to be damaged has an exception of its own
        reason, remedy = str(error) or type(error).__name__, "Write it anew with numpy.save from an array of numbers."
        raise DataError(complaint(str(path), "an .npy file of one array of numbers", reason, remedy)) from error
    return array


def fits_in_memory(size: int) -> bool:
    """Say whether data of `size` bytes may be held in memory, which `require_memory` asks for.

    Example:
        >>> fits_in_memory(1), fits_in_memory(2**60)
        (True, False)
    """
    return size <= _largest()


def require_memory(subject: str, size: int) -> None:
    """Check that data of `size` bytes may be held in memory.

    Raises:
        DataError: They are more than 16 GiB, or than half of the machine's memory.

    Example:
        >>> require_memory("huge.npz", 2**60)
        Traceback (most recent call last):
        vae_flows.errors.DataError: huge.npz: expected at most ... MiB once unpacked, got 1099511627776 MiB. Take a ...
    """
    if not fits_in_memory(size):
        expected, remedy = f"at most {_largest() // 2**20} MiB once unpacked", "Take a part of it, or smaller images."
        raise DataError(complaint(subject, expected, f"{size // 2**20} MiB", remedy))


def _largest() -> int:
    return min(MAX_BYTES, _physical_memory() // 2)


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not every system tells
        return 2 * MAX_BYTES


def _check_sizes(subject: str, members: Sequence[zipfile.ZipInfo]) -> None:
    """Check what the archive declares, which its reader never exceeds."""
    require_memory(subject, sum(member.file_size for member in members))
    for member in members:
        if member.file_size > max(SMALL_BYTES, MAX_EXPANSION * member.compress_size):
            expected = f"arrays packed at most {MAX_EXPANSION}-fold"
            got = f"{member.file_size} bytes in {member.compress_size}"
            raise DataError(complaint(f"{subject}, {member.filename}", expected, got, "Do not trust this file."))


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"arrays of the format {version}")
        if dtype.hasobject:
            raise ValueError("Object arrays cannot be loaded: they may run code")
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or size != member.file_size - stream.tell():
            raise ValueError(f"{member.filename}, which declares another size than it has")
        values = np.empty(size, np.uint8)
        for start in range(0, size, CHUNK_BYTES):
            part = values[start : start + CHUNK_BYTES]
            part[:] = np.frombuffer(stream.read(len(part)), np.uint8)
        stream.read(1)  # The end of the file is where its checksum is compared.
    array = values.view(dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
