"""Any image data set of torchvision, by its name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vae_flows.data.arrays import channels_first, from_arrays
from vae_flows.data.data_set import DataSet
from vae_flows.data.images import Pixels
from vae_flows.data.pictures import Channels, decode
from vae_flows.data.sources import cache_folder, network_timeout
from vae_flows.data.splits import SPLITS, Rows, Size, complete_splits
from vae_flows.errors import DataError, complaint
from vae_flows.extras import needing

__all__ = ["torchvision_data_set", "torchvision_names"]

TRAINING_SPLITS = ("train", "trainval")
TEST_SPLITS = {"Imagenette": "val"}
VALIDATION_FRACTION = 1 / 6
"""Of the training images, for validation: 10,000 of MNIST's 60,000, as in the literature."""


def torchvision_names() -> tuple[str, ...]:
    """Return torchvision's data sets that can be loaded by name, in lower case; imports torchvision."""
    return tuple(sorted(_classes()))


def torchvision_data_set(
    name: str,
    *,
    root: Path | str | None = None,
    pixels: Pixels | None = None,
    split_seed: int | None = None,
    download: bool = True,
    validation_size: Size | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: Channels | None = None,
) -> DataSet:
    """Load a data set of torchvision; validation images are held out of its training images.

    Arguments:
        name: One of `torchvision_names`.
        root: Folder that torchvision keeps the data in; by default in the user's cache.
        pixels: `"binary"` (dynamic binarisation) by default for grey images, `"grey"` for colour.
        split_seed: Of the shuffle that chooses the validation images.
        download: Whether torchvision may fetch what is not there.
        validation_size: Number or fraction of validation images; by default a sixth of training.
        image_size: Side, or `(height, width)`, to which all images are resized.
        channels: 1 or 3, to convert all images to grey or colour.

    Raises:
        DataError: The data are not there, cannot be fetched, or are images of several sizes.

    Note:
        torchvision unpickles the files of CIFAR, after checking them against published MD5 sums.
    """
    source_class = _classes()[name]
    given = {}
    for split, arguments in _split_arguments(source_class).items():
        subject = f"torchvision's {source_class.__name__}, {split}"
        source = _open(source_class, subject, {"root": cache_folder(root), "download": download, **arguments})
        given[split] = _rows(subject, source, image_size, channels)
    splits = complete_splits(
        name,
        given,
        fraction=VALIDATION_FRACTION,
        split_seed=split_seed,
        validation_size=validation_size,
    )
    train, validation, test = (splits[split] for split in SPLITS)
    return from_arrays(
        train.values,
        validation.values,
        test.values,
        pixels=pixels or ("binary" if train.values.shape[1] == 1 else "grey"),
        labels=(train.labels, validation.labels, test.labels),
        name=name,
        description=f"torchvision's {source_class.__name__}; validation: {len(validation)} of its training "
        "images, chosen by seed",
    )


def _classes() -> dict[str, type]:
    """Find the classes that take root, download, transform and train or split, and need nothing else."""
    with needing("vision"):
        from torchvision import datasets

    found = (getattr(datasets, name) for name in datasets.__all__)
    classes = [item for item in found if isinstance(item, type) and _is_loadable(item)]
    return {item.__name__.lower(): item for item in classes}


def _is_loadable(source_class: type) -> bool:
    options = _options(source_class)
    required = [
        option.name
        for option in options.values()
        if option.default is option.empty and option.kind is option.POSITIONAL_OR_KEYWORD
    ]
    has_splits = "train" in options or _default(options, "split") in TRAINING_SPLITS
    return required == ["root"] and has_splits and {"download", "transform"} <= options.keys()


def _options(source_class: type) -> dict[str, inspect.Parameter]:
    """Return the options of a class, with its parent's where it passes on `**kwargs`."""
    own = dict(list(inspect.signature(source_class.__init__).parameters.items())[1:])
    passes_on = any(option.kind is option.VAR_KEYWORD for option in own.values())
    return {**_options(source_class.__mro__[1]), **own} if passes_on and source_class is not object else own


def _default(options: Mapping[str, inspect.Parameter], name: str) -> Any:
    return options[name].default if name in options else None


def _split_arguments(source_class: type) -> dict[str, dict[str, Any]]:
    options = _options(source_class)
    if "train" in options:
        return {"train": {"train": True}, "test": {"train": False}}
    training = _default(options, "split")
    return {"train": {"split": training}, "test": {"split": TEST_SPLITS.get(source_class.__name__, "test")}}


def _open(source_class: type, subject: str, arguments: dict[str, Any]) -> Any:
    try:
        with network_timeout():
            return source_class(**arguments)
    except Exception as error:  # each class fails in its own way: RuntimeError, ValueError, URLError, AssertionError, …
        root = arguments["root"]
        remedy = f"Allow its download, or place its files under {root}; delete files there that are damaged."
        raise DataError(complaint(subject, "readable files", f"{type(error).__name__} ({error})", remedy)) from error


def _rows(subject: str, source: Any, image_size: int | tuple[int, int] | None, channels: Channels | None) -> Rows:
    """Take all images at once where the data set holds them in an array, else decode them one by one."""
    data = getattr(source, "data", None)
    if isinstance(data, (np.ndarray, Tensor)) and image_size is None and channels is None:
        values = channels_first(subject, np.asarray(data), None)
    else:
        items = ((f"{subject}, image {index}", source[index][0]) for index in range(len(source)))
        values = decode(items, len(source), image_size=image_size, channels=channels)
    labels = np.asarray(getattr(source, "targets", getattr(source, "labels", None)))
    return Rows(values, labels if labels.shape == (len(values),) and labels.dtype.kind in "ui" else None)
