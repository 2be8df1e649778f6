"""Tables to learn, by what the command line calls them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.density.tabular.published import PUBLISHED, read_published
from vae_flows.data import DataSet, load
from vae_flows.data.load import FILE_LOADERS
from vae_flows.errors import DataError, InvalidInputError, complaint, unknown_name
from vae_flows.tensors.checksum import checksum

__all__ = ["TabularData", "is_table", "load_table"]

DEPENDENT = 1e-6
"""Least variance of a direction in standardised rows, by the largest: below it single precision holds no density."""


class TabularData(NamedTuple):
    """A table, prepared and split.

    Arguments:
        name: What it is called.
        train: Rows `(N, D)` to fit.
        validation: Rows to stop by.
        test: Rows to report.
        published: Test −log p(x) in nats of the FFJORD paper, where the table is one of its five.
    """

    name: str
    train: Tensor
    validation: Tensor
    test: Tensor
    published: float | None

    @property
    def fingerprint(self) -> str:
        """A line that other content does not share."""
        return " ".join(checksum(rows) for rows in (self.train, self.validation, self.test))


def is_table(data: str) -> bool:
    """Tell whether a name is that of a table: a file, or one of the literature's five with the path of its file.

    Example:
        >>> is_table("my.csv"), is_table("power:power/data.npy"), is_table("moons")
        (True, True, False)
    """
    return ":" in data or Path(data).suffix.lower() in FILE_LOADERS


def load_table(data: str, *, split_seed: int | None = None, label_column: str | None = None) -> TabularData:
    """Load a table, standardised by its training rows and split by a seed, or prepared as published.

    Arguments:
        data: Path of an `.npz`, `.npy` or `.csv` file of rows of numbers, or `name:path` for a published one.
        split_seed: Of the shuffle that holds out a tenth each for validation and test; by default the library's.
        label_column: A column of a `.csv` file to leave out.

    Raises:
        UnknownNameError: There is no such published table.
        DataError: The file is missing, damaged or not what it should be, or columns depend linearly on each other.
        InvalidInputError: Rows are no vectors, or an option does not fit.
    """
    name, colon, path = data.partition(":")
    if colon and len(name) > 1 and not Path(data).exists():  # one letter is a drive
        if name not in PUBLISHED:
            raise unknown_name("published table", name, PUBLISHED)
        for option, value in {"split_seed": split_seed, "label_column": label_column}.items():
            if value is not None:
                raise InvalidInputError(complaint(f"TabularSettings {option}", "none for a published table", value))
        splits = read_published(name, Path(path).expanduser())
        train, validation, test = (torch.from_numpy(rows).float() for rows in splits)
        loaded = TabularData(name, train, validation, test, PUBLISHED[name].ffjord)
    else:
        kind = None if Path(data).suffix.lower() == ".csv" else "values"
        found = load(Path(data), kind=kind, split_seed=split_seed, label_column=label_column, standardize=True)
        train, validation, test = _standardized(data, found)
        loaded = TabularData(Path(data).stem, train, validation, test, None)
    _check_independence(data, loaded.train)
    return loaded


def _standardized(data: str, found: DataSet) -> Iterator[Tensor]:
    if len(found.event_shape) != 1 or found.standardization is None:
        raise InvalidInputError(complaint(data, "rows of numbers (N, D)", f"examples of shape {found.event_shape}"))
    for examples in (found.train, found.validation, found.test):
        yield found.standardization(examples.batch(dtype=torch.float64)).float()


def _check_independence(data: str, train: Tensor) -> None:
    """Refuse rows on a plane, of which there is no density."""
    centred = train.double() - train.double().mean(0)
    variances = torch.linalg.eigvalsh(centred.mT @ centred / len(train))
    if not bool(variances[0] > DEPENDENT * variances[-1]):
        expected = "more rows than columns, none of which is constant or follows from others linearly"
        got = f"{len(train)} rows of {train.shape[1]}, on a plane"
        raise DataError(complaint(data, expected, got, "Leave out such columns: no density has them."))
