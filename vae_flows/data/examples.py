"""What training and evaluation ask of a split: how many examples it has, of which shape, and batches of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vae_flows.checks import checked, described, require_device
from vae_flows.errors import IndexOutOfRangeError, InvalidInputError, complaint
from vae_flows.tensors.checksum import checksum

__all__ = [
    "INTEGER_TYPES",
    "Examples",
    "Indices",
    "StoredExamples",
    "TensorExamples",
    "as_indices",
    "as_tensor",
    "is_integer",
    "require_finite_examples",
    "require_floating_point",
    "require_labels",
]

INTEGER_TYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
Indices = Tensor | slice | Sequence[int] | NDArray[np.integer]


class Examples(Dataset[Any], ABC):
    """One split of a data set, of any event shape; also a map-style `torch.utils.data.Dataset`.

    Training and evaluation know no more of data than this. An item is an example or, where there are labels, a pair of
    example and label, so that a `DataLoader` takes any of them.
    """

    labels: Tensor | None
    """Integers `(N,)`, where there are any. Training and evaluation leave them alone."""

    @property
    @abstractmethod
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one example."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Return the same examples, whose batches are on `device`."""

    @abstractmethod
    def select(self, indices: Indices) -> Self:
        """Return the examples at some positions, as `batch` takes them; slices share memory."""

    @abstractmethod
    def batch(
        self,
        indices: Indices | None = None,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Return examples as floating point.

        Arguments:
            indices: Which of them: a slice, `None` for all, or integers `(B,)` from 0, as a tensor on any device, an
                array, a list or a range.
            generator: Source of random draws, where examples have any; `None` takes torch's.
            dtype: Floating-point type of the result, such as that of a model.

        Returns:
            `(B, *event_shape)`.

        Raises:
            InvalidInputError: The indices, the generator's device or the dtype do not fit.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Describe the content in a line that other examples do not share, and that another process finds again."""

    @checked
    def batches(
        self, indices: Iterable[Tensor], *, generator: torch.Generator | None, dtype: torch.dtype
    ) -> Iterator[Tensor]:
        """Yield the batches at each of `indices`, in their order, as `batch` returns them."""
        return (self.batch(chosen, generator=generator, dtype=dtype) for chosen in indices)

    def take(self, count: int) -> Self:
        """Return the first `count` examples, or all where there are fewer; memory is shared.

        Raises:
            InvalidInputError: `count` is not positive.
        """
        if not is_integer(count) or count < 1:
            raise InvalidInputError(complaint(f"{type(self).__name__}.take count", "a positive number", repr(count)))
        return self.select(slice(0, count))

    def __getitem__(self, index: int) -> Any:
        index = self._position(index)
        example = self.batch([index])[0]
        return example if self.labels is None else (example, int(self.labels[index]))

    def _position(self, index: int) -> int:
        """Return a position from 0; the negative ones count from the end."""
        if not isinstance(index, int | np.integer) or isinstance(index, bool):
            raise InvalidInputError(complaint(f"index of {type(self).__name__}", "an integer", described(index)))
        if not -len(self) <= index < len(self):
            expected = f"one from {-len(self)} to {len(self) - 1}"
            raise IndexOutOfRangeError(complaint(f"index of {type(self).__name__}", expected, int(index)))
        return int(index) % len(self)


class StoredExamples(Examples):
    """Examples in memory: the rows of one tensor.

    Derived classes are data classes with the fields `storage` and `labels`.
    """

    storage: Tensor

    def __len__(self) -> int:
        return len(self.storage)

    def to(self, device: torch.device | str) -> Self:
        """Return these examples with storage and labels on `device`."""
        device = require_device(f"{type(self).__name__}.to device", device)
        return self._with(self.storage.to(device), None if self.labels is None else self.labels.to(device))

    def select(self, indices: Indices) -> Self:
        """Return the examples at some positions, as `batch` takes them; slices share memory.

        Raises:
            InvalidInputError: The indices do not fit.
        """
        return self._with(
            self._rows(self.storage, indices), None if self.labels is None else self._rows(self.labels, indices)
        )

    def _with(self, storage: Tensor, labels: Tensor | None) -> Self:
        changed: Any = replace(self, storage=storage, labels=labels)  # pyright: ignore[reportArgumentType, reportCallIssue]
        return changed

    def _rows(self, tensor: Tensor, indices: Indices | None) -> Tensor:
        if indices is None:
            return tensor
        subject = f"{type(self).__name__}.batch indices"
        try:
            if isinstance(indices, slice):
                return tensor[indices]
            return tensor.index_select(0, as_indices(subject, indices).to(tensor.device))
        except (IndexError, TypeError, ValueError) as error:
            if isinstance(error, InvalidInputError):
                raise
            raise InvalidInputError(
                complaint(subject, f"values from 0 to {len(self) - 1}", f"others ({error})")
            ) from error


@dataclass(frozen=True, eq=False, repr=False)
class TensorExamples(StoredExamples):
    """Examples in memory of any event shape, real numbers or integers, such as rows of a table, counts or signals.

    Values are taken as they are: which of them have a probability is what the likelihood says. Batches are floating
    point of the model's type; integers are exact up to 2²⁴ in single precision.

    Arguments:
        storage: `(N, *event)`, floating point, integers or booleans, on any device.
        labels: Class of each example, integers `(N,)`, where there are any.

    Raises:
        InvalidInputError: There are no examples, values are NaN or infinite, or the labels do not fit.

    Example:
        >>> counts = TensorExamples(torch.tensor([[3, 0], [1, 4]]), labels=torch.tensor([0, 1]))
        >>> counts
        TensorExamples(2 of shape (2,), torch.int64, cpu)
        >>> counts.batch([1]), counts[0]
        (tensor([[1., 4.]]), (tensor([3., 0.]), 0))
    """

    storage: Tensor
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        values = self.storage
        if not isinstance(values, Tensor) or values.layout != torch.strided or values.is_meta or values.is_complex():
            expected = "a dense tensor of real numbers"
            raise InvalidInputError(complaint("TensorExamples storage", expected, described(values)))
        if values.dim() < 2 or not values.numel():
            remedy = "Give single numbers as rows: x.unsqueeze(-1)." if values.dim() == 1 and len(values) else ""
            expected = "shape (N, *event) of at least one example"
            raise InvalidInputError(complaint("TensorExamples storage", expected, tuple(values.shape), remedy))
        if values.requires_grad:
            object.__setattr__(self, "storage", values.detach())
        require_finite_examples("TensorExamples storage", values)
        require_labels("TensorExamples labels", self.labels, len(self))

    def __repr__(self) -> str:
        return f"TensorExamples({len(self)} of shape {self.event_shape}, {self.storage.dtype}, {self.storage.device})"

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.storage.shape[1:])

    def batch(
        self,
        indices: Indices | None = None,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Return examples `(B, *event_shape)` as floating point, on the device of the storage.

        Arguments:
            indices: Which of them, as of every `Examples.batch`.
            generator: Not used: nothing is drawn.
            dtype: Floating-point type of the result.

        Raises:
            InvalidInputError: The indices or the dtype do not fit.
        """
        require_floating_point("TensorExamples.batch dtype", dtype)
        return self._rows(self.storage, indices).to(dtype)

    def fingerprint(self) -> str:
        """Return number, shape, type and checksum of the values."""
        described_type = str(self.storage.dtype).removeprefix("torch.")
        return f"{len(self)} of shape {self.event_shape}, {described_type}, checksum {checksum(self.storage)}"


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
    if not isinstance(labels, Tensor) or labels.dtype not in INTEGER_TYPES:
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise InvalidInputError(complaint(subject, "a tensor of integers", got))
    if labels.shape != (count,):
        raise InvalidInputError(complaint(subject, f"shape ({count},)", tuple(labels.shape)))


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
    if isinstance(indices, Tensor) and indices.dim() == 1 and indices.dtype in INTEGER_TYPES:
        if indices.layout == torch.strided and not indices.is_meta:
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
