"""Images as they stay in memory: packed bits or grey levels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_flows.data.examples import StoredExamples
from vae_flows.data.inputs import Indices, is_integer, require_floating_point, require_labels, require_levels
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.checksum import checksum
from vae_flows.tensors.shapes import ImageShape, require_image_shape

__all__ = ["ImageShape", "Images", "Pixels", "is_integer", "require_image_shape"]

Pixels = Literal["binary", "grey"]

TOP_LEVEL = 255


@dataclass(frozen=True, eq=False, repr=False)
class Images(StoredExamples):
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
        levels: How many levels there were before they became 0 … 255, such as 17 of 0 … 16; bits per dimension of
            densities need it. By default 2 of binary images and 256 of others.

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
    levels: int | None = None

    def __post_init__(self) -> None:
        shape = require_image_shape("Images", self.image_shape)
        for name in ("packed", "dynamic_binarization"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInputError(complaint(f"Images {name}", "True or False", repr(getattr(self, name))))
        if not isinstance(self.storage, Tensor):
            raise InvalidInputError(complaint("Images storage", "a uint8 tensor", type(self.storage).__name__))
        width = math.ceil(self.num_pixels / 8) if self.packed else self.num_pixels
        storage = self.storage
        if (
            storage.layout is not torch.strided
            or storage.dtype != torch.uint8
            or storage.dim() != 2
            or storage.shape[1] != width
            or len(storage) == 0
        ):
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
        require_labels("Images labels", self.labels, len(self))
        require_levels("Images levels", self.levels)
        if self.levels is None:
            object.__setattr__(self, "levels", 2 if self.packed or self.dynamic_binarization else TOP_LEVEL + 1)

    def __repr__(self) -> str:
        kind = "packed bits" if self.packed else "grey levels"
        drawn = ", dynamically binarised" if self.dynamic_binarization else ""
        return f"Images({len(self)} of {'×'.join(map(str, self.image_shape))}, {kind}{drawn}, {self.storage.device})"

    @property
    def num_pixels(self) -> int:
        """P = C·H·W, the number of values of an image."""
        return math.prod(self.image_shape)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """`(C, H, W)`, the shape of one image."""
        return self.image_shape

    def fingerprint(self) -> str:
        """Return number, shape and checksum of the images."""
        return f"{len(self)} of shape {self.image_shape}, checksum {checksum(self.storage)}"

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
        require_floating_point("Images.batch dtype", dtype)
        rows = self._rows(self.storage, indices)
        if self.packed:
            pixels = _unpack_bits(rows, dtype)[:, : self.num_pixels]
        elif self.dynamic_binarization:
            pixels = _draw_binary(rows, generator).to(dtype)
        else:
            pixels = rows.to(dtype) / TOP_LEVEL
        return pixels.reshape(-1, *self.image_shape)


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
