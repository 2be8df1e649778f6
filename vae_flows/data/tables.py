"""Tables of numbers in `.csv` files."""

from __future__ import annotations

import csv
import math
import stat
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vae_flows.call_stack import warn
from vae_flows.errors import DataError, complaint
from vae_flows.persistence.archives import require_memory

__all__ = ["Table", "read_table"]

SURELY_NAMES = 4
"""Columns of which no example is expected to count them."""
LONGEST_FIELD = 1000
"""Characters of a number, and of a name of a column."""


class Table(NamedTuple):
    """Rows of numbers `(N, D)`, float64, and the names of the columns, which are their numbers from 1 without a header.

    Arguments:
        columns: D names.
        values: The numbers.
    """

    columns: tuple[str, ...]
    values: np.ndarray


def read_table(path: Path) -> Table:
    """Read a comma-separated table of numbers; the first line is a header where one of its cells is no number.

    So is one that counts the columns from 0 or 1, as pandas names those of an array, of four columns or more, or where
    every column below has a number that is not written as an integer; a warning says so.

    Raises:
        DataError: The file cannot be read, has no rows, rows of several lengths, or a cell that is no finite number;
            the message names its line and column.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "points.csv"
        >>> _ = path.write_text("x,y\\n0.5,1\\n2,-3e2\\n")
        >>> table = read_table(path)
        >>> table.columns, table.values.tolist()
        (('x', 'y'), [[0.5, 1.0], [2.0, -300.0]])
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise DataError(complaint(str(path), "a .csv file", "a folder, a device, a pipe or a socket"))
        require_memory(str(path), 4 * status.st_size)  # a number of one digit and a comma take eight bytes
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _read(path, csv.reader(file, strict=True))
    except DataError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(complaint(str(path), "a .csv file of numbers", f"an error ({error})")) from error


def _read(path: Path, lines: Any) -> Table:
    columns: tuple[str, ...] = ()
    values = array("d")
    counted, with_fractions = False, set[int]()
    for number, cells in _numbered(lines):
        if not columns and (not _are_numbers(cells) or (counted := _count_columns(cells))):
            columns = tuple(cell.strip()[:LONGEST_FIELD] for cell in cells)
            continue
        if counted:
            with_fractions |= {place for place, cell in enumerate(cells) if not cell.strip().lstrip("+-").isdecimal()}
        columns = columns or tuple(str(place) for place in range(1, len(cells) + 1))
        if len(cells) != len(columns):
            remedy = "Separate cells by commas, and write decimals with a point."
            raise DataError(complaint(f"{path}, line {number}", f"{len(columns)} cells", len(cells), remedy))
        for column, cell in zip(columns, cells, strict=True):
            value = _number(cell)
            if value is None or not math.isfinite(value):
                got = repr(cell[:40]) if cell.strip() else "nothing"
                remedy = "Fill in or leave out what is missing; encode words as numbers."
                raise DataError(complaint(f"{path}, line {number}, column {column!r}", "a finite number", got, remedy))
            values.append(value)
    if counted and values and (len(columns) >= SURELY_NAMES or len(with_fractions) == len(columns)):
        warn(f"{path}, line 1: {' '.join(columns[:3])} … are taken for names of columns. Name them otherwise, or not.")
    elif counted:
        values = array("d", map(float, columns)) + values
        columns = tuple(str(place) for place in range(1, len(columns) + 1))
    if not values:
        raise DataError(complaint(str(path), "rows of numbers", "none"))
    return Table(columns, np.frombuffer(values, np.float64).reshape(-1, len(columns)))


def _count_columns(cells: Sequence[str]) -> bool:
    """Say whether the cells of a line are 0, 1, …, D − 1 or 1, 2, …, D."""
    found = [cell.strip() for cell in cells]
    return len(found) > 1 and any(found == [str(first + place) for place in range(len(found))] for first in (0, 1))


def _numbered(lines: Any) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield the lines that are not empty, with their numbers as editors count them."""
    for cells in lines:
        if cells and cells != [""]:
            yield lines.line_num, cells


def _are_numbers(cells: Sequence[str]) -> bool:
    """Say whether a line holds numbers, of which some may be missing."""
    return all(_number(cell) is not None for cell in cells if cell.strip())


def _number(cell: str) -> float | None:
    try:
        return float(cell) if len(cell) <= LONGEST_FIELD and "_" not in cell else None
    except ValueError:
        return None
