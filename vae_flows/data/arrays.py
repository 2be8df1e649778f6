"""Arrays of any usual layout and dtype, turned once into a data set of packed bits or grey levels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vae_flows.call_stack import warn
from vae_flows.data.data_set import DataSet
from vae_flows.data.images import TOP_LEVEL, Images, ImageShape, Pixels, require_image_shape
from vae_flows.data.inputs import as_label_tensor
from vae_flows.data.splits import SPLITS
from vae_flows.errors import InvalidInputError, complaint

__all__ = ["channels_first", "fixed_binarization", "from_arrays", "require_binary"]

BINARIZATION_SEED = 777
CHANNELS = (1, 3)
ROUNDING = 1e-6
"""How far from the range floating-point values may lie: a few roundings of single precision."""
DARK = 0.5
"""A split whose brightest pixel is darker than this part of white is told of."""


def from_arrays(
    train: ArrayLike | Tensor,
    validation: ArrayLike | Tensor,
    test: ArrayLike | Tensor,
    *,
    image_shape: ImageShape | None = None,
    pixels: Pixels | None = None,
    white: float | None = None,
    labels: Sequence[ArrayLike | Tensor | None] = (None, None, None),
    name: str = "arrays",
    description: str = "arrays given in memory",
) -> DataSet:
    """Build a data set from three arrays or tensors.

    White is `True`, 255 for integers (1 where no split has any above 1), and 1 for floating point, unless `white` says
    otherwise; black is 0. Values are rounded to the nearest of 256 levels, at most 1/510 of white off. A split that
    never comes half as bright as white is warned of: its white may be another. Grey levels taken as binary pixels are
    binarised dynamically for training and once, with seed 777, for validation and test, as the literature does.

    Arguments:
        train: Training images `(N, H, W)`, `(N, C, H, W)`, `(N, H, W, C)` with C of 1 or 3, or `(N, P)`.
        validation: Validation images, in the same layout.
        test: Test images, in the same layout.
        image_shape: `(C, H, W)`; needed for `(N, P)`, P = C·H·W.
        pixels: `"binary"` or `"grey"`; by default binary only where the values are.
        white: The value of white, such as 16 for levels 0 … 16; all values lie between it and 0.
        labels: Integers `(N,)` of the three splits, or `None` each.
        name: Name of the data set.
        description: Its origin and split.

    Raises:
        InvalidInputError: A wrong layout, dtype or size, no images, values that are not finite or out of range, or
            splits of integers of which some are bits and some are levels.

    Warns:
        UserWarning: A split is dark throughout.

    Example:
        >>> images = np.random.default_rng(0).random((10, 8, 8))
        >>> data = from_arrays(images[:6], images[6:8], images[8:], pixels="binary")
        >>> data.train, data.test
        (Images(6 of 1×8×8, grey levels, dynamically binarised, cpu), Images(2 of 1×8×8, packed bits, cpu))
    """
    if not isinstance(pixels, str | None) or pixels not in (None, "binary", "grey"):
        raise InvalidInputError(complaint(f"{name} pixels", "'binary', 'grey' or None", repr(pixels)))
    if not isinstance(labels, list | tuple) or len(labels) != len(SPLITS):
        got = len(labels) if isinstance(labels, list | tuple) else repr(labels)
        raise InvalidInputError(complaint(f"{name} labels", "one entry for each of three splits", got))
    if white is not None and (isinstance(white, bool) or not isinstance(white, int | float) or not 0 < white < np.inf):
        raise InvalidInputError(complaint(f"{name} white", "a positive number or None", repr(white)))
    if image_shape is not None:
        image_shape = require_image_shape(name, image_shape)
    subjects = [f"{name} {split} images" for split in SPLITS]
    levels, shape, counts = _as_levels(subjects, (train, validation, test), image_shape, white)
    _warn_of_dark(subjects, levels)
    chosen: Pixels = pixels or ("binary" if all(_is_binary(split) for split in levels) else "grey")
    if chosen == "binary":
        levels[1:] = _binarize_grey(levels[1:])
    splits = [
        _images(split, shape, chosen, as_label_tensor(subject, label), count)
        for subject, split, label, count in zip(subjects, levels, labels, counts, strict=True)
    ]
    return DataSet(name, *splits, pixels=chosen, description=description)


def require_binary(name: str, pixels: Pixels | None) -> None:
    """Refuse grey pixels for a data set that has none.

    Raises:
        InvalidInputError: `pixels` is neither `None` nor `"binary"`.
    """
    if not isinstance(pixels, str | None) or pixels not in (None, "binary"):
        raise InvalidInputError(complaint(f"data set {name!r} pixels", "'binary', all that it has", repr(pixels)))


def fixed_binarization(*probabilities: np.ndarray) -> list[np.ndarray]:
    """Draw Bernoulli(p) once for each array in turn, from NumPy's legacy generator seeded with 777.

    That is how the literature fixes the validation and test images of dynamically binarised data sets.
    """
    generator = np.random.RandomState(BINARIZATION_SEED)
    return [generator.binomial(1, p).astype(bool) for p in probabilities]


def _as_levels(
    subjects: Sequence[str],
    splits: Sequence[ArrayLike | Tensor],
    image_shape: ImageShape | None,
    white: float | None,
) -> tuple[list[np.ndarray], ImageShape, list[int]]:
    """Turn splits of any layout and dtype into levels 0 … 255, `(N, P)` each.

    Returns:
        The levels, the shape of an image, and how many levels each split had before.
    """
    arrays = [
        channels_first(subject, _as_array(subject, split), image_shape)
        for subject, split in zip(subjects, splits, strict=True)
    ]
    channels, height, width = shape = arrays[0].shape[1:]
    for subject, array in zip(subjects, arrays, strict=True):
        if array.shape[1:] != shape:
            expected = f"images of shape {shape} as in training"
            raise InvalidInputError(complaint(subject, expected, array.shape[1:]))
    whites = [white or default for default in _whites(subjects, arrays, white is None)]
    levels = []
    for subject, array, top in zip(subjects, arrays, whites, strict=True):
        _check_values(subject, array, top)
        levels.append(_scaled(array, top).reshape(len(array), -1))
    counts = [levels_of(array, top) for array, top in zip(arrays, whites, strict=True)]
    return levels, (channels, height, width), counts


def levels_of(array: np.ndarray, white: float) -> int:
    """Return of how many levels from black to white an array's values are, at most the 256 that images have.

    Example:
        >>> levels_of(np.array([0, 3, 16]), 16), levels_of(np.array([0.1]), 1)
        (17, 256)
    """
    steps = int(white) if array.dtype.kind in "bui" and float(white).is_integer() else TOP_LEVEL
    return min(steps, TOP_LEVEL) + 1


def _whites(subjects: Sequence[str], arrays: Sequence[np.ndarray], guess: bool) -> list[int]:
    """Return the value of white of each array, where nothing else is said: integers are bits where none is above 1.

    Raises:
        InvalidInputError: One split of integers has bits and another has levels; to take the bits for levels would
            make them black.
    """
    highest = [int(array.max()) if array.dtype.kind in "ui" else None for array in arrays]
    top = max((value for value in highest if value is not None), default=1)
    if guess and top > 1:
        for subject, value in zip(subjects, highest, strict=True):
            if value == 1:
                expected = f"levels, as other splits have them, up to {top}"
                remedy = "Multiply these by 255 (or give them as booleans), or pass white= if 1 is nearly black."
                raise InvalidInputError(complaint(subject, expected, "values 0 and 1 alone", remedy))
    return [1 if value is None or top <= 1 else TOP_LEVEL for value in highest]


def _as_array(subject: str, values: ArrayLike | Tensor) -> np.ndarray:
    try:
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = values.float() if values.dtype == torch.bfloat16 else values
        array = np.asarray(values)
    except ValueError as error:
        raise InvalidInputError(complaint(subject, "one array", f"rows that differ in size ({error})")) from error
    except (TypeError, RuntimeError) as error:  # sparse, on the meta device, without a counterpart in NumPy
        raise InvalidInputError(complaint(subject, "a dense array of numbers", f"{error}")) from error
    if array.dtype.kind not in "bufi":
        raise InvalidInputError(complaint(subject, "booleans, integers or floating point", f"dtype {array.dtype}"))
    if array.size == 0:
        raise InvalidInputError(complaint(subject, "at least one image", f"an array of shape {array.shape}"))
    return array


def channels_first(subject: str, array: np.ndarray, image_shape: ImageShape | None) -> np.ndarray:
    """Bring an array of any layout that `from_arrays` takes to `(N, C, H, W)`.

    Raises:
        InvalidInputError: It has another layout, or other images than `image_shape`.
    """
    given = array.shape
    if image_shape is not None and given[1:] in (tuple(image_shape), (math.prod(image_shape),)):
        return array.reshape(-1, *image_shape)
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and given[1] not in CHANNELS:
        array = array.transpose(0, 3, 1, 2)
    if image_shape is not None and array.shape[1:] != tuple(image_shape):
        raise InvalidInputError(complaint(subject, f"images of shape {tuple(image_shape)}", f"an array of {given}"))
    if image_shape is None and (array.ndim != 4 or array.shape[1] not in CHANNELS):
        raise InvalidInputError(
            complaint(
                subject,
                "shape (N, H, W), (N, C, H, W) or (N, H, W, C) with C of 1 or 3",
                given,
                "For flat images (N, P), or other channels, pass image_shape=(C, H, W).",
            )
        )
    return array


def _check_values(subject: str, array: np.ndarray, white: float) -> None:
    if array.dtype.kind == "b":
        return
    if not np.isfinite(array).all():
        raise InvalidInputError(complaint(subject, "finite values", f"{(~np.isfinite(array)).sum()} that are not"))
    low, high = array.min(), array.max()
    slack = ROUNDING * white if array.dtype.kind == "f" else 0
    if low < -slack or high > white + slack:
        raise InvalidInputError(
            complaint(
                subject,
                f"{array.dtype} values from 0 to {white:g}",
                f"{low:.9g} to {high:.9g}",
                "Floating-point values are fractions of white, integers levels from 0 to 255; pass white= for others.",
            )
        )


def _scaled(array: np.ndarray, white: float) -> np.ndarray:
    """Return levels 0 … 255 of checked values from 0 to `white`."""
    if array.dtype.kind == "b" or (array.dtype.kind in "ui" and white in (1, TOP_LEVEL)):
        levels = array.astype(np.uint8)
        return levels if white == TOP_LEVEL and array.dtype.kind != "b" else levels * np.uint8(TOP_LEVEL)
    wide = np.result_type(array.dtype, np.float32)
    scaled = np.multiply(array, TOP_LEVEL / white, dtype=wide)
    return np.rint(scaled, out=scaled).clip(0, TOP_LEVEL, out=scaled).astype(np.uint8)


def _warn_of_dark(subjects: Sequence[str], splits: Sequence[np.ndarray]) -> None:
    brightest = [int(levels.max()) for levels in splits]
    dark = [f"{subject} {top}" for subject, top in zip(subjects, brightest, strict=True) if top < DARK * TOP_LEVEL]
    if dark:
        warn(
            f"The brightest of levels 0 … 255 is low: {', '.join(dark)}. If that is white, pass white= with its value "
            "in the arrays (or scale them, and look at transparency and bit depth of pictures)."
        )


def _is_binary(levels: np.ndarray) -> bool:
    return bool(((levels == 0) | (levels == TOP_LEVEL)).all())


def _binarize_grey(splits: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Fix the binarisation of those splits that have grey levels; binary ones stay and use up no draws."""
    grey = {index: levels for index, levels in enumerate(splits) if not _is_binary(levels)}
    drawn = fixed_binarization(*(levels / TOP_LEVEL for levels in grey.values()))
    bits = dict(zip(grey, drawn, strict=True))
    return [_scaled(bits[index], 1) if index in bits else levels for index, levels in enumerate(splits)]


def _images(levels: np.ndarray, image_shape: ImageShape, pixels: Pixels, labels: Tensor | None, count: int) -> Images:
    packed = pixels == "binary" and _is_binary(levels)
    return Images(
        torch.from_numpy(np.packbits(levels != 0, axis=1) if packed else levels),
        image_shape,
        packed=packed,
        dynamic_binarization=pixels == "binary" and not packed,
        labels=labels,
        levels=count if pixels == "grey" else None,
    )
