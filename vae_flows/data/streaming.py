"""Examples that are read when their batch is due: data larger than memory, and anyone's `torch.utils.data.Dataset`."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from vae_flows.checks import checked, described, require_device
from vae_flows.data.examples import Examples
from vae_flows.data.inputs import (
    INTEGER_TYPES,
    Indices,
    as_indices,
    as_tensor,
    is_integer,
    require_finite_examples,
    require_floating_point,
    require_levels,
)
from vae_flows.errors import DataError, InvalidInputError, VAEFlowsError, complaint
from vae_flows.randomness import derive_seed, seeded
from vae_flows.tensors.checksum import checksum

__all__ = ["StreamedExamples"]

CPU = torch.device("cpu")
FINGERPRINTED = 64
"""Examples that a fingerprint reads; all of them would be a pass over the data."""


@dataclass(frozen=True, eq=False, repr=False)
class StreamedExamples(Examples):
    """Examples of a map-style data set of torch, read batch by batch, ahead of time by worker processes where wanted.

    An item is an example, a tensor or array of one shape throughout, or a tuple that begins with one and goes on with
    its label. What a data set draws itself, such as random crops, from the global generators of torch, NumPy or Python,
    depends on the generator of the batch and on which examples it has, and not on the number of workers: a run that was
    interrupted goes on with the same numbers.

    Arguments:
        source: A data set with `__len__` and `__getitem__`.
        num_workers: Processes that read ahead; 0 reads in this one. Where processes are spawned and not forked, the
            source is pickled for them.
        positions: Which of its items are meant, integers `(N,)`; `None` for all.
        device: Where batches are; memory is pinned for a CUDA device.
        levels: L, where each value is one of 0, 1 / (L − 1), …, 1; bits per dimension need it.

    Raises:
        InvalidInputError: The source has no items, or the first one is no example.

    Example:
        >>> from torch.utils.data import ConcatDataset, TensorDataset
        >>> halves = [TensorDataset(torch.rand(5, 2), torch.arange(5)) for _ in range(2)]
        >>> examples = StreamedExamples(ConcatDataset(halves))
        >>> examples, examples.batch([9, 0]).shape
        (StreamedExamples(10 of shape (2,) from ConcatDataset, cpu), torch.Size([2, 2]))
    """

    source: Dataset[Any]
    num_workers: int = 0
    positions: Tensor | None = None
    device: torch.device = CPU
    levels: int | None = None
    labels: Tensor | None = field(init=False)
    _event_shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        source, name = self.source, "StreamedExamples"
        sized = hasattr(source, "__len__") and hasattr(source, "__getitem__")
        if not isinstance(source, Dataset) or isinstance(source, IterableDataset) or not sized:
            remedy = "Each epoch needs all examples in another order."
            expected = "a data set with __len__ and __getitem__"
            raise InvalidInputError(complaint(f"{name} source", expected, described(source), remedy))
        if not is_integer(self.num_workers) or self.num_workers < 0:
            expected = "a number of processes, 0 or more"
            raise InvalidInputError(complaint(f"{name} num_workers", expected, repr(self.num_workers)))
        object.__setattr__(self, "device", require_device(f"{name} device", self.device))
        count = len(source)  # pyright: ignore[reportArgumentType]
        if self.positions is not None:
            object.__setattr__(self, "positions", _positions(f"{name} positions", self.positions, count))
        require_levels(f"{name} levels", self.levels)
        if len(self) == 0:
            raise InvalidInputError(complaint(f"{name} source", "at least one example", "none"))
        object.__setattr__(self, "labels", self._known_labels(count))
        object.__setattr__(self, "_event_shape", None)
        first = self._reader(0).read(self._source_positions([0]))
        object.__setattr__(self, "_event_shape", tuple(first.shape[1:]))

    def __len__(self) -> int:
        return len(self.source) if self.positions is None else len(self.positions)  # pyright: ignore[reportArgumentType]

    def __repr__(self) -> str:
        source = type(self.source).__name__
        return f"StreamedExamples({len(self)} of shape {self.event_shape} from {source}, {self.device})"

    def __getitem__(self, index: int) -> Any:
        position = self._source_positions([self._position(index)])
        example, label = self._reader(_seed_from(None)).items(position)[0]
        example = example.to(self.device, example.dtype if example.is_floating_point() else torch.float32)
        return example if label is None else (example, label)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self._event_shape

    def to(self, device: torch.device | str) -> StreamedExamples:
        """Return the same examples, whose batches are on `device`."""
        return replace(self, device=require_device("StreamedExamples.to device", device))

    def select(self, indices: Indices) -> StreamedExamples:
        """Return the examples at some positions; nothing is read.

        Raises:
            InvalidInputError: The indices do not fit.
        """
        return replace(self, positions=self._source_positions(indices))

    @checked
    def batch(
        self,
        indices: Indices | None = None,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Read examples `(B, *event_shape)` in this process.

        Arguments:
            indices: Which of them, as of every `Examples.batch`.
            generator: Source of the seed of what the source draws.
            dtype: Floating-point type of the result.

        Raises:
            InvalidInputError: The indices or the dtype do not fit, or an example has another shape than the first, or
                values that are NaN or infinite.
            DataError: The source failed to give an example.
        """
        require_floating_point("StreamedExamples.batch dtype", dtype)
        chosen = self._source_positions(slice(None) if indices is None else indices)
        return self._reader(_seed_from(generator)).read(chosen).to(self.device, dtype)

    @checked
    def batches(
        self, indices: Iterable[Tensor], *, generator: torch.Generator | None, dtype: torch.dtype
    ) -> Iterator[Tensor]:
        """Yield the batches at each of `indices`, which `num_workers` processes read ahead.

        Raises:
            InvalidInputError: As of `batch`.
            DataError: The source failed to give an example, or a process ended.
        """
        require_floating_point("StreamedExamples.batches dtype", dtype)
        return self._read_ahead([self._source_positions(chosen) for chosen in indices], generator, dtype)

    def fingerprint(self) -> str:
        """Return number and shape, and the checksum of 64 examples that are spread over all.

        Raises:
            InvalidInputError: As of `batch`.
            DataError: The source failed to give an example.
        """
        count = min(len(self), FINGERPRINTED)
        spread = torch.linspace(0, len(self) - 1, count, dtype=torch.float64).round().long()
        values = self._reader(0).read(self._source_positions(spread))
        return f"{len(self)} of shape {self.event_shape}, checksum of {count} {checksum(values)}"

    def _read_ahead(
        self, chosen: Sequence[Tensor], generator: torch.Generator | None, dtype: torch.dtype
    ) -> Iterator[Tensor]:
        seed = _seed_from(generator)
        loader = DataLoader(
            self._reader(seed),
            batch_size=None,  # the reader reads whole batches
            sampler=chosen,
            num_workers=min(self.num_workers, len(chosen)),
            collate_fn=_as_it_is,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator().manual_seed(seed),  # or else it draws from the global one
        )
        try:
            for values in loader:
                if isinstance(values, Exception):
                    raise values
                yield values.to(self.device, dtype, non_blocking=True)
        except (RuntimeError, EOFError, ConnectionError) as error:  # as the process ends between messages or within one
            if isinstance(error, VAEFlowsError):
                raise
            remedy = "Read with num_workers=0 to see why; a process may have run out of memory."
            got = f"an error ({error})"
            raise DataError(
                complaint(f"processes reading {type(self.source).__name__}", "batches", got, remedy)
            ) from error

    def _reader(self, seed: int) -> _Reader:
        return _Reader(self.source, self._event_shape, seed)

    def _source_positions(self, indices: Indices) -> Tensor:
        """Return which items of the source are at some positions of these examples."""
        if isinstance(indices, slice):
            return (torch.arange(len(self)) if self.positions is None else self.positions)[indices]
        chosen = _positions("StreamedExamples.batch indices", indices, len(self))
        return chosen if self.positions is None else self.positions[chosen]

    def _known_labels(self, count: int) -> Tensor | None:
        """Return the labels that the source keeps beside its items, in the way of torchvision."""
        kept = getattr(self.source, "targets", getattr(self.source, "labels", None))
        try:
            array = np.asarray(kept)
        except (TypeError, ValueError, RuntimeError):
            return None
        if array.shape != (count,) or array.dtype.kind not in "iu":
            return None
        labels = torch.from_numpy(array.astype(np.int64))
        return labels if self.positions is None else labels[self.positions]


def _positions(subject: str, indices: Any, count: int) -> Tensor:
    """Return integers from 0 to `count` − 1 on the CPU."""
    positions = as_indices(subject, indices).cpu().long()
    if len(positions) and not (int(positions.min()) >= 0 and int(positions.max()) < count):
        raise InvalidInputError(complaint(subject, f"values from 0 to {count - 1}", "others"))
    return positions


class _Reader(Dataset[Any]):
    """Reads batches of a source, in whatever process, with the draws that belong to them."""

    def __init__(self, source: Any, event_shape: tuple[int, ...] | None, seed: int) -> None:
        self.source = source
        self.event_shape = event_shape
        self.seed = seed
        self.name = type(source).__name__

    def __getitem__(self, positions: Tensor) -> Tensor | Exception:
        """Return a batch, or what is wrong with it, which a process could not raise without its traceback as text."""
        try:
            return self.read(positions)
        except VAEFlowsError as error:
            return error

    def read(self, positions: Tensor) -> Tensor:
        """Return the examples at some positions of the source, of one shape and finite."""
        examples = [example for example, _ in self.items(positions)]
        if not examples:
            return torch.empty(0, *(self.event_shape or ()))
        shape = self.event_shape or tuple(examples[0].shape)
        for position, example in zip(positions.tolist(), examples, strict=True):
            if example.shape != shape:
                remedy = "Make all alike, such as by a transform that crops or resizes."
                expected = f"shape {shape} as of the first one"
                raise InvalidInputError(complaint(self._subject(position), expected, tuple(example.shape), remedy))
        batch = torch.stack(examples)
        require_finite_examples(f"items of {self.name}", batch, positions)
        return batch

    def items(self, positions: Tensor) -> list[tuple[Tensor, int | None]]:
        """Return examples with their labels, which are `None` where there are none."""
        numbers = positions.tolist()
        with _repeatable(self.seed, *numbers):
            items = self._fetch(numbers)
        return [self._parts(position, item) for position, item in zip(numbers, items, strict=True)]

    def _fetch(self, numbers: Sequence[int]) -> Sequence[Any]:
        subject = self._subject(numbers[0]) if numbers else ""
        try:
            if hasattr(self.source, "__getitems__"):
                return self.source.__getitems__(numbers)
            items = []
            for number in numbers:
                subject = self._subject(number)
                items.append(self.source[number])
            return items
        except VAEFlowsError:
            raise
        except Exception as error:  # anyone's code, which fails in its own way
            reason = f"{type(error).__name__} ({error})"
            raise DataError(complaint(subject, "an example", reason, "Look at the data set.")) from error

    def _parts(self, position: int, item: Any) -> tuple[Tensor, int | None]:
        example, *others = item if isinstance(item, tuple | list) and item else (item,)
        if isinstance(example, np.ndarray):
            example = as_tensor(self._subject(position), example)
        if not isinstance(example, Tensor) or example.dim() == 0 or example.is_complex() or not example.numel():
            expected = "a tensor or array of one dimension or more, or a tuple that begins with one"
            raise InvalidInputError(complaint(self._subject(position), expected, described(example), _remedy(example)))
        return example.detach(), _as_label(others[0]) if others else None

    def _subject(self, position: int) -> str:
        return f"item {position} of {self.name}"


@contextmanager
def _repeatable(*key: int) -> Iterator[None]:
    """Let the global generators of torch, NumPy and Python draw what belongs to a key, and leave them as they were."""
    # NumPy's legacy generator, because it is the one that transforms of images draw from.
    seed = derive_seed(*key)
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        with seeded(CPU, *key):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def _seed_from(generator: torch.Generator | None) -> int:
    device = CPU if generator is None else generator.device
    return int(torch.randint(2**62, (), generator=generator, device=device))


def _as_it_is(batch: Any) -> Any:
    return batch


def _as_label(value: Any) -> int | None:
    if isinstance(value, Tensor):
        return int(value) if value.dim() == 0 and value.dtype in INTEGER_TYPES else None
    return int(value) if isinstance(value, int | np.integer) else None


def _remedy(example: object) -> str:
    if isinstance(example, dict):
        return "Wrap the data set in one whose items are the arrays."
    if hasattr(example, "mode") and hasattr(example, "convert"):  # a picture of Pillow
        return "Pass transform=torchvision.transforms.ToTensor() to the data set."
    return "Give single numbers as arrays of one."
