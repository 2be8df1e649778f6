"""Folders of pictures: their splits, what pictures are read as, and what is refused."""

import os
import warnings
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.picture_files import write_pictures
from tests.seeds import numpy_generator
from vae_flows.data import Images, StreamedExamples, custom, load
from vae_flows.data.pictures import decode, opened
from vae_flows.data.splits import hold_out
from vae_flows.errors import DataError, InvalidInputError
from vae_flows.persistence import archives

LEVELS = numpy_generator().integers(0, 256, (20, 6, 5), dtype=np.uint8)


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
