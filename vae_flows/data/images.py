"""Images as they stay in memory, packed bits or grey levels, and the data set of three such splits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vae_flows.checks import checked, require_device
from vae_flows.errors import InvalidInputError, complaint

__all__ = ["DataSet", "ImageShape", "Images", "Pixels", "is_integer", "require_image_shape"]

ImageShape = tuple[int, int, int]
Pixels = Literal["binary", "grey"]

TOP_LEVEL = 255
INTEGER_TYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
Indices = Tensor | slice | Sequence[int] | NDArray[np.integer]


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    r"""One split of a data set: compact in memory, floating point only as a batch, on the device of its storage.

    Binary images are bits, eight to a byte, the first pixel in the highest bit (the order of `numpy.packbits`). Grey
    images are levels 0 … 255, which a batch gives as level / 255, or, with `dynamic_binarization`, as a fresh draw
    :math:`x_i \sim \mathrm{Bernoulli}(\mathrm{level}_i / 255)`.

    Arguments:
        storage: `uint8`; `(N, ceil(P / 8))` when packed, else `(N, P)`, for the P = C·H·W pixels of `image_shape`.
        image_shape: `(C, H, W)`.
        packed: Whether a byte of `storage` holds eight binary pixels or one grey level.
        dynamic_binarization: Draw binary images from the grey levels anew for each batch.
        labels: Class of each image, integers `(N,)`, where the data set has them.

    Raises:
        InvalidInputError: There are no images, or the arguments do not fit each other.

    Example:
        >>> levels = torch.tensor([[0, 255, 51, 0, 0, 102]], dtype=torch.uint8)
        >>> images = Images(levels, image_shape=(1, 2, 3))
        >>> images
        Images(1 of 1×2×3, grey levels, cpu)
        >>> images.batch()
        tensor([[[[0.0000, 1.0000, 0.2000],
                  [0.0000, 0.0000, 0.4000]]]])
    """

    storage: Tensor
    image_shape: ImageShape
    packed: bool = False
    dynamic_binarization: bool = False
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        shape = require_image_shape("Images", self.image_shape)
        for name in ("packed", "dynamic_binarization"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInputError(complaint(f"Images {name}", "True or False", repr(getattr(self, name))))
        if not isinstance(self.storage, Tensor):
            raise InvalidInputError(complaint("Images storage", "a uint8 tensor", type(self.storage).__name__))
        width = math.ceil(self.num_pixels / 8) if self.packed else self.num_pixels
        storage = self.storage
        if storage.dtype != torch.uint8 or storage.dim() != 2 or storage.shape[1] != width or len(storage) == 0:
            raise InvalidInputError(
                complaint(
                    "Images storage",
                    f"uint8 of shape (N, {width}), N ≥ 1, for {'packed' if self.packed else 'grey'} images {shape}",
                    f"{storage.dtype} of shape {tuple(storage.shape)}",
                    "from_arrays turns arrays of any layout and dtype into images.",
                )
            )
        if self.packed and self.dynamic_binarization:
            raise InvalidInputError(complaint("Images", "grey levels for dynamic binarisation", "packed bits"))
        labels = self.labels
        if labels is None:
            return
        if not isinstance(labels, Tensor) or labels.dtype not in INTEGER_TYPES:
            got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
            raise InvalidInputError(complaint("Images labels", "a tensor of integers", got))
        if labels.shape != (len(self),):
            raise InvalidInputError(complaint("Images labels", f"shape ({len(self)},)", tuple(labels.shape)))

    def __len__(self) -> int:
        return len(self.storage)

    def __repr__(self) -> str:
        kind = "packed bits" if self.packed else "grey levels"
        drawn = ", dynamically binarised" if self.dynamic_binarization else ""
        return f"Images({len(self)} of {'×'.join(map(str, self.image_shape))}, {kind}{drawn}, {self.storage.device})"

    @property
    def num_pixels(self) -> int:
        """P = C·H·W, the number of values of an image."""
        return math.prod(self.image_shape)

    def to(self, device: torch.device | str) -> Images:
        """Return these images with storage and labels on `device`."""
        device = require_device("Images.to device", device)
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, storage=self.storage.to(device), labels=labels)

    def take(self, count: int) -> Images:
        """Return the first `count` images, or all where there are fewer; memory is shared.

        Raises:
            InvalidInputError: `count` is not positive.
        """
        if not is_integer(count) or count < 1:
            raise InvalidInputError(complaint("Images.take count", "a positive number", repr(count)))
        return replace(self, storage=self.storage[:count], labels=None if self.labels is None else self.labels[:count])

    def batch(
        self,
        indices: Indices | None = None,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Return images as floating point in [0, 1], on the device of the storage.

        Arguments:
            indices: Which images: a slice, `None` for all, or integers `(B,)` from 0, as a tensor on any device, an
                array, a list or a range.
            generator: Source of the draws of dynamic binarisation, on the device of the storage; `None` takes torch's.
            dtype: Floating-point type of the result.

        Returns:
            `(B, C, H, W)`.

        Raises:
            InvalidInputError: The indices, the generator's device or the dtype do not fit.
        """
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise InvalidInputError(complaint("Images.batch dtype", "a floating-point type", dtype))
        rows = self._rows(indices)
        if self.packed:
            pixels = _unpack_bits(rows, dtype)[:, : self.num_pixels]
        elif self.dynamic_binarization:
            pixels = _draw_binary(rows, generator).to(dtype)
        else:
            pixels = rows.to(dtype) / TOP_LEVEL
        return pixels.reshape(-1, *self.image_shape)

    def _rows(self, indices: Indices | None) -> Tensor:
        if indices is None:
            return self.storage
        try:
            if isinstance(indices, slice):
                return self.storage[indices]
            return self.storage.index_select(0, _as_indices(indices).to(self.storage.device))
        except (IndexError, TypeError, ValueError) as error:
            if isinstance(error, InvalidInputError):
                raise
            raise InvalidInputError(
                complaint("Images.batch indices", f"values from 0 to {len(self) - 1}", f"others ({error})")
            ) from error


def is_integer(value: object) -> TypeGuard[int]:
    """Tell whether a value is a whole number, which `True` is not meant to be.

    Example:
        >>> is_integer(3), is_integer(True), is_integer(3.0)
        (True, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool)


def require_image_shape(subject: str, shape: object) -> ImageShape:
    """Return `(C, H, W)` as a tuple.

    Raises:
        InvalidInputError: It is not three positive integers.

    Example:
        >>> require_image_shape("Images", [1, 28, 28])
        (1, 28, 28)
    """
    sizes = tuple(shape) if isinstance(shape, list | tuple) else ()
    if len(sizes) != 3 or not all(is_integer(size) and size > 0 for size in sizes):
        raise InvalidInputError(complaint(f"{subject} image_shape", "(channels, height, width)", repr(shape)))
    return sizes[0], sizes[1], sizes[2]


@checked
@dataclass(frozen=True)
class DataSet:
    """Three splits of images and what their pixels are.

    Arguments:
        name: The name it was loaded by.
        train: Images to fit.
        validation: Images to stop and choose by.
        test: Images to report.
        pixels: What the likelihood must be: `"binary"` for Bernoulli, `"grey"` for 256 levels.
        description: Origin and split; says so where the split is not the literature's.

    Raises:
        InvalidInputError: The splits differ in image shape, or hold other pixels than `pixels` says.
    """

    name: str
    train: Images
    validation: Images
    test: Images
    pixels: Pixels
    description: str

    def __post_init__(self) -> None:
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        for split, images in splits.items():
            if not isinstance(images, Images):
                raise InvalidInputError(complaint(f"data set, {split}", "Images", type(images).__name__))
        for split, images in splits.items():
            subject = f"data set {self.name!r}, {split}"
            if images.image_shape != self.image_shape:
                raise InvalidInputError(complaint(subject, f"images of shape {self.image_shape}", images.image_shape))
            if (images.packed or images.dynamic_binarization) != (self.pixels == "binary"):
                raise InvalidInputError(complaint(subject, f"{self.pixels} pixels", images))

    @property
    def image_shape(self) -> ImageShape:
        """`(C, H, W)` of every image."""
        return self.train.image_shape


def _as_indices(indices: Tensor | Sequence[int] | NDArray[np.integer]) -> Tensor:
    """Return `(B,)` integers that `index_select` takes."""
    given = indices
    if isinstance(indices, np.ndarray | range | list | tuple):
        try:
            array = np.asarray(indices)
            # An empty list has no type of its own. torch knows no uint16, uint32 and uint64.
            indices = torch.from_numpy(array.astype(np.int64) if array.dtype.kind in "iu" or not array.size else array)
        except (TypeError, ValueError, OverflowError):
            indices = given
    if isinstance(indices, Tensor) and indices.dim() == 1 and indices.dtype in INTEGER_TYPES:
        return indices if indices.dtype in (torch.int32, torch.int64) else indices.long()
    got = f"{indices.dtype} {tuple(indices.shape)}" if isinstance(indices, Tensor) else repr(given)
    remedy = "Give one image as [index], and those of a mask as mask.nonzero().flatten()."
    raise InvalidInputError(complaint("Images.batch indices", "integers of shape (B,) or a slice", got, remedy))


def _unpack_bits(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn bytes `(B, W)` into bits `(B, 8 W)`, highest first: one look-up a byte, straight to the wanted type."""
    return F.embedding(rows.int(), _bits_of_bytes(dtype, rows.device)).flatten(1)


@cache
def _bits_of_bytes(dtype: torch.dtype, device: torch.device) -> Tensor:
    values = torch.arange(256, device=device).unsqueeze(1)
    return ((values >> torch.arange(7, -1, -1, device=device)) & 1).to(dtype)


def _draw_binary(levels: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw Bernoulli(level / 255): a uniform integer of 0 … 254 is below the level with exactly that probability."""
    if generator is not None and generator.device.type != levels.device.type:
        raise InvalidInputError(
            complaint(
                "Images.batch generator",
                f"one on {levels.device}, where the images are",
                f"one on {generator.device}",
                f"Build it with torch.Generator({str(levels.device)!r}).",
            )
        )
    draws = torch.randint(0, TOP_LEVEL, levels.shape, generator=generator, dtype=torch.uint8, device=levels.device)
    return draws < levels
