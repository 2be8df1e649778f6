"""Arrays, labels and positions of any usual kind, as tensors that examples are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vae_flows.errors import InvalidInputError, complaint

__all__ = [
    "INTEGER_TYPES",
    "Indices",
    "as_indices",
    "as_label_tensor",
    "as_tensor",
    "is_integer",
    "require_finite_examples",
    "require_floating_point",
    "require_labels",
    "require_levels",
]

INTEGER_TYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
Indices = Tensor | slice | Sequence[int] | NDArray[np.integer]


def is_integer(value: object) -> TypeGuard[int]:
    """Tell whether a value is a whole number, which `True` is not meant to be.

    Example:
        >>> is_integer(3), is_integer(True), is_integer(3.0)
        (True, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool)


def require_floating_point(subject: str, dtype: object) -> None:
    """Check that a dtype is one of floating point.

    Raises:
        InvalidInputError: It is another, or no dtype.
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InvalidInputError(complaint(subject, "a floating-point type", dtype))


def require_labels(subject: str, labels: object, count: int) -> None:
    """Check that labels are `None` or integers `(count,)`.

    Raises:
        InvalidInputError: They are something else.
    """
    if labels is None:
        return
    if not isinstance(labels, Tensor) or labels.dtype not in INTEGER_TYPES or labels.is_sparse:
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise InvalidInputError(complaint(subject, "a tensor of integers", got))
    if labels.shape != (count,):
        raise InvalidInputError(complaint(subject, f"shape ({count},)", tuple(labels.shape)))


def require_levels(subject: str, levels: object) -> None:
    """Check that a number of levels is `None` or an integer above 1.

    Raises:
        InvalidInputError: It is something else.
    """
    if levels is not None and (not is_integer(levels) or levels < 2):
        raise InvalidInputError(complaint(subject, "an integer above 1, or None", repr(levels)))


def as_tensor(subject: str, values: Tensor | np.ndarray) -> Tensor:
    """Return an array as a tensor of a type that torch computes with; memory is shared where it can be.

    Raises:
        InvalidInputError: The array holds no numbers.

    Example:
        >>> as_tensor("counts", np.array([1, 2], np.uint16))
        tensor([1, 2], dtype=torch.int32)
    """
    if isinstance(values, Tensor):
        return values
    if values.dtype.kind not in "bufi" or values.dtype.itemsize > 8:
        expected = "booleans, integers or floating point of at most 64 bits"
        raise InvalidInputError(complaint(subject, expected, f"dtype {values.dtype}"))
    # torch computes with no unsigned type but that of 8 bits, in the machine's own order of bytes.
    wider = {("u", 2): np.int32, ("u", 4): np.int64, ("u", 8): np.int64}
    dtype = wider.get((values.dtype.kind, values.dtype.itemsize), values.dtype.newbyteorder("="))
    if values.dtype == np.uint64 and values.size and values.max() > np.iinfo(np.int64).max:
        raise InvalidInputError(complaint(subject, "integers of at most 63 bits", f"{values.max()}"))
    values = np.ascontiguousarray(values, dtype)
    return torch.from_numpy(values if values.flags.writeable else values.copy())


def as_label_tensor(subject: str, labels: Any) -> Tensor | None:
    """Return labels of any kind as integers, and `None` where there are none.

    Raises:
        InvalidInputError: They are no integers.
    """
    if labels is None:
        return None
    try:
        array = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInputError(complaint(f"labels of {subject}", "integers", f"{error}")) from error
    if array.dtype.kind not in "ui":
        raise InvalidInputError(complaint(f"labels of {subject}", "integers", f"dtype {array.dtype}"))
    return torch.from_numpy(array.astype(np.int64))


def as_indices(subject: str, indices: Tensor | Sequence[int] | NDArray[np.integer]) -> Tensor:
    """Return indices of any usual kind as integers `(B,)` that `index_select` takes.

    Raises:
        InvalidInputError: They are no such integers; the message names `subject`.

    Example:
        >>> as_indices("positions", range(3))
        tensor([0, 1, 2])
    """
    given = indices
    if isinstance(indices, np.ndarray | range | list | tuple):
        try:
            array = np.asarray(indices)
            # An empty list has no type of its own. torch knows no uint16, uint32 and uint64.
            indices = torch.from_numpy(array.astype(np.int64) if array.dtype.kind in "iu" or not array.size else array)
        except (TypeError, ValueError, OverflowError):
            indices = given
    if isinstance(indices, Tensor) and _is_vector_of_integers(indices):
        return indices if indices.dtype in (torch.int32, torch.int64) else indices.long()
    got = f"{indices.dtype} {tuple(indices.shape)}" if isinstance(indices, Tensor) else repr(given)
    remedy = "Give one example as [index], and those of a mask as mask.nonzero().flatten()."
    raise InvalidInputError(complaint(subject, "integers of shape (B,) or a slice", got, remedy))


def require_finite_examples(subject: str, values: Tensor, positions: Tensor | None = None) -> None:
    """Check that examples `(N, *event)` are finite.

    Arguments:
        subject: What they are, for messages.
        values: The examples.
        positions: What messages call them, `(N,)`; by default their rows.

    Raises:
        InvalidInputError: They are not; the message has the first place of NaN or infinity.
    """
    if not values.is_floating_point() or bool(torch.stack(torch.aminmax(values)).isfinite().all()):
        return  # NaN propagates into the least and the greatest value
    first = (~values.isfinite()).nonzero()[0]
    row, place = int(first[0]), tuple(first[1:].tolist())
    example = row if positions is None else int(positions[row])
    got = f"{values[tuple(first)].item()} in example {example} at {place[0] if len(place) == 1 else place}"
    raise InvalidInputError(complaint(subject, "finite values", got, "Fill in or leave out what is missing before."))


def _is_vector_of_integers(tensor: Tensor) -> bool:
    dense = tensor.layout == torch.strided and not tensor.is_meta
    return dense and tensor.dim() == 1 and tensor.dtype in INTEGER_TYPES
