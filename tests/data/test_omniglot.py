import hashlib

import numpy as np
import pytest
from scipy.io import savemat

from tests.seeds import numpy_generator
from vae_flows.data import load, omniglot
from vae_flows.errors import DataError, InvalidInputError

ROUNDING = 0.5 / 255 + 1e-7  # half a grey level, and float32

TRAIN, TEST, VALIDATION = 20, 7, 5


@pytest.fixture
def arrays():
    generator = numpy_generator()
    # Probabilities as published: many pixels are exactly 0 or 1, the others grey.
    draw = [np.clip(generator.normal(0.3, 0.5, (784, count)), 0, 1) for count in (TRAIN, TEST)]
    return {"data": draw[0], "testdata": draw[1], "target": np.zeros((50, TRAIN))}


@pytest.fixture
def chardata(tmp_path, arrays, monkeypatch):
    path = tmp_path / "chardata.mat"
    savemat(path, arrays, do_compression=True)
    monkeypatch.setattr(omniglot, "MD5", hashlib.md5(path.read_bytes()).hexdigest())
    monkeypatch.setattr(omniglot, "VALIDATION", VALIDATION)
    monkeypatch.setattr(omniglot, "URL", path.as_uri())
    return path


def as_in_the_literature(arrays, seed):
    """Reshape, shuffle, hold out and binarise step by step, as the code published with the papers does."""

    def reshape(columns) -> np.ndarray:
        return columns.T.astype("float32").reshape((-1, 28, 28)).reshape((-1, 784), order="F")

    train, test = reshape(arrays["data"]), reshape(arrays["testdata"])
    np.random.RandomState(seed).shuffle(train)
    generator = np.random.RandomState(777)
    validation = generator.binomial(1, train[-VALIDATION:])
    return train[:-VALIDATION], validation, generator.binomial(1, test)


@pytest.mark.parametrize("seed", [None, 9])
def test_images_are_the_literatures(chardata, arrays, seed):
    data = load("omniglot-iwae", path=chardata, split_seed=seed)
    train, validation, test = as_in_the_literature(arrays, 123 if seed is None else seed)
    assert (data.pixels, data.image_shape) == ("binary", (1, 28, 28))
    assert data.train.dynamic_binarization
    assert np.abs(data.train.storage.numpy() / 255 - train).max() <= ROUNDING
    np.testing.assert_array_equal(data.validation.batch().flatten(1).numpy(), validation)
    np.testing.assert_array_equal(data.test.batch().flatten(1).numpy(), test)
    assert "at most 0.002 off" in data.description


def test_images_are_upright(chardata, arrays):
    test = load("omniglot-iwae", path=chardata).test.batch()[:, 0].numpy()
    ink = arrays["testdata"].T.reshape(-1, 28, 28)  # pixel 28 c + r of a column is row r, column c
    certain = (ink == 0) | (ink == 1)
    np.testing.assert_array_equal(test.transpose(0, 2, 1)[certain], ink[certain])


def test_the_file_is_fetched_once_and_then_read_from_the_cache(chardata, tmp_path):
    root = tmp_path / "cache"
    first = load("omniglot-iwae", root=root)
    chardata.unlink()
    again = load("omniglot-iwae", root=root, download=False)
    np.testing.assert_array_equal(first.test.storage.numpy(), again.test.storage.numpy())


def test_without_file_or_network_the_error_says_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"expected OMNIGLOT's chardata.mat, got .*chardata.mat: .*Pass path=…"):
        load("omniglot-iwae", root=tmp_path, download=False)
    with pytest.raises(DataError, match=r"expected OMNIGLOT's chardata.mat"):
        load("omniglot-iwae", path=tmp_path / "nowhere.mat")
    monkeypatch.setattr(omniglot, "URL", (tmp_path / "unplugged").as_uri())
    with pytest.raises(DataError, match=r"unplugged: expected a download.*place it at .*chardata\.mat"):
        load("omniglot-iwae", root=tmp_path)


def test_another_file_is_refused(chardata, tmp_path):
    other = tmp_path / "other.mat"
    other.write_bytes(chardata.read_bytes() + b"x")
    with pytest.raises(DataError, match=r"other.mat: expected md5 .*Pass the published chardata.mat"):
        load("omniglot-iwae", path=other)
    cached = tmp_path / "omniglot-iwae" / "chardata.mat"
    cached.parent.mkdir()
    cached.write_bytes(b"half")
    with pytest.raises(DataError, match=r"chardata.mat: expected md5 .*Delete it"):
        load("omniglot-iwae", root=tmp_path)


def test_grey_levels_are_refused(chardata):
    with pytest.raises(InvalidInputError, match="'omniglot-iwae' pixels: expected 'binary'"):
        load("omniglot-iwae", path=chardata, pixels="grey")
