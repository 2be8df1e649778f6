import os
import pickle
import warnings
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image

from tests.seeds import numpy_generator
from vae_flows.data import Images, StreamedExamples, TensorExamples, as_data_set, custom, load
from vae_flows.data.pictures import decode, opened
from vae_flows.data.splits import hold_out
from vae_flows.errors import DataError, InvalidInputError, UnknownNameError
from vae_flows.persistence import archives

LEVELS = numpy_generator().integers(0, 256, (20, 6, 5), dtype=np.uint8)


def write_pictures(folder, arrays, suffix=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    for index, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{index:03d}{suffix}")


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
        ({"faces": LEVELS}, r"got none of these"),
        ({"images": LEVELS, "test": LEVELS}, r"got test, whole"),
    ],
    ids=["pickle", "train only", "other names", "whole and test"],
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


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".PNG"])
def test_a_flat_folder_is_split_by_seed(tmp_path, suffix):
    write_pictures(tmp_path, LEVELS, suffix)
    (tmp_path / "notes.txt").write_text("not a picture")
    data = load(tmp_path, split_seed=4)
    assert (data.pixels, data.image_shape, len(data.train)) == ("grey", (1, 6, 5), 16)
    if suffix != ".jpg":  # which is lossy
        expected = LEVELS[hold_out("", 20, (2, 2), 4)[2]]
        np.testing.assert_array_equal(data.test.storage.numpy(), expected.reshape(2, -1))


def test_a_folder_with_splits_keeps_them(tmp_path):
    colour = numpy_generator().integers(0, 256, (9, 4, 3, 3), dtype=np.uint8)
    write_pictures(tmp_path / "train" / "cats", colour[:3])
    write_pictures(tmp_path / "train" / "dogs", colour[3:5])
    write_pictures(tmp_path / "val", colour[5:7])
    write_pictures(tmp_path / "test", colour[7:])
    data = load(f"{tmp_path}/")
    assert (data.pixels, data.image_shape) == ("grey", (3, 4, 3))
    assert data.description.endswith("its own splits")
    for images, expected in ((data.train, colour[:5]), (data.validation, colour[5:7]), (data.test, colour[7:])):
        batch = images.batch(dtype=torch.float64).numpy()
        np.testing.assert_array_equal(batch, expected.transpose(0, 3, 1, 2) / 255)


def test_black_and_white_pictures_are_binary(tmp_path):
    write_pictures(tmp_path, LEVELS > 127)
    data = load(tmp_path)
    assert data.pixels == "binary"
    assert data.train.packed


def test_pictures_of_several_sizes_need_image_size(tmp_path):
    write_pictures(tmp_path, [*LEVELS, np.zeros((8, 5), np.uint8)])
    with pytest.raises(DataError, match=r"020.png: expected channels, height and width \(1, 6, 5\).*Pass image_size"):
        load(tmp_path)
    assert load(tmp_path, image_size=(4, 7)).image_shape == (1, 4, 7)
    assert load(tmp_path, image_size=4).image_shape == (1, 4, 4)
    for size in (0, (4, -1), (1, 2, 3)):
        with pytest.raises(InvalidInputError, match="image_size: expected a positive side or"):
            load(tmp_path, image_size=size)  # pyright: ignore[reportArgumentType]


def test_grey_and_colour_together_need_channels(tmp_path):
    write_pictures(tmp_path, [*LEVELS, np.zeros((6, 5, 3), np.uint8)])
    with pytest.raises(DataError, match=r"got \(3, 6, 5\).*channels=1 or 3"):
        load(tmp_path)
    assert load(tmp_path, channels=1).image_shape == (1, 6, 5)
    assert load(tmp_path, channels=3).image_shape == (3, 6, 5)


def test_pictures_that_cannot_be_used_are_refused(tmp_path):
    write_pictures(tmp_path, LEVELS)
    bad = tmp_path / "bad.png"
    for content in ((tmp_path / "000.png").read_bytes()[:40], b"", b"text"):
        bad.write_bytes(content)
        with pytest.raises(DataError, match=r"bad.png: expected a PNG or JPEG picture.*Replace or remove it"):
            load(tmp_path)
    Image.fromarray(np.zeros((6, 5), np.uint16)).save(bad)
    with pytest.raises(DataError, match=r"bad.png: expected 8 bits per channel as in the first picture, got 16 bits"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"bad.png: expected a picture of 8 bits per channel, or a grey one of 16"):
        load(tmp_path, channels=3)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"expected pictures \(.png, .jpg, .jpeg\), got none"):
        load(tmp_path)
    write_pictures(tmp_path / "train", LEVELS)
    with pytest.raises(DataError, match=r"expected train, validation and test; .*got train\."):
        load(tmp_path)
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match=r"test: expected pictures"):
        load(tmp_path)


def flip(tag, array):
    """Return the stored picture whose upright form, by EXIF's orientation `tag`, is `array`."""
    return {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.T,
        6: np.rot90(array),
        7: array[::-1, ::-1].T,
        8: np.rot90(array, -1),
    }[tag]


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_pictures_are_turned_upright_as_their_exif_data_say(tmp_path, tag, suffix):
    upright = np.kron(np.array([[0, 255], [128, 64], [200, 20]], np.uint8), np.ones((8, 8), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = tag
    for index in range(10):
        Image.fromarray(np.ascontiguousarray(flip(tag, upright))).save(
            tmp_path / f"{index}{suffix}", exif=exif, **({"quality": 100} if suffix == ".jpg" else {})
        )
    batch = load(tmp_path).test.batch()[0, 0].numpy() * 255
    assert batch.shape == upright.shape
    assert np.abs(batch - upright).max() <= (0 if suffix == ".png" else 4)  # levels that JPEG may be off


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_pictures_of_every_usual_kind_keep_their_brightness(tmp_path, mode):
    white = (LEVELS > 127) if mode == "1" else LEVELS
    for index, array in enumerate(white):
        picture = Image.fromarray(array).convert("L")
        picture = picture.quantize(256) if mode == "P" else picture.convert("RGB").convert(mode)
        suffix = ".jpg" if mode in ("CMYK", "YCbCr") else ".png"
        picture.save(
            tmp_path / f"{index:03d}{suffix}", **({"quality": 100, "subsampling": 0} if suffix == ".jpg" else {})
        )
    batch = load(tmp_path, channels=1, split_seed=4).test.batch().numpy()[:, 0] * 255
    expected = white[hold_out("", 20, (2, 2), 4)[2]] * (255.0 if mode == "1" else 1.0)
    assert np.abs(batch - expected).max() <= (8 if suffix == ".jpg" else 1)  # levels that JPEG may be off


@pytest.mark.parametrize("bits", [2, 4])
def test_pictures_of_few_bits_are_as_bright_as_they_were_meant(tmp_path, bits):
    top = 2**bits - 1
    for index in range(10):
        levels = np.arange(top + 1, dtype=np.uint8).reshape(2, -1)
        palette = [level * 255 // top for level in range(top + 1) for _ in range(3)]
        picture = Image.new("P", levels.shape[::-1])
        picture.putpalette(palette)
        for row, column in np.ndindex(levels.shape):
            picture.putpixel((column, row), int(levels[row, column]))
        picture.save(tmp_path / f"{index}.png", bits=bits)
    assert load(tmp_path, channels=1).train.batch().max() == 1


def test_pictures_that_are_black_but_for_their_transparency_are_told_of(tmp_path):
    for index in range(10):
        shape = np.zeros((6, 5, 4), np.uint8)
        shape[1:3, 1:3, 3] = 255
        Image.fromarray(shape).save(tmp_path / f"{index}.png")
    with pytest.warns(UserWarning, match="low: .*transparency"):
        load(tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "device", "dangling", "loop", "folder"])
def test_what_has_a_pictures_name_but_is_no_file_is_refused_or_left_alone(tmp_path, kind):
    write_pictures(tmp_path, LEVELS)
    bad = tmp_path / "bad.png"
    match kind:
        case "pipe":
            os.mkfifo(bad)
        case "device":
            bad.symlink_to("/dev/zero")
        case "dangling":
            bad.symlink_to("nowhere")
        case "loop":
            bad.symlink_to(bad)
        case _:
            bad.symlink_to(tmp_path)
    if kind == "folder":  # a link to the folder itself, which is not followed
        assert len(load(tmp_path).train) == 16
        return
    with pytest.raises(DataError, match=r"bad\.png|levels of symbolic links"):
        load(tmp_path)


@pytest.mark.parametrize(("limit", "value"), [("MAX_ENTRIES", 20), ("MAX_DEPTH", 3)])
def test_a_tree_without_end_is_given_up(tmp_path, monkeypatch, limit, value):
    write_pictures(tmp_path / "a/b/c", LEVELS)
    assert len(load(tmp_path).train) == 16
    (tmp_path / "a/b/c/d").mkdir()
    monkeypatch.setattr(custom, limit, value)
    with pytest.raises(DataError, match=r"expected at most .* files, in folders at most .* deep, got more"):
        load(tmp_path)


def test_no_flipped_bit_or_cut_of_a_picture_ends_in_another_error(tmp_path):
    for suffix in (".png", ".jpg"):
        folder = tmp_path / suffix[1:]
        write_pictures(folder, LEVELS, suffix)
        file = folder / f"000{suffix}"
        whole = file.read_bytes()
        for place in range(0, len(whole), 3):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << place % 8
            for content in (whole[:place], damaged):
                file.write_bytes(content)
                with warnings.catch_warnings(), suppress(DataError):
                    warnings.simplefilter("ignore")
                    decode(opened([file]), 1)


def test_pictures_that_do_not_fit_in_memory_are_streamed_or_refused_before_it_is_taken(tmp_path, monkeypatch):
    write_pictures(tmp_path, LEVELS)
    monkeypatch.setattr(archives, "MAX_BYTES", LEVELS.size - 1)
    with pytest.raises(DataError, match=r"20 pictures like .*000.png: expected at most 0 MiB"):
        load(tmp_path, stream=False)
    data = load(tmp_path)
    assert isinstance(data.train, StreamedExamples)
    expected = LEVELS[hold_out("", 20, (2, 2))[2]] / np.float32(255)
    np.testing.assert_array_equal(data.test.batch().numpy()[:, 0], expected)


@pytest.mark.parametrize("channels", [2, True, "1"])
def test_other_channels_are_refused(tmp_path, channels):
    write_pictures(tmp_path, LEVELS)
    with pytest.raises(InvalidInputError, match="channels: expected 1, 3 or None"):
        load(tmp_path, channels=channels)


@pytest.mark.parametrize("size", [True, 4.0, "4", [4, None]])
def test_other_sizes_are_refused(tmp_path, size):
    write_pictures(tmp_path, LEVELS)
    with pytest.raises(InvalidInputError, match="image_size"):
        load(tmp_path, image_size=size)


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
        (LEVELS.astype(np.int64) + 1, False),
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


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)], ids=["grey", "RGB"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_folder_is_the_same_read_batch_by_batch(tmp_path, shape, num_workers):
    pictures = numpy_generator(3).integers(0, 256, (20, *shape), dtype=np.uint8)
    write_pictures(tmp_path / "train", pictures[:14])
    write_pictures(tmp_path / "test", pictures[14:])
    stored, streamed = load(tmp_path), load(tmp_path, stream=True, num_workers=num_workers)
    assert streamed.event_shape == stored.image_shape == (len(shape) and (3 if len(shape) == 3 else 1), 6, 5)
    assert streamed.pixels == stored.pixels == "grey"
    for split in ("train", "validation", "test"):
        assert torch.equal(getattr(streamed, split).batch(), getattr(stored, split).batch())


def test_streamed_pictures_of_other_sizes_are_told_of(tmp_path):
    write_pictures(tmp_path, [*LEVELS, np.zeros((8, 5), np.uint8)])
    data = load(tmp_path, stream=True)
    with pytest.raises(
        InvalidInputError, match=r"item 20 of PictureFiles: expected shape \(1, 6, 5\).*got \(1, 8, 5\)"
    ):
        _ = [split.batch() for split in (data.train, data.validation, data.test)]
    resized = load(tmp_path, stream=True, image_size=(4, 7))
    assert resized.event_shape == (1, 4, 7)
    assert torch.equal(resized.test.batch(), load(tmp_path, image_size=(4, 7)).test.batch())


DEEP = numpy_generator(4).integers(0, 65536, (20, 6, 5), dtype=np.uint16)


@pytest.mark.parametrize("stream", [None, True])
def test_grey_pictures_of_16_bits_keep_their_precision(tmp_path, stream):
    write_pictures(tmp_path, DEEP)
    data = load(tmp_path, split_seed=4, stream=stream)
    assert (data.pixels, data.event_shape) == (None, (1, 6, 5))
    levels = data.test.batch(dtype=torch.float64).numpy()[:, 0] * 65535
    np.testing.assert_allclose(levels, DEEP[hold_out("", 20, (2, 2), 4)[2]], atol=65535 * 1e-7)  # single precision


def test_grey_pictures_of_16_bits_become_256_levels_where_asked_for(tmp_path):
    write_pictures(tmp_path, DEEP)
    data = load(tmp_path, split_seed=4, pixels="grey")
    assert (data.pixels, type(data.test)) == ("grey", Images)
    levels = data.test.batch(dtype=torch.float64).numpy()[:, 0] * 65535
    assert np.abs(levels - DEEP[hold_out("", 20, (2, 2), 4)[2]].astype(float)).max() <= 65535 / 510 + 1


def test_grey_pictures_of_16_bits_are_resized_in_their_own_range(tmp_path):
    flat = np.broadcast_to(np.arange(0, 60000, 3000, dtype=np.uint16)[:, None, None], (20, 6, 5))
    write_pictures(tmp_path, flat)
    data = load(tmp_path, split_seed=4, image_size=(3, 8))
    assert data.event_shape == (1, 3, 8)
    levels = data.test.batch(dtype=torch.float64).numpy() * 65535
    expected = flat[hold_out("", 20, (2, 2), 4)[2]][:, :1, :1, None]
    np.testing.assert_allclose(levels, np.broadcast_to(expected, levels.shape), atol=1)  # a level
