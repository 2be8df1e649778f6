"""Data sets by name or path."""

from __future__ import annotations

import inspect
import stat
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

from vae_flows.checks import described
from vae_flows.data.custom import Kind, image_folder, npy_file, npz_file, table_file
from vae_flows.data.data_set import DataSet
from vae_flows.data.images import ImageShape, Pixels
from vae_flows.data.omniglot import omniglot_iwae
from vae_flows.data.pictures import Channels
from vae_flows.data.shipped import caltech101_silhouettes, frey_faces, mnist_static, omniglot
from vae_flows.data.splits import Size
from vae_flows.data.vision import torchvision_data_set, torchvision_names
from vae_flows.errors import DataError, InvalidInputError, UnknownNameError, complaint, did_you_mean

__all__ = ["available_data_sets", "load"]

LOADERS: dict[str, Callable[..., DataSet]] = {
    "caltech101-silhouettes": caltech101_silhouettes,
    "frey-faces": frey_faces,
    "mnist-static": mnist_static,
    "omniglot": omniglot,
    "omniglot-iwae": omniglot_iwae,
}
"""The literature's data sets. Loaders that take `root` and `download` may use the network, the others never do."""


FILE_LOADERS: dict[str, Callable[..., DataSet]] = {".csv": table_file, ".npy": npy_file, ".npz": npz_file}


def available_data_sets() -> tuple[str, ...]:
    """Return the names that `load` takes, sorted: the literature's data sets and torchvision's.

    Example:
        >>> {"mnist-static", "omniglot", "fashionmnist"} <= set(available_data_sets())
        True
    """
    return tuple(sorted({*LOADERS, *torchvision_names()}))


def load(
    name: str | Path,
    *,
    root: Path | str | None = None,
    path: Path | str | None = None,
    kind: Kind | None = None,
    pixels: Pixels | None = None,
    split_seed: int | None = None,
    download: bool = True,
    validation_size: Size | None = None,
    test_size: Size | None = None,
    image_shape: ImageShape | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: Channels | None = None,
    white: float | None = None,
    label_column: str | None = None,
    stream: bool | None = None,
    num_workers: int | None = None,
    standardize: bool = False,
) -> DataSet:
    """Load a data set by name, from an `.npz`, `.npy` or `.csv` file, or from a folder of pictures.

    An option that the data set has no use for is refused, except `root` and `download`.

    Arguments:
        name: One of `available_data_sets`, in any case, or a path.
        root: Folder for downloaded files; by default `vae-flows` in the user's cache.
        path: Of `chardata.mat`, for `"omniglot-iwae"`.
        kind: Whether the arrays of a file are `"images"` or `"values"`, taken as they are; by default what they look
            like, as `npz_file` says.
        pixels: `"binary"` or `"grey"`; grey levels taken as binary pixels are binarised dynamically.
        split_seed: Of the shuffle that holds images out, for data sets without an official split.
        download: Whether files that are not there may be fetched.
        validation_size: Number of examples to hold out for validation, or their fraction, for torchvision's data sets
            and the user's own.
        test_size: Number of examples to hold out for the test, or their fraction, for the user's own.
        image_shape: `(C, H, W)` of flat images in an `.npz` or `.npy` file.
        image_size: Side, or `(height, width)`, to resize pictures to, for torchvision's data sets and folders.
        channels: 1 or 3, to convert pictures to grey or colour, for torchvision's data sets and folders.
        white: The value of white in an `.npz` or `.npy` file, such as 16 for levels 0 … 16; by default as in
            `from_arrays`.
        label_column: The column of labels in a `.csv` file, by its name in the header.
        stream: Whether to read batches from an `.npy` file or a folder instead of loading it; by default where it does
            not fit in memory.
        num_workers: Processes that read ahead, where data are streamed.
        standardize: Whether models see (x − mean) / standard deviation, of the training part. It becomes part of a
            model that is trained on the data, and is undone in whatever the model tells.

    Raises:
        UnknownNameError: Nothing has that name; the message lists the nearest ones.
        DataError: Files are missing, damaged or not what they should be.
        InvalidInputError: An option does not fit the data set.

    Example:
        >>> data = load("caltech101-silhouettes")
        >>> data.train, data.pixels
        (Images(4100 of 1×28×28, packed bits, cpu), 'binary')
    """
    if not isinstance(name, str | Path):
        raise InvalidInputError(complaint("data set", "a name or a path", repr(name)))
    for option, value in {"root": root, "path": path}.items():
        if not isinstance(value, str | Path | None):
            raise InvalidInputError(complaint(f"data set {str(name)!r} {option}", "a path or None", repr(value)))
    if stream is not None and not isinstance(stream, bool):
        raise InvalidInputError(complaint(f"data set {str(name)!r} stream", "True, False or None", repr(stream)))
    for option, value in {"download": download, "standardize": standardize}.items():
        if not isinstance(value, bool):
            raise InvalidInputError(complaint(f"data set {str(name)!r} {option}", "True or False", repr(value)))
    options = {
        "path": path,
        "kind": kind,
        "pixels": pixels,
        "split_seed": split_seed,
        "validation_size": validation_size,
        "test_size": test_size,
        "image_shape": image_shape,
        "image_size": image_size,
        "channels": channels,
        "white": white,
        "label_column": label_column,
        "stream": stream,
        "num_workers": num_workers,
    }
    for option, value in options.items():
        if not isinstance(value, str | Path | Real | tuple | list | None):  # loaders compare them with what they know
            got = described(value)
            raise InvalidInputError(complaint(f"data set {str(name)!r} {option}", "text, numbers or None", got))
    data = _call(_find(name), str(name), options, {"root": root, "download": download})
    return data.standardized() if standardize else data


def _find(name: str | Path) -> Callable[..., DataSet]:
    """Choose the loader; a name comes before a path, so that no folder of the same name hides a data set."""
    key = str(name).lower()
    try:
        path = Path(name).expanduser()
    except RuntimeError as error:  # there is no such user
        raise DataError(complaint(f"data set {str(name)!r}", "a path", f"{error}")) from error
    is_path = isinstance(name, Path) or path.suffix.lower() in FILE_LOADERS or path.name != str(name)
    if key in LOADERS and not is_path:
        return LOADERS[key]
    if not is_path and key in torchvision_names():
        return partial(torchvision_data_set, key)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        mode, got = None, "no such path" if missing else f"an error ({error})"
    else:
        got = "a device, a pipe or a socket"
    if mode is not None and stat.S_ISDIR(mode):
        return partial(image_folder, path)
    if mode is not None and stat.S_ISREG(mode):
        return partial(FILE_LOADERS.get(path.suffix.lower(), npz_file), path)
    if is_path or mode is not None:
        raise DataError(complaint(f"data set {str(name)!r}", "an .npz, .npy or .csv file or a folder of pictures", got))
    names = available_data_sets()
    expected = f"the path of a file or a folder, or one of {', '.join(names)}"
    raise UnknownNameError(complaint("data set", expected, repr(str(name)), did_you_mean(str(name), names)))


def _call(loader: Callable[..., DataSet], name: str, options: Mapping[str, Any], network: Mapping[str, Any]) -> DataSet:
    """Call a loader with the options that are set, all of which it must take, and those of the network, if it does."""
    taken = inspect.signature(loader).parameters
    chosen = {option: value for option, value in options.items() if value is not None}
    refused = sorted(chosen.keys() - taken.keys())
    if refused:
        usable = ", ".join(option for option in options if option in taken)
        raise InvalidInputError(complaint(f"data set {name!r}", f"options among {usable}", ", ".join(refused)))
    return loader(**chosen, **{option: value for option, value in network.items() if option in taken})
