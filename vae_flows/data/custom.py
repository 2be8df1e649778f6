"""A user's own data: an `.npz` file or a folder of pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vae_flows.data.arrays import from_arrays
from vae_flows.data.data_set import DataSet
from vae_flows.data.images import ImageShape, Pixels
from vae_flows.data.pictures import Channels, decode
from vae_flows.data.splits import SPLITS, Rows, Size, complete_splits
from vae_flows.errors import DataError, complaint
from vae_flows.extras import needing
from vae_flows.persistence.archives import read_npz

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["image_folder", "npz_file"]

SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "val", "valid"),
    "test": ("test",),
}
WHOLE_NAMES = ("images", "data")
SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_ENTRIES, MAX_DEPTH = 5_000_000, 32
"""Of a folder of pictures: one that has more is not what was meant, or has no end."""


def npz_file(
    path: Path,
    *,
    pixels: Pixels | None = None,
    split_seed: int | None = None,
    validation_size: Size | None = None,
    test_size: Size | None = None,
    image_shape: ImageShape | None = None,
    white: float | None = None,
) -> DataSet:
    """Load an `.npz` file: arrays `train`, `validation` (or `val`) and `test`, or one array `images` (or `data`).

    Arrays are as in `from_arrays`, with integer `train_labels`, …, or `labels`, if any. Splits that are missing are
    held out of the training images or of the one array, by default a tenth each.

    Arguments:
        path: The file.
        pixels: `"binary"` or `"grey"`; by default binary only where the values are.
        split_seed: Of the shuffle that holds splits out.
        validation_size: Number or fraction of validation examples that are held out.
        test_size: Number or fraction of test examples that are held out.
        image_shape: `(C, H, W)` of flat images `(N, P)`.
        white: The value of white, as in `from_arrays`.

    Raises:
        DataError: The file is damaged, encrypted, too large once unpacked, holds objects (pickles), or lacks the
            arrays.
        InvalidInputError: The arrays are not images, or the options do not fit them.
    """
    names = [name for group in (*SPLIT_NAMES.values(), WHOLE_NAMES) for name in group]
    arrays = read_npz(path, [*names, *(f"{name}_labels" for name in names), "labels"], all_needed=False)
    given = {}
    for split, names in {**SPLIT_NAMES, "whole": WHOLE_NAMES}.items():
        for name in names:
            if name in arrays:
                labels = arrays.get("labels" if split == "whole" else f"{name}_labels")
                given[split] = Rows(arrays[name], labels, f"{path} {name}")
    return _build(
        path,
        given,
        pixels=pixels,
        image_shape=image_shape,
        white=white,
        split_seed=split_seed,
        validation_size=validation_size,
        test_size=test_size,
    )


def image_folder(
    path: Path,
    *,
    pixels: Pixels | None = None,
    split_seed: int | None = None,
    validation_size: Size | None = None,
    test_size: Size | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: Channels | None = None,
) -> DataSet:
    """Load a folder of PNG and JPEG pictures: sub-folders `train`, `validation` (or `val`) and `test`, or all in one.

    Splits that are missing are held out, by default a tenth each. Pictures are turned as their EXIF data say. Links to
    folders below are not followed.

    Arguments:
        path: The folder; pictures may lie in sub-folders of a split.
        pixels: `"binary"` or `"grey"`; by default binary only where the pictures are black and white.
        split_seed: Of the shuffle that holds splits out.
        validation_size: Number or fraction of validation examples that are held out.
        test_size: Number or fraction of test examples that are held out.
        image_size: Side, or `(height, width)`, to which all pictures are resized.
        channels: 1 or 3, to convert all pictures to grey or colour.

    Raises:
        DataError: A picture is damaged or no regular file, or they differ in size or channels, there are none, or more
            than fit in memory.
        InvalidInputError: The options do not fit.
    """
    files = _picture_files(path)
    everything = [file for group in files.values() for file in group]
    pixel_array = decode(_opened(everything), len(everything), image_size=image_size, channels=channels)
    ends = np.cumsum([len(group) for group in files.values()])[:-1]
    given = {split: Rows(values) for split, values in zip(files, np.split(pixel_array, ends), strict=True)}
    return _build(
        path,
        given,
        pixels=pixels,
        split_seed=split_seed,
        validation_size=validation_size,
        test_size=test_size,
    )


def _build(
    path: Path,
    given: dict[str, Rows],
    *,
    pixels: Pixels | None,
    image_shape: ImageShape | None = None,
    white: float | None = None,
    split_seed: int | None,
    validation_size: Size | None,
    test_size: Size | None,
) -> DataSet:
    if set(given) not in ({"whole"}, {"train", "test"}, set(SPLITS)):
        raise DataError(
            complaint(
                str(path),
                "train, validation and test; or train and test; or all images in one place (in an .npz, 'images')",
                ", ".join(given) or "none of these",
            )
        )
    described = f"{path.name}, {'its own splits' if set(given) == set(SPLITS) else 'split by seed'}"
    if "whole" in given:
        given = {"train": given["whole"]}
    splits = complete_splits(
        str(path), given, split_seed=split_seed, validation_size=validation_size, test_size=test_size
    )
    train, validation, test = (splits[split] for split in SPLITS)
    return from_arrays(
        train.values,
        validation.values,
        test.values,
        image_shape=image_shape,
        pixels=pixels,
        white=white,
        labels=(train.labels, validation.labels, test.labels),
        name=path.stem,
        description=described,
    )


def _picture_files(folder: Path) -> dict[str, list[Path]]:
    """List the pictures of each split, or of the whole folder where no sub-folder has a split's name."""
    found = {
        split: [folder / name for name in names if (folder / name).is_dir()] for split, names in SPLIT_NAMES.items()
    }
    groups = {split: folders for split, folders in found.items() if folders} or {"whole": [folder]}
    files = {
        split: sorted(file for top in tops for file in _regular_files(top) if _is_picture(file))
        for split, tops in groups.items()
    }
    for split, pictures in files.items():
        if not pictures:
            raise DataError(complaint(f"{groups[split][0]}", f"pictures ({', '.join(SUFFIXES)})", "none"))
    return files


def _regular_files(top: Path) -> Iterator[Path]:
    """Find the files below a folder, which may be a link; links to folders below it are left alone.

    Raises:
        DataError: The folder cannot be read, has no end, or has a picture that is no file.
    """
    waiting, entries = [(top, 0)], 0
    try:
        while waiting:
            folder, depth = waiting.pop()
            with os.scandir(folder) as found:
                for entry in found:
                    entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((Path(entry.path), depth + 1))
                    elif entry.is_file():
                        yield Path(entry.path)
                    elif _is_picture(Path(entry.path)) and not entry.is_dir():
                        raise DataError(complaint(entry.path, "a picture", "a link to nowhere, a pipe or a device"))
            if entries > MAX_ENTRIES or depth > MAX_DEPTH:
                expected = f"at most {MAX_ENTRIES} files, in folders at most {MAX_DEPTH} deep"
                raise DataError(complaint(str(top), expected, "more", "Name the folder of the pictures alone."))
    except OSError as error:
        raise DataError(complaint(str(top), "a folder that can be read", str(error))) from error


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def _opened(files: Sequence[Path]) -> Iterator[tuple[str, Image]]:
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
