"""Pictures decoded into one array, all of one size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np

from vae_flows.data.images import is_integer
from vae_flows.errors import DataError, InvalidInputError, complaint
from vae_flows.extras import needing
from vae_flows.persistence.archives import require_memory

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Channels", "decode", "size_pair"]

Channels = Literal[1, 3]

CHANNELS_OF_MODE: dict[str, Channels] = {"1": 1, "L": 1, "LA": 1, "P": 3, "RGB": 3, "RGBA": 3, "CMYK": 3, "YCbCr": 3}


def decode(
    pictures: Iterable[tuple[str, Image]],
    count: int,
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: Channels | None = None,
) -> np.ndarray:
    """Turn pictures into one `uint8` array `(count, C, H, W)`.

    Arguments:
        pictures: Names, for messages, and pictures of 8 bits a channel; transparency is dropped.
        count: How many there are.
        image_size: Side, or `(height, width)`, to which all are resized; `None` asks that all are of one size.
        channels: 1 for grey, 3 for colour; `None` asks that all are alike.

    Raises:
        DataError: A picture differs from the first in size or channels, or is not of 8 bits a channel, or they do not
            fit in memory.
        InvalidInputError: The size or the channels are no such numbers.
    """
    size = size_pair(image_size)
    if channels not in (None, 1, 3) or isinstance(channels, bool):
        raise InvalidInputError(complaint("channels", "1, 3 or None", repr(channels)))
    stack = np.empty((count, 0, 0, 0), np.uint8)
    for row, (name, picture) in enumerate(pictures):
        pixels = _pixels(name, picture, size, channels)
        if row == 0:
            require_memory(f"{count} pictures like {name}", count * pixels.size)
            stack = np.empty((count, *pixels.shape), np.uint8)
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


def _pixels(name: str, picture: Image, size: tuple[int, int] | None, channels: Channels | None) -> np.ndarray:
    with needing("vision"):
        from PIL.Image import Resampling

    own_channels = CHANNELS_OF_MODE.get(getattr(picture, "mode", ""))
    if own_channels is None:
        got = f"mode {getattr(picture, 'mode', type(picture).__name__)}"
        raise DataError(complaint(name, "a grey or colour picture of 8 bits a channel", got, "Convert it first."))
    picture = picture.convert("L" if (channels or own_channels) == 1 else "RGB")
    if size is not None:
        height, width = size
        picture = picture.resize((width, height), Resampling.BILINEAR)
    return np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)
