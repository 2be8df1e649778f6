"""Arrays that stay in their file: the rows of a memory map as a data set of torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from vae_flows.data.arrays import channels_first
from vae_flows.data.images import ImageShape
from vae_flows.persistence.archives import map_npy

__all__ = ["ArrayFile", "ArrayRows"]


class ArrayRows(Dataset[Any]):
    """The rows of an array, read when they are asked for.

    Arguments:
        array: `(N, …)`, such as a memory map.
        targets: Their labels, integers `(N,)`, where there are any.
    """

    def __init__(self, array: np.ndarray, targets: Tensor | None = None) -> None:
        self.array = array
        self.targets = targets

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[np.ndarray]:
        return list(np.asarray(self.array[np.asarray(indices, np.int64)]))


class ArrayFile(ArrayRows):
    """The rows of an `.npy` file. Pickling takes its path along, not its content.

    Arguments:
        path: The file.
        white: The value of white, where the rows are images; they come as fractions of it, channels first. `None` for
            rows as they are.
        image_shape: `(C, H, W)` of flat images.

    Raises:
        DataError: It is no `.npy` file of numbers.
    """

    def __init__(self, path: Path, *, white: float | None = None, image_shape: ImageShape | None = None) -> None:
        super().__init__(map_npy(path))
        self.path = path
        self.white = white
        self.image_shape = image_shape

    def __getitems__(self, indices: Sequence[int]) -> list[np.ndarray]:
        rows = super().__getitems__(indices)
        if self.white is None or not rows:
            return rows
        images = channels_first(str(self.path), np.stack(rows), self.image_shape)
        return list(images.astype(np.float32) / np.float32(self.white))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(ArrayFile, white=self.white, image_shape=self.image_shape), (self.path,)
