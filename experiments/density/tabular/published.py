"""The five tables that the literature on flows compares by, from files, with the published preprocessing.

What is dropped, which noise is added and how rows are split is that of Papamakarios, Pavlakou and Murray (2017),
"Masked Autoregressive Flow for Density Estimation", in their code (`gpapamak/maf`, `datasets/`), whose files are those
of https://zenodo.org/record/1161203. Afterwards all values but those of BSDS300 are standardised.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_flows.data.splits import SPLITS
from vae_flows.data.tables import read_table
from vae_flows.errors import DataError, MissingPackageError, complaint
from vae_flows.persistence.archives import map_npy, read_npz

__all__ = ["PUBLISHED", "Published", "Splits", "read_published"]

SHUFFLE_SEED = 42
CORRELATED = 0.98
REPEATED = 5
OUTLIER = -100.0
POWER_COLUMNS, GAS_COLUMNS, MINIBOONE_COLUMNS, BSDS300_COLUMNS = (8,), (16, 19), (43, 50), (63,)
HEPMASS_COLUMNS = (28, 29)
HEPMASS_ROWS = {"1000_train.csv": 700_000, "1000_test.csv": 350_000}


class Splits(NamedTuple):
    """Prepared rows `(N, D)` to fit, to stop by and to report."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


class Published(NamedTuple):
    """A table of the literature.

    Arguments:
        dim: D.
        sizes: Rows to fit, to stop by and to report.
        ffjord: Test −log p(x) in nats that FFJORD is reported with (Grathwohl et al. 2019, table 2).
        read: Reads and prepares the file at a path.
    """

    dim: int
    sizes: tuple[int, int, int]
    ffjord: float
    read: Callable[[Path], Splits]


def read_published(name: str, path: Path) -> Splits:
    """Read one of the published tables.

    Arguments:
        name: One of `PUBLISHED`.
        path: Its file, or the folder of both files of hepmass.

    Raises:
        DataError: The file cannot be read, or has other columns or another number of rows than the published one.
        MissingPackageError: The file is HDF5, and h5py is not installed.
    """
    published = PUBLISHED[name]
    splits = published.read(path)
    sizes, dims = tuple(map(len, splits)), {split.shape[1] for split in splits}
    if sizes != published.sizes or dims != {published.dim}:
        expected = f"{published.dim} columns and {_counts(published.sizes)} rows after the published preprocessing"
        got = f"{' or '.join(map(str, sorted(dims)))} columns and {_counts(sizes)} rows"
        remedy = "Its files are those of https://zenodo.org/record/1161203."
        raise DataError(complaint(f"{name} at {path}", expected, got, remedy))
    return splits


def _counts(sizes: tuple[int, ...]) -> str:
    return " + ".join(f"{size:,}" for size in sizes)


def _power(path: Path) -> Splits:
    """Read POWER: rows shuffled, two columns dropped, noise within the digits of all others but the time."""
    rows = _read_rows("power", path, POWER_COLUMNS)
    generator = np.random.RandomState(SHUFFLE_SEED)
    generator.shuffle(rows)
    rows = np.delete(rows, [1, 3], axis=1)  # reactive power and intensity
    count = len(rows)
    # In the order of the published draws: voltage, active power, three meters.
    voltage, power, meters = (generator.rand(count, width) for width in (1, 1, 3))
    noise = np.hstack([0.001 * power, 0.01 * voltage, meters, np.zeros((count, 1))])
    return _standardized(*_tenths(rows + noise))


def _gas(path: Path) -> Splits:
    """Read GAS: of sensors that correlate by more than 0.98 the first is dropped, until none do."""
    rows = _read_rows("gas", path, GAS_COLUMNS)
    rows = rows[:, -GAS_COLUMNS[0] :]  # without time and concentrations
    while (crowded := (np.corrcoef(rows, rowvar=False) > CORRELATED).sum(1) > 1).any():
        rows = np.delete(rows, np.flatnonzero(crowded)[0], axis=1)
    return Splits(*_tenths((rows - rows.mean(0)) / rows.std(0, ddof=1)))


def _hepmass(path: Path) -> Splits:
    """Read HEPMASS: signals of mass 1000 among the first tenth of all rows, without features that repeat a value."""
    read = [_read_lines(path / name, count) for name, count in HEPMASS_ROWS.items()]
    train, test = (rows[rows[:, 0] == 1] for rows in read)
    train, test = train[:, 1:], test[:, 1 : train.shape[1]]  # the test has a column more
    mean, deviation = train.mean(0), train.std(0, ddof=1)
    train, test = (train - mean) / deviation, (test - mean) / deviation
    kept = ~_repeats_least(train)
    train, test = train[:, kept], test[:, kept]
    validation_size = int(0.1 * len(train))
    return Splits(train[:-validation_size], train[-validation_size:], test)


def _miniboone(path: Path) -> Splits:
    """Read MINIBOONE: signals without outliers and features that repeat a value, dropped already or still to be."""
    rows = _read_rows("miniboone", path, MINIBOONE_COLUMNS)
    rows = rows[rows[:, 0] >= OUTLIER]
    return _standardized(*_tenths(rows[:, ~_repeats_least(rows)]))


def _bsds300(path: Path) -> Splits:
    """Read BSDS300: patches of 8×8 pixels without their mean and their last pixel, as the file has them."""
    stored = read_npz(path, SPLITS) if path.suffix.lower() == ".npz" else _read_hdf5(path)
    for split in SPLITS:
        _check_columns(f"bsds300 at {path}, {split}", stored[split], BSDS300_COLUMNS)
    return Splits(*(stored[split] for split in SPLITS))


PUBLISHED: dict[str, Published] = {
    "power": Published(6, (1_659_917, 184_435, 204_928), -0.46, _power),
    "gas": Published(8, (852_174, 94_685, 105_206), -8.59, _gas),
    "hepmass": Published(21, (315_123, 35_013, 174_987), 14.92, _hepmass),
    "miniboone": Published(43, (29_556, 3_284, 3_648), 10.43, _miniboone),
    "bsds300": Published(63, (1_000_000, 50_000, 250_000), -157.40, _bsds300),
}
"""By the names in which files are given as `name:path`."""


def _read_rows(name: str, path: Path, columns: tuple[int, ...]) -> np.ndarray:
    """Read a table of `.npy` or `.csv` as float64, of one of some numbers of columns."""
    rows = read_table(path).values if path.suffix.lower() == ".csv" else map_npy(path)
    _check_columns(f"{name} at {path}", rows, columns)
    return np.array(rows, np.float64)


def _read_lines(path: Path, count: int) -> np.ndarray:
    """Read the first rows of a `.csv` file whose header names other columns than there are, and is not read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a file without rows
            rows = np.loadtxt(path, delimiter=",", skiprows=1, max_rows=count, ndmin=2)
    except (OSError, ValueError, UserWarning) as error:
        remedy = f"Give the folder that holds {' and '.join(HEPMASS_ROWS)}."
        raise DataError(complaint(str(path), "a .csv file of numbers", f"an error ({error})", remedy)) from error
    _check_columns(f"hepmass at {path}", rows, HEPMASS_COLUMNS)
    return rows


def _read_hdf5(path: Path) -> dict[str, np.ndarray]:
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        remedy = "Try: pip install h5py, or give an .npz file of train, validation and test."
        raise MissingPackageError(complaint("package h5py", "one that is installed", "none", remedy)) from error
    try:
        with h5py.File(path, "r") as file:
            return {split: np.asarray(file[split], np.float64) for split in SPLITS}
    except (OSError, KeyError, ValueError, TypeError) as error:
        expected = f"an HDF5 file of {', '.join(SPLITS)}"
        raise DataError(complaint(f"bsds300 at {path}", expected, f"an error ({error})")) from error


def _check_columns(subject: str, rows: np.ndarray, columns: tuple[int, ...]) -> None:
    if rows.ndim != 2 or rows.shape[1] not in columns or not np.isfinite(rows).all():
        expected = f"finite numbers in rows of {' or '.join(map(str, columns))} columns"
        got = f"shape {rows.shape}" if rows.ndim != 2 or rows.shape[1] not in columns else "others"
        raise DataError(complaint(subject, expected, got))


def _repeats_least(rows: np.ndarray) -> np.ndarray:
    """Say of each column whether its smallest value occurs more than five times, by which the published code drops."""
    return (rows == rows.min(0)).sum(0) > REPEATED


def _tenths(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split off the last tenth for the test, and of the rest the last tenth for validation."""
    test_size = int(0.1 * len(rows))
    rest, test = rows[: len(rows) - test_size], rows[len(rows) - test_size :]
    validation_size = int(0.1 * len(rest))
    return rest[: len(rest) - validation_size], rest[len(rest) - validation_size :], test


def _standardized(train: np.ndarray, validation: np.ndarray, test: np.ndarray) -> Splits:
    """Standardise all splits by training and validation together."""
    both = np.vstack([train, validation])
    mean, deviation = both.mean(0), both.std(0)
    return Splits(*((rows - mean) / deviation for rows in (train, validation, test)))
