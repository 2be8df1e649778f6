"""Pictures of one size, decoded into one array or when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch.utils.data import Dataset

from vae_flows.data.images import is_integer
from vae_flows.errors import DataError, InvalidInputError, complaint
from vae_flows.extras import needing
from vae_flows.persistence.archives import require_memory

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Channels", "PictureFiles", "decode", "opened", "size_pair", "white_of"]

Channels = Literal[1, 3]

CHANNELS_OF_MODE: dict[str, Channels] = {"1": 1, "L": 1, "LA": 1, "P": 3, "RGB": 3, "RGBA": 3, "CMYK": 3, "YCbCr": 3}
DEEP_MODES = ("I;16", "I;16B", "I")
"""Of grey PNG files of 16 bits, in several releases of Pillow."""


def decode(
    pictures: Iterable[tuple[str, Image]],
    count: int,
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: Channels | None = None,
) -> np.ndarray:
    """Turn pictures into one array `(count, C, H, W)`, `uint8`, or `uint16` of grey pictures of 16 bits.

    Arguments:
        pictures: Names, for messages, and pictures of 8 bits per channel, or grey ones of 16; transparency is dropped.
        count: How many there are.
        image_size: Side, or `(height, width)`, to which all are resized; `None` asks that all are of one size.
        channels: 1 for grey, 3 for colour; `None` asks that all are alike.

    Raises:
        DataError: A picture differs from the first in size, channels or bits, or is of another kind, or they do not fit
            in memory.
        InvalidInputError: The size or the channels are no such numbers.
    """
    size = size_pair(image_size)
    if channels not in (None, 1, 3) or isinstance(channels, bool):
        raise InvalidInputError(complaint("channels", "1, 3 or None", repr(channels)))
    stack = np.empty((count, 0, 0, 0), np.uint8)
    for row, (name, picture) in enumerate(pictures):
        pixels = _pixels(name, picture, size, channels)
        if row == 0:
            require_memory(f"{count} pictures like {name}", count * pixels.nbytes)
            stack = np.empty((count, *pixels.shape), pixels.dtype)
        if pixels.dtype != stack.dtype:
            expected, got = (f"{8 * kind.itemsize} bits" for kind in (stack.dtype, pixels.dtype))
            raise DataError(
                complaint(name, f"{expected} per channel as in the first picture", got, "Convert it first.")
            )
        if pixels.shape != stack.shape[1:]:
            raise DataError(
                complaint(
                    name,
                    f"channels, height and width {stack.shape[1:]} as in the first picture",
                    pixels.shape,
                    "Pass image_size=(height, width) and channels=1 or 3 to make all alike.",
                )
            )
        stack[row] = pixels
    return stack


def size_pair(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Return `(height, width)` for a side or a pair.

    Raises:
        InvalidInputError: It is neither, or not positive.
    """
    if image_size is None:
        return None
    pair = tuple(image_size) if isinstance(image_size, list | tuple) else (image_size, image_size)
    if len(pair) != 2 or not all(is_integer(side) and side > 0 for side in pair):
        raise InvalidInputError(complaint("image_size", "a positive side or (height, width)", repr(image_size)))
    return pair[0], pair[1]


def white_of(pixels: np.ndarray) -> int:
    """Return the value of white in decoded pictures: 255, or 65535 of 16 bits.

    Example:
        >>> white_of(np.zeros(1, np.uint16))
        65535
    """
    return int(np.iinfo(pixels.dtype).max)


class PictureFiles(Dataset[Any]):
    """Picture files, decoded when they are asked for, as fractions of white `(C, H, W)`.

    Arguments:
        files: PNG and JPEG files.
        image_size: Side, or `(height, width)`, to which all are resized.
        channels: 1 or 3, to convert all to grey or colour.
    """

    def __init__(
        self, files: Sequence[Path], image_size: int | tuple[int, int] | None, channels: Channels | None
    ) -> None:
        self.files = files
        self.image_size = image_size
        self.channels: Channels | None = channels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        pixels = decode(opened([self.files[index]]), 1, image_size=self.image_size, channels=self.channels)[0]
        return pixels.astype(np.float32) / np.float32(white_of(pixels))


def opened(files: Sequence[Path]) -> Iterator[tuple[str, Image]]:
    """Open PNG and JPEG files one by one, turned as their EXIF data say.

    Raises:
        DataError: One is damaged or something else.
    """
    with needing("vision"):
        from PIL import Image, ImageOps

    for file in files:
        try:
            with Image.open(file, formats=("PNG", "JPEG")) as picture:
                picture.load()
                upright = ImageOps.exif_transpose(picture)
        except Exception as error:  # each way to be damaged has an exception of its own
            reason = str(error) or type(error).__name__
            raise DataError(complaint(str(file), "a PNG or JPEG picture", reason, "Replace or remove it.")) from error
        yield str(file), upright


def _pixels(name: str, picture: Image, size: tuple[int, int] | None, channels: Channels | None) -> np.ndarray:
    with needing("vision"):
        from PIL.Image import Resampling

    mode = getattr(picture, "mode", type(picture).__name__)
    if mode in DEEP_MODES and channels != 3:
        return _deep_pixels(picture, size)
    own_channels = CHANNELS_OF_MODE.get(mode)
    if own_channels is None:
        expected = "a picture of 8 bits per channel, or a grey one of 16"
        raise DataError(complaint(name, expected, f"mode {mode}", "Convert it first."))
    picture = picture.convert("L" if (channels or own_channels) == 1 else "RGB")
    if size is not None:
        height, width = size
        picture = picture.resize((width, height), Resampling.BILINEAR)
    return np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)


def _deep_pixels(picture: Image, size: tuple[int, int] | None) -> np.ndarray:
    """Return the levels 0 … 65535 of a grey picture, `uint16`."""
    with needing("vision"):
        from PIL import Image

    levels = np.asarray(picture).astype(np.float32)  # exact: 16 bits of 24
    if size is not None:
        height, width = size
        levels = np.asarray(Image.fromarray(levels).resize((width, height), Image.Resampling.BILINEAR))
    return np.rint(levels).clip(0, np.iinfo(np.uint16).max).astype(np.uint16)[None]
