import struct
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.seeds import numpy_generator
from vae_flows.data import load, vision
from vae_flows.errors import DataError, InvalidInputError

RANDOM = numpy_generator()
TRAIN = RANDOM.integers(0, 256, (30, 28, 28), dtype=np.uint8)
TEST = RANDOM.integers(0, 256, (8, 28, 28), dtype=np.uint8)


def write_idx(path, array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


def write_mnist(folder):
    raw = folder / "raw"
    raw.mkdir(parents=True)
    for prefix, images in (("train", TRAIN), ("t10k", TEST)):
        write_idx(raw / f"{prefix}-images-idx3-ubyte", images)
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", np.arange(len(images), dtype=np.uint8))


@pytest.fixture
def root(tmp_path):
    for name in ("MNIST", "FashionMNIST", "KMNIST"):
        write_mnist(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", ["mnist", "MNIST", "FashionMNIST", "kmnist"])
def test_grey_images_are_binarised_dynamically_by_default(root, name):
    data = load(name, root=root, download=False)
    assert (data.name, data.pixels, data.image_shape) == (name.lower(), "binary", (1, 28, 28))
    assert (len(data.train), len(data.validation), len(data.test)) == (25, 5, 8)
    assert data.train.dynamic_binarization
    order = np.random.RandomState(123).permutation(30)
    np.testing.assert_array_equal(data.train.storage.numpy(), TRAIN[order[:25]].reshape(25, -1))
    assert data.train.labels is not None
    np.testing.assert_array_equal(data.train.labels.numpy(), order[:25])
    generator = np.random.RandomState(777)
    for images, levels in ((data.validation, TRAIN[order[25:]]), (data.test, TEST)):
        np.testing.assert_array_equal(images.batch()[:, 0].numpy(), generator.binomial(1, levels / 255))


def test_grey_levels_and_sizes_on_request(root):
    data = load("mnist", root=root, pixels="grey", validation_size=10, split_seed=4)
    assert (data.pixels, len(data.train), len(data.validation)) == ("grey", 20, 10)
    np.testing.assert_array_equal(data.test.storage.numpy(), TEST.reshape(8, -1))


def test_images_are_resized_on_request(root):
    data = load("mnist", root=root, image_size=14, pixels="grey")
    assert data.image_shape == (1, 14, 14)
    block_means = TEST.reshape(8, 14, 2, 14, 2).mean((2, 4))
    correlation = np.corrcoef(data.test.storage.numpy().ravel(), block_means.ravel())[0, 1]
    assert correlation > 0.9


class Colour:
    """What torchvision's data sets look like, with images channels last in `data`."""

    def __init__(self, root, split="train", transform=None, download=False) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"Unknown value {split!r}")
        count = 12 if split == "train" else 4
        self.data = numpy_generator(count).integers(0, 256, (count, 6, 5, 3), dtype=np.uint8)
        self.targets = list(range(count))


class Pictures:
    """A data set that decodes its images one by one and has no array of them."""

    def __init__(self, root, train=True, transform=None, download=False) -> None:
        self.pictures = [Image.fromarray(pixels) for pixels in Colour(root, "train" if train else "test").data]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index) -> tuple[Any, str]:
        return self.pictures[index], "a name"


class NotPictures(Pictures):
    def __getitem__(self, index) -> tuple[Any, str]:
        return "text", "a name"


@pytest.fixture
def classes(monkeypatch):
    found = {"colour": Colour, "pictures": Pictures, "notpictures": NotPictures}
    monkeypatch.setattr(vision, "_classes", lambda: found)


@pytest.mark.parametrize("name", ["colour", "pictures"])
@pytest.mark.usefixtures("classes")
def test_colour_images_are_grey_levels_by_default(name):
    data = load(name)
    assert (data.pixels, data.image_shape, len(data.validation)) == ("grey", (3, 6, 5), 2)
    expected = Colour("", "test").data.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(data.test.batch(dtype=torch.float64).numpy(), expected / 255)
    assert (data.train.labels is None) == (name == "pictures")


@pytest.mark.usefixtures("classes")
def test_colour_becomes_grey_on_request():
    data = load("pictures", channels=1)
    assert (data.pixels, data.image_shape) == ("binary", (1, 6, 5))


@pytest.mark.usefixtures("classes")
def test_items_that_are_no_pictures_are_refused():
    with pytest.raises(DataError, match=r"NotPictures, train, image 0: expected a picture of 8 bits.*mode str"):
        load("notpictures")


def test_names_are_those_of_classes_that_need_only_a_root():
    names = vision.torchvision_names()
    assert {"mnist", "fashionmnist", "kmnist", "qmnist", "cifar10", "svhn", "usps", "stl10"} <= set(names)
    assert not {"fakedata", "imagefolder", "emnist", "hmdb51", "omniglot", "visiondataset"} & set(names)


def test_missing_and_damaged_files_are_refused(root, tmp_path):
    with pytest.raises(DataError, match=r"torchvision's QMNIST, train: expected readable files, got RuntimeError"):
        load("qmnist", root=tmp_path, download=False)
    images = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"torchvision's MNIST, train: expected readable files.*delete files there"):
        load("mnist", root=root, download=False)


def test_options_that_do_not_fit_are_refused(root):
    with pytest.raises(InvalidInputError, match=r"mnist split: expected sizes.*leave some of 30 examples"):
        load("mnist", root=root, validation_size=30)
    with pytest.raises(InvalidInputError, match=r"data set 'mnist': expected options among .*got test_size"):
        load("mnist", root=root, test_size=3)
