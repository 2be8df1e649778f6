"""Anyone's data as examples: the one place where tensors, arrays and torch's data sets enter the library."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from vae_flows.checks import check_argument, described
from vae_flows.data.array_rows import ArrayRows
from vae_flows.data.data_set import DataSet
from vae_flows.data.examples import Examples, TensorExamples
from vae_flows.data.images import Images, Pixels
from vae_flows.data.inputs import INTEGER_TYPES, as_label_tensor, as_tensor, require_labels
from vae_flows.data.splits import HELD_OUT_FRACTION, SPLITS, complete_splits
from vae_flows.data.streaming import StreamedExamples
from vae_flows.errors import InvalidInputError, complaint

__all__ = ["as_data_set", "as_examples"]


def as_examples(data: Any, *, labels: Any = None) -> Examples:
    """Return data of any kind as examples.

    Arguments:
        data: Examples, or a tensor or array `(N, *event)` of real numbers, integers or booleans, or a map-style data
            set of torch, whose items are arrays or begin with one and go on with a label. A `TensorDataset` is taken as
            its tensors; any other data set, and a memory map, is read batch by batch, as `StreamedExamples`.
        labels: Integers `(N,)`, for a tensor or array.

    Returns:
        Examples of the same numbers; memory is shared where it can be.

    Raises:
        InvalidInputError: It is nothing of this kind, has no examples, or values that are NaN or infinite, or the
            labels are of another length.

    Example:
        >>> as_examples(np.eye(3), labels=[0, 1, 1])
        TensorExamples(3 of shape (3,), torch.float64, cpu)
    """
    if isinstance(data, np.memmap) and data.ndim:
        known = as_label_tensor("data", labels)
        require_labels("labels of data", known, len(data))
        return StreamedExamples(ArrayRows(data, known))
    if isinstance(data, Tensor | np.ndarray):
        return TensorExamples(as_tensor("data", data), as_label_tensor("data", labels))
    if labels is not None:
        expected = "None, as data other than tensors and arrays bring their own"
        raise InvalidInputError(complaint("labels", expected, described(labels)))
    if isinstance(data, TensorDataset):
        values, *others = data.tensors
        labelled = bool(others) and others[0].dim() == 1 and others[0].dtype in INTEGER_TYPES
        return TensorExamples(values, others[0] if labelled else None)
    if isinstance(data, Examples):
        return data
    if isinstance(data, Dataset):
        return StreamedExamples(data)
    expected = "a tensor or an array, a map-style data set of torch, or examples of vae_flows.data"
    raise InvalidInputError(complaint("data", expected, described(data), _remedy_for(data)))


def as_data_set(
    data: Any,
    *,
    validation: Any = HELD_OUT_FRACTION,
    test: Any = HELD_OUT_FRACTION,
    split_seed: int | None = None,
    labels: Any = None,
    name: str = "data",
    description: str = "given in memory",
    standardize: bool = False,
) -> DataSet:
    """Return data of any kind as a data set, with splits that are given or held out by seed.

    A `DataSet` is returned as it is. `vae_flows.training.train` calls this with its defaults for other data, so that
    `as_data_set(x).test` are examples that a model trained on x has never seen.

    Arguments:
        data: What to fit, and to hold the other splits out of; as in `as_examples`.
        validation: The number of examples to hold out for validation, or their fraction below 1, or the examples.
        test: The same for the test.
        split_seed: Of the shuffle that holds examples out, 0 ≤ seed < 2³²; `None` takes 123.
        labels: Integers `(N,)`, for a tensor or array `data`.
        name: Name of the data set.
        description: Its origin.
        standardize: Whether models see (x − mean) / standard deviation, of the training part.

    Raises:
        InvalidInputError: It is no such data, a split would be empty or leave nothing to fit, the splits differ in the
            shape of examples, or the labels are of another length.

    Example:
        >>> import torch
        >>> data = as_data_set(torch.randn(100, 5), validation=0.2, test=10, split_seed=1)
        >>> len(data.train), len(data.validation), len(data.test), data.event_shape
        (70, 20, 10, (5,))
    """
    if isinstance(data, DataSet):
        return data
    for argument, value in (("name", name), ("description", description)):
        check_argument(f"as_data_set {argument}", value, str)
    check_argument("as_data_set standardize", standardize, bool)
    held_out = {"validation": validation, "test": test}
    sizes = {split: value for split, value in held_out.items() if isinstance(value, int | float)}
    given = {split: as_examples(value) for split, value in held_out.items() if split not in sizes}
    splits = complete_splits(
        name,
        {"train": as_examples(data, labels=labels), **given},
        split_seed=split_seed,
        validation_size=sizes.get("validation"),
        test_size=sizes.get("test"),
    )
    train, held, tested = (splits[split] for split in SPLITS)
    made = DataSet(name, train, held, tested, pixels=_pixels_of(train), description=description)
    return made.standardized() if standardize else made


def _pixels_of(examples: Examples) -> Pixels | None:
    """Return what the likelihood of images must be, of other examples `None`."""
    if not isinstance(examples, Images):
        return None
    return "binary" if examples.packed or examples.dynamic_binarization else "grey"


def _remedy_for(data: object) -> str:
    if isinstance(data, DataSet):
        return "Take one of its splits, such as data.test."
    if isinstance(data, DataLoader):
        return "Pass its data set; the settings have the size of a batch."
    if isinstance(data, list | tuple):
        return "Make it an array, as np.asarray(x); give labels as TensorDataset(x, labels)."
    return "Data frames have to_numpy()."
