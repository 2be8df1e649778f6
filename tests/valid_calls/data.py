"""One valid call of every public callable of `vae_flows.data`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import vae_flows as vf
from tests.valid_calls.parts import (
    SHAPE,
    conditional,
    data_set,
    folder,
    latents,
    levels,
    rows,
)
from tests.wrong_values import ValidCall

__all__ = ["CALLS"]


def streamed() -> vf.data.StreamedExamples:
    return vf.data.StreamedExamples(rows())


def array_file() -> Path:
    place = folder() / "arrays.npy"
    np.save(place, np.arange(12 * 16, dtype=np.uint8).reshape(12, 16))
    return place


def table_file() -> Path:
    place = folder() / "table.csv"
    place.write_text("x,y,kind\n" + "".join(f"{row / 2},{-row},{row % 2}\n" for row in range(12)))
    return place


def picture_folder() -> Path:
    from PIL import Image

    place = folder()
    for index in range(12):
        Image.fromarray(np.full((5, 5), 20 * index, dtype=np.uint8)).save(place / f"{index}.png")
    return place


CALLS: dict[str, Callable[[], ValidCall]] = {
    "data.available_data_sets": lambda: ValidCall(vf.data.available_data_sets),
    "data.available_toys": lambda: ValidCall(vf.data.available_toys),
    "data.toy_density": lambda: ValidCall(vf.data.toy_density, {"name": "moons"}),
    "data.ToyDensity": lambda: ValidCall(
        vf.data.ToyDensity,
        {"name": "mine", "draw": lambda count, generator: torch.zeros(count, 2), "formula": conditional},
        lambda toy: toy.sample(3),
    ),
    "data.ToyDensity.log_density": lambda: ValidCall(vf.data.toy_density("moons").log_density, {"x": latents()}),
    "data.ToyDensity.sample": lambda: ValidCall(
        vf.data.toy_density("moons").sample, {"count": 3, "generator": torch.Generator()}
    ),
    "data.Images": lambda: ValidCall(
        vf.data.Images,
        {
            "storage": torch.zeros(3, 16, dtype=torch.uint8),
            "image_shape": SHAPE,
            "packed": False,
            "dynamic_binarization": False,
            "labels": torch.zeros(3, dtype=torch.int64),
        },
        lambda made: (made.batch(), made.take(2), repr(made)),
    ),
    "data.Images.batch": lambda: ValidCall(
        levels().batch, {"indices": torch.tensor([0, 1]), "generator": torch.Generator(), "dtype": torch.float32}
    ),
    "data.DataSet": lambda: ValidCall(
        vf.data.DataSet,
        {
            "name": "small",
            "train": levels(),
            "validation": levels(),
            "test": levels(),
            "pixels": "grey",
            "description": "a small one",
        },
    ),
    "data.TensorExamples": lambda: ValidCall(
        vf.data.TensorExamples, {"storage": torch.randn(3, 2), "labels": torch.zeros(3, dtype=torch.int64)}
    ),
    "data.TensorExamples.batch": lambda: ValidCall(
        rows().batch, {"indices": torch.tensor([0, 1]), "generator": torch.Generator(), "dtype": torch.float32}
    ),
    "data.TensorExamples.fingerprint": lambda: ValidCall(rows().fingerprint),
    "data.Examples.batch": lambda: CALLS["data.TensorExamples.batch"](),
    "data.Examples.batches": lambda: ValidCall(
        rows().batches,
        {"indices": [torch.tensor([0, 1])], "generator": None, "dtype": torch.float64},
        lambda made: list(made),
    ),
    "data.Examples.fingerprint": lambda: CALLS["data.TensorExamples.fingerprint"](),
    "data.Examples.select": lambda: ValidCall(rows().select, {"indices": torch.tensor([0, 1])}),
    "data.Examples.take": lambda: ValidCall(rows().take, {"count": 2}),
    "data.Examples.to": lambda: ValidCall(rows().to, {"device": "cpu"}),
    "data.Images.fingerprint": lambda: ValidCall(levels().fingerprint),
    "data.StreamedExamples": lambda: ValidCall(
        vf.data.StreamedExamples,
        {"source": rows(), "num_workers": 0, "positions": torch.tensor([0, 1]), "device": torch.device("cpu")},
        lambda made: (made.batch(), repr(made)),
    ),
    "data.StreamedExamples.batch": lambda: ValidCall(
        streamed().batch, {"indices": torch.tensor([0, 1]), "generator": torch.Generator(), "dtype": torch.float32}
    ),
    "data.StreamedExamples.batches": lambda: ValidCall(
        streamed().batches,
        {"indices": [torch.tensor([0, 1])], "generator": torch.Generator(), "dtype": torch.float64},
        lambda made: list(made),
    ),
    "data.StreamedExamples.fingerprint": lambda: ValidCall(streamed().fingerprint),
    "data.StreamedExamples.select": lambda: ValidCall(streamed().select, {"indices": torch.tensor([0, 1])}),
    "data.StreamedExamples.to": lambda: ValidCall(streamed().to, {"device": "cpu"}),
    "data.as_examples": lambda: ValidCall(
        vf.data.as_examples, {"data": torch.randn(3, 2), "labels": torch.zeros(3, dtype=torch.int64)}
    ),
    "data.as_data_set": lambda: ValidCall(
        vf.data.as_data_set,
        {
            "data": torch.randn(9, 2),
            "validation": 0.2,
            "test": 3,
            "split_seed": 1,
            "labels": torch.zeros(9, dtype=torch.int64),
            "name": "mine",
            "description": "made here",
            "standardize": True,
        },
    ),
    "data.DataSet.standardized": lambda: ValidCall(data_set().standardized),
    "data.from_arrays": lambda: ValidCall(
        vf.data.from_arrays,
        {
            "train": torch.rand(3, *SHAPE),
            "validation": torch.rand(3, *SHAPE),
            "test": torch.rand(3, *SHAPE),
            "image_shape": SHAPE,
            "pixels": "grey",
            "labels": (None, None, None),
            "name": "mine",
            "description": "made here",
        },
    ),
    "data.load": lambda: ValidCall(
        vf.data.load,
        {"name": "frey-faces", "root": None, "path": None, "pixels": None, "split_seed": None, "download": False},
        leave=("download",),
    ),
    "data.load of arrays": lambda: ValidCall(
        vf.data.load,
        {
            "name": array_file(),
            "kind": "images",
            "pixels": "grey",
            "split_seed": 1,
            "validation_size": 2,
            "test_size": 0.2,
            "image_shape": SHAPE,
            "white": 255.0,
            "stream": False,
        },
        lambda data: data.train.batch(),
    ),
    "data.load of streamed arrays": lambda: ValidCall(
        vf.data.load,
        {"name": array_file(), "kind": "values", "stream": True, "num_workers": 0},
        lambda data: data.train.batch([0]),
    ),
    "data.load of a table": lambda: ValidCall(
        vf.data.load,
        {
            "name": table_file(),
            "split_seed": 1,
            "validation_size": 2,
            "test_size": 2,
            "label_column": "kind",
            "standardize": True,
        },
        lambda data: data.train.batch(),
    ),
    "data.load of pictures": lambda: ValidCall(
        vf.data.load,
        {
            "name": picture_folder(),
            "pixels": "grey",
            "split_seed": 1,
            "validation_size": 2,
            "test_size": 2,
            "image_size": (4, 4),
            "channels": 1,
            "stream": True,
            "num_workers": 0,
        },
        lambda data: data.train.batch([0]),
    ),
}
