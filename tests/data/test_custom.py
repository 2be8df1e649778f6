import pickle

import numpy as np
import pytest
import torch

from tests.data.picture_files import write_pictures
from tests.seeds import numpy_generator
from vae_flows.data import Images, StreamedExamples, TensorExamples, as_data_set, load
from vae_flows.data.splits import hold_out
from vae_flows.errors import DataError, InvalidInputError, UnknownNameError
from vae_flows.persistence import archives

LEVELS = numpy_generator().integers(0, 256, (20, 6, 5), dtype=np.uint8)


@pytest.mark.parametrize("validation", ["validation", "val", "valid"])
def test_an_npz_file_with_its_own_splits(tmp_path, validation):
    path = tmp_path / "mine.npz"
    np.savez_compressed(
        path, train=LEVELS[:10], **{validation: LEVELS[10:15], f"{validation}_labels": np.arange(5)}, test=LEVELS[15:]
    )
    data = load(path)
    assert (data.name, data.pixels, data.description) == ("mine", "grey", "mine.npz, its own splits")
    np.testing.assert_array_equal(data.validation.storage.numpy(), LEVELS[10:15].reshape(5, -1))
    assert data.validation.labels is not None
    assert data.validation.labels.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("key", ["images", "data"])
def test_an_npz_file_with_one_array_is_split_by_seed(tmp_path, key):
    path = tmp_path / "mine.npz"
    np.savez(path, **{key: LEVELS.reshape(20, -1), "labels": np.arange(20)})
    data = load(str(path), image_shape=(1, 6, 5), split_seed=4, test_size=3)
    assert data.description == "mine.npz, split by seed"
    parts = hold_out("", 20, (2, 3), 4)
    for images, part in zip((data.train, data.validation, data.test), parts, strict=True):
        np.testing.assert_array_equal(images.storage.numpy(), LEVELS[part].reshape(len(part), -1))
        assert images.labels is not None
        np.testing.assert_array_equal(images.labels.numpy(), part)


def test_an_npz_file_without_validation_has_it_held_out_of_training(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, train=LEVELS > 99, test=LEVELS[:4] > 99)
    data = load(path, validation_size=5)
    assert (data.pixels, len(data.train), len(data.validation), len(data.test)) == ("binary", 15, 5, 4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"train": np.array([{}], object)},
            r"expected an .npz file of plain arrays, got Object arrays cannot be loaded",
        ),
        ({"train": LEVELS}, r"expected train, validation and test; or .*, got train\."),
        (
            {"faces": LEVELS},
            r"arrays: expected names among train, .*, images, .*, labels, got faces\..* Name arrays so",
        ),
        ({"labels": np.arange(3)}, r"arrays: expected train, .*'images' or 'x'\), got labels\. Name them so"),
        ({"images": LEVELS, "test": LEVELS}, r"got test, whole"),
    ],
    ids=["pickle", "train only", "other names", "labels alone", "whole and test"],
)
def test_npz_files_without_the_arrays_are_refused(tmp_path, arrays, message):
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message):
        load(path)


def test_files_that_are_no_npz_are_refused(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, images=LEVELS)
    whole = path.read_bytes()
    middle = bytearray(whole)
    middle[len(whole) // 3] ^= 255
    for content in (whole[: len(whole) // 2], b"", b"not a zip", bytes(middle)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"mine.npz: expected an .npz file of plain arrays"):
            load(path)
    with path.open("wb") as file:
        np.save(file, LEVELS)
    with pytest.raises(DataError, match=r"expected an .npz file.*not a zip file.*savez_compressed"):
        load(path)


def test_npz_arrays_that_are_no_images_are_refused(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, images=np.full((20, 6, 5), 7.0))
    with pytest.raises(InvalidInputError, match=r"mine train images: expected float64 values from 0 to 1, got 7 to 7"):
        load(path, kind="images")
    np.savez(path, train=LEVELS, train_labels=np.arange(3), test=LEVELS)
    with pytest.raises(InvalidInputError, match="train labels: expected one for each of 20 examples"):
        load(path)


def test_levels_of_an_npz_file_are_scaled_as_asked(tmp_path):
    np.savez(tmp_path / "mine.npz", images=LEVELS // 16)
    with pytest.warns(UserWarning, match="mine train images 15"):
        load(tmp_path / "mine.npz")
    assert load(tmp_path / "mine.npz", white=15).train.batch().max() == 1


REAL = numpy_generator(2).normal(size=(20, 3))


@pytest.mark.parametrize("key", ["images", "data", "x", "arr_0"])
def test_arrays_that_look_like_no_images_are_taken_as_they_are(tmp_path, key):
    path = tmp_path / "mine.npz"
    np.savez(path, **{key: REAL, "labels": np.arange(20)})
    data = load(path, split_seed=4, test_size=0.25)
    assert (data.pixels, data.event_shape, len(data.test)) == (None, (3,), 5)
    np.testing.assert_array_equal(data.test.batch(dtype=torch.float64).numpy(), REAL[data.test.labels.numpy()])
    np.savez(path, train=REAL[:9], val=REAL[9:12], test=REAL[12:])
    np.testing.assert_array_equal(load(path).test.batch(dtype=torch.float64).numpy(), REAL[12:])


@pytest.mark.parametrize(
    ("array", "images"),
    [
        (LEVELS, True),
        (LEVELS > 99, True),
        (LEVELS / 255, True),
        (LEVELS.astype(np.int64), True),
        (LEVELS[..., None], True),
        (LEVELS.reshape(20, -1), False),
        (LEVELS / 255 - 0.5, False),
        (LEVELS.astype(np.int64) + 256 - int(LEVELS.max()), False),
        (LEVELS.reshape(20, 5, 2, 3), True),
        (LEVELS.reshape(20, 5, 3, 2), False),
    ],
    ids=["levels", "bits", "fractions", "integers", "channel", "flat", "negative", "above 255", "RGB", "two channels"],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_are_images_where_they_look_like_it_or_it_is_said(tmp_path, array, images, suffix):
    path = tmp_path / f"mine.{suffix}"
    (np.save if suffix == "npy" else np.savez)(path, array)
    assert isinstance(load(path).train, Images if images else TensorExamples)
    assert isinstance(load(path, kind="values").train, TensorExamples)
    if images:
        assert isinstance(load(path, kind="images").train, Images)
    with pytest.raises(InvalidInputError, match=r"taken as values: expected no option of images, got pixels"):
        load(path, kind="values", pixels="grey")
    with pytest.raises(UnknownNameError, match="Did you mean 'images'"):
        load(path, kind="image")


def test_a_single_array_of_an_npy_file_is_what_it_is_in_an_npz_file(tmp_path):
    np.save(tmp_path / "mine.npy", LEVELS)
    np.savez(tmp_path / "mine.npz", images=LEVELS)
    first, second = load(tmp_path / "mine.npy", split_seed=2), load(tmp_path / "mine.npz", split_seed=2)
    assert torch.equal(first.train.batch(), second.train.batch())
    assert (first.name, first.pixels, first.description) == ("mine", "grey", "mine.npy, split by seed")


@pytest.mark.parametrize(
    ("array", "options"),
    [(REAL, {}), (LEVELS, {}), (LEVELS, {"kind": "values"}), (LEVELS.reshape(20, -1), {"image_shape": (1, 6, 5)})],
    ids=["values", "images", "levels as values", "flat images"],
)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_npy_file_is_the_same_read_batch_by_batch(tmp_path, array, options, num_workers):
    path = tmp_path / "mine.npy"
    np.save(path, array)
    stored = load(path, split_seed=3, **options)
    streamed = load(path, split_seed=3, stream=True, num_workers=num_workers, **options)
    assert isinstance(streamed.train, StreamedExamples)
    assert (streamed.event_shape, streamed.pixels) == (stored.event_shape, stored.pixels)
    order = torch.randperm(len(stored.train)).split(5)
    expected = stored.train.batches(order, generator=None, dtype=torch.float32)
    batches = streamed.train.batches(order, generator=None, dtype=torch.float32)
    assert all(torch.equal(*pair) for pair in zip(batches, expected, strict=True))


def test_a_file_larger_than_memory_is_not_loaded(tmp_path, monkeypatch):
    path = tmp_path / "mine.npy"
    np.save(path, REAL)
    monkeypatch.setattr(archives, "MAX_BYTES", REAL.nbytes - 1)
    assert isinstance(load(path).train, StreamedExamples)
    monkeypatch.setattr(archives, "MAX_BYTES", REAL.nbytes)
    assert isinstance(load(path).train, TensorExamples)


def test_readers_of_files_are_pickled_without_their_content(tmp_path):
    np.save(tmp_path / "mine.npy", np.zeros((1000, 100)))
    train = load(tmp_path / "mine.npy", stream=True).train
    assert len(pickle.dumps(train.source)) < 1000
    assert (pickle.loads(pickle.dumps(train.source))[3] == 0).all()


def test_memory_maps_are_read_batch_by_batch(tmp_path):
    np.save(tmp_path / "mine.npy", REAL)
    array = np.load(tmp_path / "mine.npy", mmap_mode="r")
    data = as_data_set(array, labels=np.arange(20), split_seed=3)
    assert isinstance(data.train, StreamedExamples)
    np.testing.assert_array_equal(data.test.batch(dtype=torch.float64).numpy(), REAL[data.test.labels.numpy()])
    with pytest.raises(InvalidInputError, match=r"labels of data: expected shape \(20,\), got \(3,\)"):
        as_data_set(array, labels=[1, 2, 3])


def test_options_of_reading_that_do_not_fit_are_refused(tmp_path):
    np.save(tmp_path / "mine.npy", LEVELS)
    write_pictures(tmp_path / "folder", LEVELS)
    for path in (tmp_path / "mine.npy", tmp_path / "folder"):
        with pytest.raises(InvalidInputError, match=r"num_workers: expected 0 for data in memory, got 2"):
            load(path, num_workers=2)
        with pytest.raises(InvalidInputError, match=r"expected grey pixels, got 'binary'\. .* stream=False"):
            load(path, stream=True, pixels="binary")
        with pytest.raises(InvalidInputError, match=r"num_workers: expected a number of processes"):
            load(path, stream=True, num_workers=-1)
        with pytest.raises(InvalidInputError, match=r"stream: expected True, False or None, got 1"):
            load(path, stream=1)
    np.savez(tmp_path / "mine.npz", LEVELS)
    with pytest.raises(InvalidInputError, match=r"mine.npz'?.*: expected options among .*, got stream"):
        load(tmp_path / "mine.npz", stream=True)


@pytest.mark.parametrize("content", ["pickle", "cut", "archive", "text", "empty", "structured", "strings"])
def test_files_that_are_no_npy_are_refused(tmp_path, content):
    path = tmp_path / "mine.npy"
    match content:
        case "pickle":
            np.save(path, np.array([{}] * 20, object))
        case "cut":
            np.save(path, REAL)
            path.write_bytes(path.read_bytes()[:-1])
        case "archive":
            np.savez(tmp_path / "mine.npz", REAL)
            (tmp_path / "mine.npz").rename(path)
        case "text" | "empty":
            path.write_text("1,2" if content == "text" else "")
        case "structured":
            np.save(path, np.zeros(20, [("a", "f8")]))
        case _:
            np.save(path, np.full((20, 2), "a"))
    with pytest.raises(DataError, match=r"mine.npy: expected an .npy file of one array of numbers"):
        load(path)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_values_that_are_not_finite_are_told_of_with_their_place(tmp_path, suffix):
    array = REAL.copy()
    array[7, 2] = np.nan
    path = tmp_path / f"mine.{suffix}"
    (np.save if suffix == "npy" else np.savez)(path, array)
    with pytest.raises(InvalidInputError, match=r"mine\.np.: expected finite values, got nan in example 7 at 2"):
        load(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": LEVELS, "x": LEVELS}, "expected one of images or data or x or arr_0, got images and x"),
        ({"train": LEVELS, "val": LEVELS, "validation": LEVELS}, "got validation and val"),
        ({"train": LEVELS, "test": LEVELS, "labels": np.arange(20)}, "got also labels"),
        ({"x": LEVELS, "x_labels": np.arange(20)}, "got also x_labels"),
        ({"train": LEVELS, "val_labels": np.arange(20)}, "got also val_labels"),
    ],
)
def test_no_array_of_an_npz_file_is_left_out_silently(tmp_path, arrays, message):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "mine.npz")
