"""What training and evaluation ask of a split: how many examples it has, of which shape, and batches of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vae_flows.checks import checked, described, require_device
from vae_flows.data.inputs import (
    Indices,
    as_indices,
    is_integer,
    require_finite_examples,
    require_floating_point,
    require_labels,
    require_levels,
)
from vae_flows.errors import IndexOutOfRangeError, InvalidInputError, complaint
from vae_flows.tensors.checksum import checksum

__all__ = ["Examples", "StoredExamples", "TensorExamples"]


class Examples(Dataset[Any], ABC):
    """One split of a data set, of any event shape; also a map-style `torch.utils.data.Dataset`.

    Training and evaluation know no more of data than this. An item is an example or, where there are labels, a pair of
    example and label, so that a `DataLoader` takes any of them.
    """

    labels: Tensor | None
    """Integers `(N,)`, where there are any. Training and evaluation leave them alone."""
    levels: int | None = None
    """Of how many equidistant values from 0 to 1 each value is one; `None` where that is not known."""

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
        levels: L, where each value is one of 0, 1 / (L − 1), …, 1; bits per dimension need it.

    Raises:
        InvalidInputError: There are no examples, values are NaN or infinite, or labels or levels do not fit.

    Example:
        >>> counts = TensorExamples(torch.tensor([[3, 0], [1, 4]]), labels=torch.tensor([0, 1]))
        >>> counts
        TensorExamples(2 of shape (2,), torch.int64, cpu)
        >>> counts.batch([1]), counts[0]
        (tensor([[1., 4.]]), (tensor([3., 0.]), 0))
    """

    storage: Tensor
    labels: Tensor | None = None
    levels: int | None = None

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
        require_levels("TensorExamples levels", self.levels)

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
