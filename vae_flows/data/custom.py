"""A user's own data: `.npz`, `.npy` and `.csv` files, and folders of pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vae_flows.data.array_rows import ArrayFile
from vae_flows.data.arrays import CHANNELS, from_arrays, levels_of
from vae_flows.data.data_set import DataSet
from vae_flows.data.examples import Examples, TensorExamples
from vae_flows.data.images import TOP_LEVEL, ImageShape, Pixels
from vae_flows.data.inputs import as_label_tensor, as_tensor, require_finite_examples
from vae_flows.data.pictures import Channels, PictureFiles, decode, opened, white_of
from vae_flows.data.splits import SPLITS, Rows, Size, complete_splits
from vae_flows.data.streaming import StreamedExamples
from vae_flows.data.tables import read_table
from vae_flows.errors import DataError, InvalidInputError, complaint, unknown_name
from vae_flows.persistence.archives import fits_in_memory, map_npy, read_npz

__all__ = ["Kind", "image_folder", "npy_file", "npz_file", "table_file"]

Kind = Literal["images", "values"]
SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "val", "valid"),
    "test": ("test",),
}
LARGEST_LABEL = 2**53
"""Integers up to it are exact in double precision."""
WHOLE_NAMES = ("images", "data", "x", "arr_0")
WHOLE_OR_SPLITS = (
    "train, validation and test; or train and test; or all examples in one place (in an .npz, 'images' or 'x')"
)
SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_ENTRIES, MAX_DEPTH = 5_000_000, 32
"""Of a folder of pictures: one that has more is not what was meant, or has no end."""


def npz_file(
    path: Path,
    *,
    kind: Kind | None = None,
    pixels: Pixels | None = None,
    split_seed: int | None = None,
    validation_size: Size | None = None,
    test_size: Size | None = None,
    image_shape: ImageShape | None = None,
    white: float | None = None,
) -> DataSet:
    """Load an `.npz` file: arrays `train`, `validation` (or `val`) and `test`, or one array `images`, `data` or `x`.

    Integer `train_labels`, …, or `labels` go with them, if any; other arrays are refused, lest a misspelt name gives
    another split. Splits that are missing are held out of the training
    examples or of the one array, by default a tenth each.

    Arguments:
        path: The file.
        kind: `"images"`, as in `from_arrays`, or `"values"`, taken as they are. By default images where an option of
            images is set, or arrays have their layout and values: `(N, H, W)`, `(N, C, H, W)` or `(N, H, W, C)` with C
            of 1 or 3, of booleans, integers from 0 to 255, or fractions from 0 to 1.
        pixels: `"binary"` or `"grey"`, of images; by default binary only where the values are.
        split_seed: Of the shuffle that holds splits out.
        validation_size: Number or fraction of validation examples that are held out.
        test_size: Number or fraction of test examples that are held out.
        image_shape: `(C, H, W)` of flat images `(N, P)`.
        white: The value of white, as in `from_arrays`.

    Raises:
        DataError: The file is damaged, encrypted, too large once unpacked, holds objects (pickles), lacks the arrays,
            or has others.
        InvalidInputError: The arrays are not examples, labels are of another length, or the options do not fit.
    """
    names = [name for group in (*SPLIT_NAMES.values(), WHOLE_NAMES) for name in group]
    arrays = read_npz(path, (), optional=[*names, *(f"{name}_labels" for name in names), "labels"])
    given, used = {}, set()
    for split, names in {**SPLIT_NAMES, "whole": WHOLE_NAMES}.items():
        found = [name for name in names if name in arrays]
        if len(found) > 1:
            expected = f"one of {' or '.join(names)}"
            raise DataError(complaint(f"{path} arrays", expected, " and ".join(found), "Leave one out."))
        for name in found:
            of_labels = "labels" if split == "whole" else f"{name}_labels"
            given[split] = Rows(arrays[name], arrays.get(of_labels), f"{path} {name}")
            used |= {name, of_labels}
    if given and (left := sorted(arrays.keys() - used)):
        expected, remedy = "labels of the arrays that are there", "Name them like those: train_labels of train, …."
        raise DataError(complaint(f"{path} arrays", expected, f"also {', '.join(left)}", remedy))
    if not given:
        found = ", ".join(arrays) or "none"
        remedy = "Name them so: numpy.savez(path, images=…)."
        raise DataError(complaint(f"{path} arrays", WHOLE_OR_SPLITS, found, remedy))
    given = _whole_or_splits(path, given)
    sizes = {"split_seed": split_seed, "validation_size": validation_size, "test_size": test_size}
    options = {"pixels": pixels, "image_shape": image_shape, "white": white}
    if _are_images([rows.values for rows in given.values()], kind, options):
        return _images(path, given, options, sizes)
    return _values(path, {split: _as_examples(path, rows) for split, rows in given.items()}, options, sizes)


def npy_file(
    path: Path,
    *,
    kind: Kind | None = None,
    pixels: Pixels | None = None,
    split_seed: int | None = None,
    validation_size: Size | None = None,
    test_size: Size | None = None,
    image_shape: ImageShape | None = None,
    white: float | None = None,
    stream: bool | None = None,
    num_workers: int = 0,
) -> DataSet:
    """Load an `.npy` file of one array `(N, …)`, of which splits are held out, by default a tenth each.

    Arguments:
        path: The file.
        kind: `"images"` or `"values"`, as in `npz_file`; of a file that is streamed, fractions are values by default.
        pixels: `"binary"` or `"grey"`, of images.
        split_seed: Of the shuffle that holds splits out.
        validation_size: Number or fraction of validation examples that are held out.
        test_size: Number or fraction of test examples that are held out.
        image_shape: `(C, H, W)` of flat images `(N, P)`.
        white: The value of white, as in `from_arrays`.
        stream: Whether to read batches from the file instead of loading it, by default where it does not fit in memory.
        num_workers: Processes that read ahead, where it is streamed.

    Raises:
        DataError: The file is damaged, holds objects (pickles), or does not fit in memory.
        InvalidInputError: The array has no examples, or the options do not fit.
    """
    array = map_npy(path)
    sizes = {"split_seed": split_seed, "validation_size": validation_size, "test_size": test_size}
    options = {"pixels": pixels, "image_shape": image_shape, "white": white}
    if stream is False or (stream is None and fits_in_memory(array.nbytes)):
        _require_no_workers(path, num_workers)
        rows = Rows(np.array(array))
        if _are_images([rows.values], kind, options):
            return _images(path, {"train": rows}, options, sizes)
        return _values(path, {"train": _as_examples(path, rows)}, options, sizes)
    known = array.dtype.kind == "b" or array.dtype == np.uint8
    images = kind == "images" or (kind is None and (_any(options) or (known and _has_image_layout(array))))
    top = (white or (TOP_LEVEL if array.dtype.kind in "ui" else 1)) if images else None
    source = ArrayFile(path, white=top, image_shape=image_shape)
    examples = StreamedExamples(source, num_workers, levels=None if top is None else levels_of(array, top))
    return _streamed(path, {"train": examples}, pixels, sizes, images=images)


def table_file(
    path: Path,
    *,
    split_seed: int | None = None,
    validation_size: Size | None = None,
    test_size: Size | None = None,
    label_column: str | None = None,
) -> DataSet:
    """Load a `.csv` file of numbers, with or without a header, an example a line; splits are held out of it.

    Arguments:
        path: The file, comma-separated.
        split_seed: Of the shuffle that holds splits out.
        validation_size: Number or fraction of validation examples that are held out.
        test_size: Number or fraction of test examples that are held out.
        label_column: The column of integer labels, by its name, or by its number from 1 without a header.

    Raises:
        DataError: The file is no table of finite numbers; the message names line and column.
        UnknownNameError: There is no such column.
        InvalidInputError: Labels are no integers, or the options do not fit.
    """
    columns, values = read_table(path)
    labels = None
    if label_column is not None:
        if label_column not in columns:
            raise unknown_name(f"label column of {path}", label_column, columns)
        if columns.count(label_column) > 1:
            got = f"{columns.count(label_column)} of that name"
            raise InvalidInputError(complaint(f"label column {label_column!r} of {path}", "one", got, "Rename them."))
        place = columns.index(label_column)
        labels, values = values[:, place], np.delete(values, place, axis=1)
        if not (labels == np.rint(labels)).all():
            raise InvalidInputError(complaint(f"label column of {path}", "integers", "fractions"))
        if (largest := np.abs(labels).max()) > LARGEST_LABEL:
            raise InvalidInputError(complaint(f"label column of {path}", f"integers up to {LARGEST_LABEL}", largest))
        labels = labels.astype(np.int64)
    sizes = {"split_seed": split_seed, "validation_size": validation_size, "test_size": test_size}
    return _values(path, {"train": _as_examples(path, Rows(values, labels))}, {}, sizes)


def image_folder(
    path: Path,
    *,
    pixels: Pixels | None = None,
    split_seed: int | None = None,
    validation_size: Size | None = None,
    test_size: Size | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: Channels | None = None,
    stream: bool | None = None,
    num_workers: int = 0,
) -> DataSet:
    """Load a folder of PNG and JPEG pictures: sub-folders `train`, `validation` (or `val`) and `test`, or all in one.

    Splits that are missing are held out, by default a tenth each. Pictures are turned as their EXIF data say. Links to
    folders below are not followed. Grey pictures of 16 bits are values from 0 to 1 in full precision, unless `pixels`
    asks for images of 256 levels.

    Arguments:
        path: The folder; pictures may lie in sub-folders of a split.
        pixels: `"binary"` or `"grey"`; by default binary only where the pictures are black and white.
        split_seed: Of the shuffle that holds splits out.
        validation_size: Number or fraction of validation examples that are held out.
        test_size: Number or fraction of test examples that are held out.
        image_size: Side, or `(height, width)`, to which all pictures are resized.
        channels: 1 or 3, to convert all pictures to grey or colour.
        stream: Whether to decode pictures when their batch is due, by default where they do not fit in memory. Black
            and white ones are grey then.
        num_workers: Processes that decode ahead, where they are streamed.

    Raises:
        DataError: A picture is damaged or no regular file, or they differ in size or channels, or there are none.
        InvalidInputError: The options do not fit.
    """
    files = _picture_files(path)
    everything = [file for group in files.values() for file in group]
    sizes = {"split_seed": split_seed, "validation_size": validation_size, "test_size": test_size}
    first = decode(opened(everything[:1]), 1, image_size=image_size, channels=channels)
    deep = first.dtype == np.uint16
    if stream or (stream is None and not fits_in_memory(first.nbytes * len(everything))):
        sources = {split: PictureFiles(group, image_size, channels) for split, group in files.items()}
        levels = white_of(first) + 1
        examples = {split: StreamedExamples(source, num_workers, levels=levels) for split, source in sources.items()}
        return _streamed(path, _whole_or_splits(path, examples), pixels, sizes, images=not deep or pixels is not None)
    _require_no_workers(path, num_workers)
    pixel_array = decode(opened(everything), len(everything), image_size=image_size, channels=channels)
    ends = np.cumsum([len(group) for group in files.values()])[:-1]
    parts = dict(zip(files, np.split(pixel_array, ends), strict=True))
    if deep and pixels is None:
        scaled = {split: part.astype(np.float32) / np.float32(white_of(part)) for split, part in parts.items()}
        levels = white_of(pixel_array) + 1
        given = {split: TensorExamples(as_tensor(str(path), part), levels=levels) for split, part in scaled.items()}
        return _values(path, _whole_or_splits(path, given), {}, sizes)
    given = _whole_or_splits(path, {split: Rows(values) for split, values in parts.items()})
    return _images(path, given, {"pixels": pixels, "white": white_of(pixel_array) if deep else None}, sizes)


def _whole_or_splits(path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is given by split, all of it as training examples where it is not split."""
    if set(given) not in ({"whole"}, {"train", "test"}, set(SPLITS)):
        raise DataError(complaint(str(path), WHOLE_OR_SPLITS, ", ".join(given)))
    return {"train": given["whole"]} if "whole" in given else dict(given)


def _images(path: Path, given: Mapping[str, Rows], options: Mapping[str, Any], sizes: Mapping[str, Any]) -> DataSet:
    splits = complete_splits(str(path), given, **sizes)
    train, validation, test = (splits[split] for split in SPLITS)
    return from_arrays(
        train.values,
        validation.values,
        test.values,
        **options,
        labels=(train.labels, validation.labels, test.labels),
        name=path.stem,
        description=_description(path, given),
    )


def _values(path: Path, given: Mapping[str, Examples], options: Mapping[str, Any], sizes: Mapping[str, Any]) -> DataSet:
    """Build a data set of examples that are no images, of which the options of images say nothing."""
    if _any(options):
        idle = ", ".join(option for option, value in options.items() if value is not None)
        raise InvalidInputError(complaint(f"{path}, taken as values", "no option of images", idle, "Leave it out."))
    return _of_examples(path, given, None, sizes)


def _streamed(
    path: Path, given: Mapping[str, Examples], pixels: Pixels | None, sizes: Mapping[str, Any], *, images: bool
) -> DataSet:
    if pixels == "binary":
        remedy = "Binarise them before, or pass stream=False."
        raise InvalidInputError(complaint(f"{path}, read batch by batch", "grey pixels", repr(pixels), remedy))
    return _of_examples(path, given, "grey" if images else None, sizes)


def _of_examples(path: Path, given: Mapping[str, Examples], pixels: Pixels | None, sizes: Mapping[str, Any]) -> DataSet:
    splits = complete_splits(str(path), given, **sizes)
    train, validation, test = (splits[split] for split in SPLITS)
    return DataSet(path.stem, train, validation, test, pixels=pixels, description=_description(path, given))


def _description(path: Path, given: Mapping[str, Any]) -> str:
    return f"{path.name}, {'its own splits' if set(given) == set(SPLITS) else 'split by seed'}"


def _as_examples(path: Path, rows: Rows) -> TensorExamples:
    values = as_tensor(str(path), rows.values)
    if values.numel():
        require_finite_examples(str(path), values)
    return TensorExamples(values, as_label_tensor(str(path), rows.labels))


def _are_images(arrays: list[np.ndarray], kind: Kind | None, options: Mapping[str, Any]) -> bool:
    """Say whether arrays are images: where that is said, an option of images is set, or they look like it."""
    if kind not in (None, "images", "values"):
        raise unknown_name("kind of data", kind, ("images", "values"))
    if kind is not None:
        return kind == "images"
    return _any(options) or all(_has_image_layout(array) and _has_image_values(array) for array in arrays)


def _has_image_layout(array: np.ndarray) -> bool:
    return array.ndim == 3 or (array.ndim == 4 and (array.shape[1] in CHANNELS or array.shape[3] in CHANNELS))


def _has_image_values(array: np.ndarray) -> bool:
    if array.dtype.kind == "b" or array.dtype == np.uint8 or not array.size:
        return True
    if array.dtype.kind not in "uif":
        return False
    return bool(array.min() >= 0 and array.max() <= (1 if array.dtype.kind == "f" else TOP_LEVEL))


def _any(options: Mapping[str, Any]) -> bool:
    return any(value is not None for value in options.values())


def _require_no_workers(path: Path, num_workers: int) -> None:
    if num_workers != 0:
        remedy = "Pass stream=True to read batches from the files, or leave num_workers out."
        raise InvalidInputError(complaint(f"{path} num_workers", "0 for data in memory", repr(num_workers), remedy))


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
