"""Held-out images: which rows of an array are for training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vae_flows.data.images import is_integer
from vae_flows.errors import InvalidInputError, complaint

__all__ = ["DEFAULT_SEED", "SPLITS", "Rows", "complete_splits", "hold_out"]

SPLITS = ("train", "validation", "test")
DEFAULT_SEED = 123


class Rows(NamedTuple):
    """Images `(N, …)` and, where there are any, their labels `(N,)`."""

    values: np.ndarray
    labels: np.ndarray | None = None

    def take(self, index: np.ndarray) -> Rows:
        """Return the rows at the positions `index`."""
        return Rows(self.values[index], None if self.labels is None else self.labels[index])


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
                f"sizes of at least 1 that leave some of {count} images to train on",
                f"{tuple(sizes)} held out",
                "Set validation_size and test_size, or add images.",
            )
        )
    starts = count - sum(sizes) + np.cumsum([0, *sizes[:-1]])
    return np.split(np.random.RandomState(seed).permutation(count), starts)


def complete_splits(
    subject: str,
    given: Mapping[str, Rows],
    *,
    fraction: float,
    split_seed: int | None,
    validation_size: int | None,
    test_size: int | None,
) -> dict[str, Rows]:
    """Return all three splits, those that are missing held out of `"train"` by `hold_out`.

    Arguments:
        subject: What is split, for messages.
        given: `"train"`, perhaps with `"test"`, perhaps with `"validation"` too.
        fraction: Part of the training images that a missing split takes where its size is not given.
        split_seed: Of the shuffle, `None` for the default.
        validation_size: Number of validation images, `None` for `fraction`.
        test_size: Number of test images, `None` for `fraction`.

    Raises:
        InvalidInputError: An option is set for a split that is given, a part would be empty, or the labels of a
            split are not as many as its images.
    """
    for split, rows in given.items():
        if rows.labels is not None and rows.labels.shape != rows.values.shape[:1]:
            expected = f"one for each of {len(rows.values)} images"
            raise InvalidInputError(complaint(f"{subject} {split} labels", expected, f"shape {rows.labels.shape}"))
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
    count = len(train.values)
    chosen = [options[split] for split in missing]
    sizes = [int(count * fraction) if size is None else size for size in chosen]
    parts = hold_out(subject, count, sizes, split_seed)
    held_out = {split: train.take(part) for split, part in zip(missing, parts[1:], strict=True)}
    return {**given, "train": train.take(parts[0]), **held_out}
