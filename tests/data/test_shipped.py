import hashlib

import numpy as np
import pytest
import torch

from tests.seeds import torch_generator
from vae_flows.data import load, shipped
from vae_flows.errors import DataError, InvalidInputError

STANDARD_ERRORS = 5.0  # false-alarm rate 6e-7 a comparison

SIZES = {
    "mnist-static": (50_000, 10_000, 10_000),
    "caltech101-silhouettes": (4_100, 2_264, 2_307),
    "frey-faces": (1_565, 200, 200),
    "omniglot": (23_000, 1_345, 8_115),
}
# SHA-256 of the test images as bytes, one per pixel (0 and 1, or grey levels)
TEST_IMAGES = {
    "mnist-static": "ca0294c3b8d984c7a1dc891015a8eea6f37bae59a34e35ea0fc8c47110a8dd86",
    "caltech101-silhouettes": "36fc4a2cc67cf73f78af709ed2228bdd1eb9feb6567b0b6a15fe2c80f83eab3f",
    "frey-faces": "330344e6421f91afd5fcc176cb73ca1c79a6abecc8f6ea88eb6ba7e516df25e5",
    "omniglot": "d4cbac298b64a20a71d112ee1b6bb4f1f1fddf591e354c77b6d229ad6c72f968",
}


@pytest.fixture(scope="module", params=SIZES)
def data(request):
    return load(request.param)


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def levels(images, top=255):
    return (images.batch() * top).round().to(torch.uint8).numpy()


def test_splits_have_the_documented_sizes(data):
    assert (len(data.train), len(data.validation), len(data.test)) == SIZES[data.name]
    assert data.image_shape == ((1, 28, 20) if data.name == "frey-faces" else (1, 28, 28))
    assert data.pixels == ("grey" if data.name == "frey-faces" else "binary")


def test_test_images_are_the_golden_ones(data):
    assert digest(levels(data.test, 1 if data.pixels == "binary" else 255)) == TEST_IMAGES[data.name]


def test_images_are_in_the_unit_interval(data):
    batch = data.train.batch(slice(0, 100))
    assert batch.min() >= 0
    assert batch.max() <= 1
    assert 0 < batch.mean() < 1


@pytest.mark.parametrize(
    ("split", "sha256"),
    [
        ("train", "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
        ("validation", "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
        ("test", "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
    ],
)
def test_static_mnist_is_the_published_text_files(split, sha256):
    bits = levels(getattr(load("mnist-static"), split), 1).reshape(-1, 784)
    text = np.full((len(bits), 2 * 784), ord(" "), np.uint8)
    text[:, ::2] = ord("0") + bits
    text[:, -1] = ord("\n")
    assert digest(text) == sha256


def test_silhouettes_are_upright_objects_of_ones():
    data = load("caltech101-silhouettes")
    train = data.train.batch()[:, 0]
    stored = shipped._read("caltech101_silhouettes_28_split1.npz")
    assert train.mean() < 0.5
    corners = train[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.mean() < 0.1
    column_by_column = np.unpackbits(stored["train"][7]).reshape(28, 28)
    np.testing.assert_array_equal(train[7].numpy(), 1 - column_by_column.T)
    # Class 2 is faces, seen from the front: symmetric about the vertical axis, narrower below than above.
    assert data.train.labels is not None
    faces = train[data.train.labels == 2]
    asymmetry_left_right = (faces - faces.flip(2)).abs().mean()
    asymmetry_up_down = (faces - faces.flip(1)).abs().mean()
    assert asymmetry_left_right < asymmetry_up_down


def test_silhouettes_carry_their_classes():
    data = load("caltech101-silhouettes")
    for images in (data.train, data.validation, data.test):
        assert images.labels is not None
        assert (images.labels.min(), images.labels.max()) == (1, 101)


@pytest.mark.parametrize("seed", [None, 321])
def test_frey_faces_are_shuffled_as_in_the_benchmark(seed):
    faces = shipped._read("freyfaces.npz")["data"]
    np.random.RandomState(seed or 123).shuffle(faces)
    data = load("frey-faces", split_seed=seed)
    for images, expected in (
        (data.train, faces[:1565]),
        (data.validation, faces[1565:1765]),
        (data.test, faces[1765:]),
    ):
        np.testing.assert_array_equal(images.storage.numpy(), expected)


def test_omniglot_is_drawn_anew_for_training_and_says_that_the_split_is_its_own():
    data = load("omniglot")
    stored = shipped._read("omniglot_28.npz")
    generator = np.random.RandomState(777)
    validation = stored["train"][np.random.RandomState(123).permutation(24_345)[-1345:]]
    for images, expected in ((data.validation, validation), (data.test, stored["test"])):
        np.testing.assert_array_equal(images.batch().flatten(1).numpy(), generator.binomial(1, expected / 255))
    p = data.train.storage.double() / 255
    drawn = data.train.batch(generator=torch_generator()).double()
    standard_error = (p * (1 - p)).sum().sqrt() / p.numel()
    assert abs(drawn.mean() - p.mean()) < STANDARD_ERRORS * standard_error
    assert "own split and reduction" in data.description
    assert "not the same images" in data.description


def test_omniglot_can_be_had_as_grey_levels_and_by_another_seed():
    data = load("omniglot", pixels="grey", split_seed=1)
    assert data.pixels == "grey"
    np.testing.assert_array_equal(data.test.storage.numpy(), shipped._read("omniglot_28.npz")["test"])
    assert not torch.equal(data.validation.storage, load("omniglot", pixels="grey").validation.storage)


@pytest.mark.parametrize("name", ["mnist-static", "caltech101-silhouettes"])
def test_binary_data_have_no_grey_levels(name):
    assert load(name, pixels="binary").pixels == "binary"
    with pytest.raises(InvalidInputError, match=f"data set '{name}' pixels: expected 'binary', all that it has"):
        load(name, pixels="grey")


def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    content = bytearray((shipped.FOLDER / "freyfaces.npz").read_bytes())
    content[1000] ^= 1
    (tmp_path / "freyfaces.npz").write_bytes(content)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    actual = hashlib.sha256(content).hexdigest()
    with pytest.raises(
        DataError, match=rf"freyfaces.npz: expected sha256 {shipped.SHA256['freyfaces.npz']}, got {actual}\. Reinstall"
    ):
        load("frey-faces")


def test_a_missing_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    with pytest.raises(DataError, match=r"mnist_static.npz: expected a file of the package.*Reinstall"):
        load("mnist-static")


def test_the_readme_names_the_files_and_checksums():
    text = (shipped.FOLDER / "README.md").read_text(encoding="utf-8")
    for file, sha256 in shipped.SHA256.items():
        assert f"| `{file}` | `{sha256}` |" in text
