"""Held-out examples: which of them are for training, validation and test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from vae_flows.data.inputs import is_integer
from vae_flows.errors import InvalidInputError, complaint

__all__ = ["DEFAULT_SEED", "HELD_OUT_FRACTION", "SPLITS", "Rows", "Size", "complete_splits", "hold_out"]

SPLITS = ("train", "validation", "test")
DEFAULT_SEED = 123
HELD_OUT_FRACTION = 0.1
ROUNDING = 1e-9
"""What a product of a fraction and a count may lie below the integer that is meant: 0.29 · 100 is 28.999…"""
Size = int | float
"""Of a held-out split: a number of examples, or a fraction of them below 1."""


class Splittable(Protocol):
    """What is split: it has a length, and the part of it at some positions is of the same kind."""

    def __len__(self) -> int: ...

    def select(self, indices: np.ndarray, /) -> Self:
        """Return the part at some positions."""
        ...


Part = TypeVar("Part", bound=Splittable)


@dataclass(frozen=True, eq=False)
class Rows:
    """Arrays `(N, …)` and, where there are any, their labels `(N,)`.

    Raises:
        InvalidInputError: The labels are of another length; the message names `subject`.
    """

    values: np.ndarray
    labels: np.ndarray | None = None
    subject: str = "rows"

    def __post_init__(self) -> None:
        if self.labels is not None and self.labels.shape != self.values.shape[:1]:
            expected = f"one for each of {len(self.values)} examples"
            raise InvalidInputError(complaint(f"{self.subject} labels", expected, f"shape {self.labels.shape}"))

    def __len__(self) -> int:
        return len(self.values)

    def select(self, indices: np.ndarray) -> Rows:
        """Return the rows at some positions."""
        return Rows(self.values[indices], None if self.labels is None else self.labels[indices], self.subject)


def hold_out(subject: str, count: int, sizes: Sequence[int], seed: int | None = None) -> list[np.ndarray]:
    """Shuffle `count` rows and hold some out at the end.

    The order is that of NumPy's legacy `RandomState(seed).shuffle`, which the literature's splits are drawn with.

    Arguments:
        subject: What is split, for messages.
        count: Number of rows.
        sizes: How many rows each held-out part takes; the last part is the end of the shuffled rows.
        seed: Of the shuffle, 0 ≤ seed < 2³²; `None` takes 123.

    Returns:
        Row numbers of what is left to train on, then of each held-out part.

    Raises:
        InvalidInputError: A part would be empty, or the seed is out of range.

    Example:
        >>> [part.tolist() for part in hold_out("toy", 5, (1, 1), seed=0)]
        [[2, 0, 1], [3], [4]]
    """
    seed = DEFAULT_SEED if seed is None else seed
    if not is_integer(seed) or not 0 <= seed < 2**32:
        raise InvalidInputError(complaint(f"{subject} split_seed", "an integer from 0 to 2**32 - 1", repr(seed)))
    if not all(map(is_integer, sizes)):
        raise InvalidInputError(complaint(f"{subject} split", "integers for sizes", repr(tuple(sizes))))
    if min(sizes) < 1 or sum(sizes) >= count:
        raise InvalidInputError(
            complaint(
                f"{subject} split",
                f"sizes of at least 1 that leave some of {count} examples to train on",
                f"{tuple(sizes)} held out",
                "Choose the sizes of validation and test, or add examples.",
            )
        )
    starts = count - sum(sizes) + np.cumsum([0, *sizes[:-1]])
    return np.split(np.random.RandomState(seed).permutation(count), starts)


def complete_splits(
    subject: str,
    given: Mapping[str, Part],
    *,
    fraction: float = HELD_OUT_FRACTION,
    split_seed: int | None = None,
    validation_size: Size | None = None,
    test_size: Size | None = None,
) -> dict[str, Part]:
    """Return all three splits, those that are missing held out of `"train"` by `hold_out`.

    Arguments:
        subject: What is split, for messages.
        given: `"train"`, perhaps with `"test"`, perhaps with `"validation"`.
        fraction: Part of the training examples that a missing split takes where its size is not given.
        split_seed: Of the shuffle, `None` for the default.
        validation_size: Number or fraction of validation examples, `None` for `fraction`.
        test_size: Number or fraction of test examples, `None` for `fraction`.

    Raises:
        InvalidInputError: An option is set for a split that is given, or a part would be empty.
    """
    missing = [split for split in SPLITS if split not in given]
    options = {"validation": validation_size, "test": test_size}
    idle = [f"{split}_size" for split, size in options.items() if size is not None and split not in missing]
    idle += ["split_seed"] if split_seed is not None and not missing else []
    if idle:
        raise InvalidInputError(
            complaint(subject, "no option for splits that it brings along", ", ".join(idle), "Leave them out.")
        )
    if not missing:
        return dict(given)
    train = given["train"]
    chosen = [fraction if options[split] is None else options[split] for split in missing]
    parts = hold_out(subject, len(train), [_held_out(subject, len(train), size) for size in chosen], split_seed)
    held_out = {split: train.select(part) for split, part in zip(missing, parts[1:], strict=True)}
    return {**given, "train": train.select(parts[0]), **held_out}


def _held_out(subject: str, count: int, size: Any) -> int:
    """Return a number of examples for a number or a fraction of `count`."""
    if isinstance(size, float) and 0 < size < 1:
        return math.floor(count * size + ROUNDING)
    if not is_integer(size):
        expected = "a number of examples, or a fraction of them between 0 and 1"
        raise InvalidInputError(complaint(f"{subject} split", expected, repr(size)))
    return size
