"""Zip archives and arrays in `.npz` and `.npy` files, which anyone may have sent: what they declare is checked first.

An entry has a checksum of its content, but its name has none, nor has the directory that lists the entries. What an
archive holds can therefore decide nothing unless the directory is whole, the name of each entry stands before its
content too, and each is one that the reader knows.
"""

from __future__ import annotations

import io
import math
import os
import stat
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import ArrayLike

from vae_flows.errors import DataError, complaint, did_you_mean
from vae_flows.persistence.files import written_whole

__all__ = ["checked_entries", "fits_in_memory", "map_npy", "read_npz", "require_memory", "write_npz"]

MAX_BYTES = 16 * 2**30
"""Bytes that one source of data may take, or half of the machine's memory where that is less."""
MAX_EXPANSION, SMALL_BYTES = 500, 64 * 2**20
"""How many times its packed size an array may take, where it takes more than `SMALL_BYTES`: pictures pack ten-fold."""
CHUNK_BYTES = 2**24
SHOWN = 10
END_BYTES, COUNT = 22, slice(10, 12)
"""Of the record at the end of an archive, and where in it the number of entries stands."""
FOLDER = 0x10
"""The attribute of an entry that is a folder."""
REMEDY = "Write it anew with numpy.savez_compressed from arrays of numbers."


def checked_entries(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the entries of an archive, having checked that no bit of damage has lost, renamed or repeated one.

    Content is read by nobody here, so that its checksum is still to be compared.

    Raises:
        BadZipFile: The directory lists another number of entries than it declares, one of them twice, a folder,
            or one by another name than it has where it is stored.
    """
    stream, entries = cast(IO[bytes], archive.fp), archive.infolist()
    stream.seek(-END_BYTES - len(archive.comment), os.SEEK_END)
    declared = int.from_bytes(stream.read(END_BYTES)[COUNT], "little")
    if len(entries) != declared:
        raise zipfile.BadZipFile(f"a directory of {len(entries)} entries that declares {declared}")
    if repeated := _repeated(entry.filename for entry in entries):
        raise zipfile.BadZipFile(f"{repeated} twice")
    for entry in entries:
        if entry.is_dir() or entry.external_attr & FOLDER:  # of which some readers return nothing
            raise zipfile.BadZipFile(f"{entry.filename}, a folder")
        with archive.open(entry):  # compares both names
            pass
    return entries


def write_npz(path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Write arrays of numbers as a compressed `.npz`, replacing the file at once.

    Raises:
        FileError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.npz"
        >>> write_npz(path, {"images": np.arange(3)})
        >>> read_npz(path, ["images"])
        {'images': array([0, 1, 2])}
    """
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # pyright: ignore[reportArgumentType]
    with written_whole(path) as file:
        file.write(content.getbuffer())


def read_npz(
    path: Path,
    names: Collection[str] | None = None,
    *,
    optional: Collection[str] = (),
    content: IO[bytes] | None = None,
) -> dict[str, np.ndarray]:
    """Read arrays of numbers from an `.npz` file: no pickles, no pipes, no more than fits in memory.

    An array of another name is an error, since it may be a wanted one whose name is misspelt or damaged.

    Arguments:
        path: The file.
        names: The arrays that must be there; by default all that are.
        optional: Others that may be there.
        content: What the file holds, where it has been read already; then `path` is for messages.

    Raises:
        DataError: The file is missing, damaged, encrypted, no archive, too large once unpacked, lacks an array, or
            has one that is not named here.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.npz"
        >>> np.savez(path, images=np.arange(3))
        >>> read_npz(path, ["images"], optional=["labels"])
        {'images': array([0, 1, 2])}
    """
    try:
        if content is None and not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            raise ValueError("a folder, a device, a pipe or a socket")
        with zipfile.ZipFile(content or path) as archive:
            entries = checked_entries(archive)
            found = [entry.filename.removesuffix(".npy") for entry in entries]
            if repeated := _repeated(found):
                raise ValueError(f"{repeated} twice")
            if names is not None:
                _check_names(path, found, names, optional)
            _check_sizes(str(path), entries)
            return {name: _read_array(archive, entry) for name, entry in zip(found, entries, strict=True)}
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


def _repeated(names: Iterable[str]) -> str | None:
    seen = set[str]()
    return next((name for name in names if name in seen or seen.add(name)), None)


def _check_names(path: Path, found: Sequence[str], needed: Collection[str], optional: Collection[str]) -> None:
    if missing := [name for name in needed if name not in found]:
        raise ValueError(f"no array {', '.join(missing)}")
    known = [*needed, *optional]
    if unknown := [name for name in found if name not in known]:
        hint = did_you_mean(unknown[0], [name for name in known if name not in found])
        remedy = f"{hint} Name arrays so, and leave out others: numpy.savez(path, {known[0]}=…).".lstrip()
        raise DataError(complaint(f"{path} arrays", f"names among {', '.join(known)}", _shortened(unknown), remedy))


def _shortened(names: Sequence[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


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
