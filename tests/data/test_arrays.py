import numpy as np
import pytest
import torch

from tests.seeds import numpy_generator
from vae_flows.data import from_arrays
from vae_flows.data.arrays import fixed_binarization
from vae_flows.errors import InvalidInputError

ROUNDING = 0.5 / 255 + 1e-7  # half a grey level, and float32

LEVELS = numpy_generator().integers(0, 256, (12, 6, 5), dtype=np.uint8)
BITS = LEVELS > 127


def thirds(array):
    return array[:6], array[6:9], array[9:]


@pytest.mark.parametrize(
    ("convert", "options"),
    [
        (lambda x: x, {}),
        (lambda x: x[:, None], {}),
        (lambda x: x[..., None], {}),
        (lambda x: x.reshape(len(x), -1), {"image_shape": (1, 6, 5)}),
        (lambda x: np.asfortranarray(x.reshape(len(x), -1)), {"image_shape": (1, 6, 5)}),
        (lambda x: torch.from_numpy(x), {"image_shape": (1, 6, 5)}),
        (lambda x: x.tolist(), {}),
        (lambda x: x.astype(np.int64), {}),
        (lambda x: x / 255, {}),
        (lambda x: (x / 255).astype(np.float32), {}),
        (lambda x: torch.from_numpy(x / 255).requires_grad_(), {}),
        (lambda x: x[:, ::-1][:, ::-1], {}),
    ],
    ids=["NHW", "NCHW", "NHWC", "NP", "Fortran", "tensor", "list", "int64", "float64", "float32", "grad", "strides"],
)
def test_layouts_and_types_give_the_same_images(convert, options):
    data = from_arrays(*(convert(split) for split in thirds(LEVELS)), **options)
    assert data.pixels == "grey"
    assert data.image_shape == (1, 6, 5)
    for images, levels in zip((data.train, data.validation, data.test), thirds(LEVELS), strict=True):
        np.testing.assert_array_equal(images.storage.numpy(), levels.reshape(len(levels), -1))


def test_colour_is_taken_channels_first_or_last():
    colour = numpy_generator().integers(0, 256, (9, 6, 5, 3), dtype=np.uint8)
    last = from_arrays(*thirds(colour)[:2], colour)
    first = from_arrays(*(split.transpose(0, 3, 1, 2) for split in (*thirds(colour)[:2], colour)))
    assert first.image_shape == last.image_shape == (3, 6, 5)
    assert torch.equal(first.test.storage, last.test.storage)
    np.testing.assert_array_equal(last.test.batch(dtype=torch.float64).numpy(), colour.transpose(0, 3, 1, 2) / 255)


def test_other_numbers_of_channels_need_the_shape():
    pair = np.ones((2, 2, 6, 5))
    with pytest.raises(InvalidInputError, match="pass image_shape"):
        from_arrays(pair, pair, pair)
    assert from_arrays(pair, pair, pair, image_shape=(2, 6, 5)).image_shape == (2, 6, 5)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int32, np.float32, np.float64])
def test_zeros_and_ones_of_any_type_are_packed(dtype):
    data = from_arrays(*(split.astype(dtype) for split in thirds(BITS)))
    assert data.pixels == "binary"
    assert data.train.packed
    np.testing.assert_array_equal(data.test.batch()[:, 0].numpy(), BITS[9:])


def test_integers_are_levels_where_any_split_has_more_than_bits():
    data = from_arrays(LEVELS, BITS, LEVELS)
    assert data.pixels == "grey"
    assert data.validation.storage.unique().tolist() == [0, 255]


@pytest.mark.parametrize("odd", range(3))
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_bits_beside_levels_are_refused_since_they_would_be_black(odd, dtype):
    splits = [LEVELS, LEVELS, LEVELS]
    splits[odd] = BITS.astype(dtype)
    with pytest.raises(InvalidInputError, match=r"images: expected levels, as other splits.*got values 0 and 1 alone"):
        from_arrays(*splits)
    with pytest.warns(UserWarning, match="low"):
        assert from_arrays(*splits, white=255).pixels == "grey"


@pytest.mark.parametrize("top", [2, 15, 16, 31, 63, 100])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64])
def test_levels_that_end_below_white_are_told_and_scaled_as_asked(top, dtype):
    levels = numpy_generator().integers(0, top + 1, (12, 6, 5))
    levels[:, 0, 0] = top
    given = levels / 255 if dtype is np.float64 else levels.astype(dtype)
    with pytest.warns(UserWarning, match=rf"arrays train images {top}, .*pass white="):
        from_arrays(*thirds(given))
    scaled = from_arrays(*thirds(given), white=given.max().item()).train.batch(dtype=torch.float64)[:, 0].numpy()
    assert np.abs(scaled - levels[:6] / top).max() <= ROUNDING


def test_each_dark_split_is_told_of():
    with pytest.warns(UserWarning, match=r"low: arrays test images 15\. If"):
        from_arrays(LEVELS, LEVELS, LEVELS // 16)
    with pytest.warns(UserWarning, match=r"low: arrays validation images 0\. If"):
        from_arrays(LEVELS, np.zeros_like(LEVELS), LEVELS)


def test_sixteen_bits_are_scaled_when_white_is_given():
    with pytest.raises(InvalidInputError, match=r"expected uint16 values from 0 to 255.*pass white="):
        from_arrays(*thirds(LEVELS.astype(np.uint16) * 257))
    data = from_arrays(*thirds(LEVELS.astype(np.uint16) * 257), white=65535)
    np.testing.assert_array_equal(data.train.storage.numpy(), LEVELS[:6].reshape(6, -1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("excess", [1e-7, -1e-7, 5e-7])
def test_floating_point_may_be_a_rounding_out_of_range(dtype, excess):
    values = (LEVELS / 255).astype(dtype)
    values.flat[:2] = 1 + max(excess, 0), min(excess, 0)
    expected = from_arrays(*[(LEVELS / 255).astype(dtype).clip(0, 1)] * 3).train.storage.clone()
    expected[0, :2] = torch.tensor([255, 0], dtype=torch.uint8)
    assert torch.equal(from_arrays(values, values, values).train.storage, expected)


@pytest.mark.parametrize(("value", "told"), [(1.00001, "1.00001"), (1.0000101, "1.0000101"), (-2e-6, "-2e-06")])
def test_a_message_never_shows_a_value_as_in_range(value, told):
    values = LEVELS / 255
    values[0, 0, 0] = value
    with pytest.raises(InvalidInputError, match=rf"from 0 to 1, got .*{told}"):
        from_arrays(values, values, values)


@pytest.mark.parametrize("white", [0, -1, float("nan"), float("inf"), "255", True])
def test_white_is_a_positive_number(white):
    with pytest.raises(InvalidInputError, match="arrays white: expected a positive number or None"):
        from_arrays(*thirds(LEVELS), white=white)


def test_floating_point_is_rounded_to_the_nearest_level():
    values = numpy_generator(1).random((50, 6, 5))
    batch = from_arrays(values, values, values).train.batch(dtype=torch.float64)[:, 0].numpy()
    assert np.abs(batch - values).max() <= ROUNDING


def test_grey_levels_taken_as_binary_are_drawn_anew_for_training_and_once_for_the_rest():
    train, validation, test = thirds(LEVELS)
    data = from_arrays(train, validation, test, pixels="binary")
    assert data.train.dynamic_binarization
    np.testing.assert_array_equal(data.train.storage.numpy(), train.reshape(6, -1))
    generator = np.random.RandomState(777)
    for images, levels in ((data.validation, validation), (data.test, test)):
        assert images.packed
        np.testing.assert_array_equal(images.batch()[:, 0].numpy(), generator.binomial(1, levels / 255))


def test_a_split_that_is_binary_already_uses_up_no_draws():
    train, validation, test = thirds(LEVELS)
    data = from_arrays(train, validation > 127, test, pixels="binary")
    np.testing.assert_array_equal(data.validation.batch()[:, 0].numpy(), validation > 127)
    np.testing.assert_array_equal(data.test.batch()[:, 0].numpy(), fixed_binarization(test / 255)[0])


def test_bits_can_be_taken_as_grey():
    data = from_arrays(*thirds(BITS), pixels="grey")
    assert data.pixels == "grey"
    assert data.train.storage.unique().tolist() == [0, 255]


def test_arguments_are_neither_changed_nor_kept():
    own = LEVELS.copy()
    data = from_arrays(own, own, own)
    data.train.storage.zero_()
    np.testing.assert_array_equal(own, LEVELS)


def test_labels_come_along():
    data = from_arrays(*thirds(BITS), labels=(np.arange(6, dtype=np.uint8), None, torch.arange(3)))
    assert data.train.labels is not None
    assert data.train.labels.dtype == torch.int64
    assert data.validation.labels is None
    with pytest.raises(InvalidInputError, match="labels of arrays test images: expected integers"):
        from_arrays(*thirds(BITS), labels=(None, None, np.zeros(3)))
    with pytest.raises(InvalidInputError, match="one entry for each of three splits, got 2"):
        from_arrays(*thirds(BITS), labels=(None, None))


@pytest.mark.parametrize(
    ("bad", "options", "message"),
    [
        (np.full((3, 6, 5), np.nan), {}, "faces test images: expected finite values, got 90 that are not"),
        (np.full((3, 6, 5), np.inf), {}, "expected finite values"),
        (np.full((3, 6, 5), np.nan, np.float16), {"white": 255}, "expected finite values"),
        (torch.zeros(3, 6, 5).to_sparse(), {}, "expected a dense array"),
        (torch.zeros(3, 6, 5, device="meta"), {}, "expected a dense array"),
        (None, {}, "got dtype object"),
        (LEVELS, {"image_shape": (1, 30)}, r"image_shape: expected \(channels, height, width\)"),
        (LEVELS, {"image_shape": "abc"}, "image_shape"),
        (LEVELS, {"image_shape": (1, 0, 30)}, "image_shape"),
        (LEVELS, {"labels": None}, "labels: expected one entry"),
        (LEVELS, {"labels": (None, None, ["a"] * 12)}, "expected integers"),
        (LEVELS, {"labels": (None, None, [[1], [2, 3]])}, "expected integers"),
        (LEVELS, {"labels": (None, None, [True] * 12)}, "expected integers, got dtype bool"),
        (LEVELS, {"labels": (None, None, [1, 2])}, r"labels: expected shape \(12,\)"),
        (np.full((3, 6, 5), 1.5), {}, "expected float64 values from 0 to 1, got 1.5 to 1.5"),
        (np.full((3, 6, 5), -0.1), {}, "got -0.1 to -0.1"),
        (np.full((3, 6, 5), 256), {}, "expected int64 values from 0 to 255, got 256 to 256"),
        (np.full((3, 6, 5), -1), {}, "got -1 to -1"),
        (np.zeros((3, 6, 4), np.uint8), {}, r"expected images of shape \(1, 6, 5\) as in training, got \(1, 6, 4\)"),
        (np.zeros((0, 6, 5), np.uint8), {}, r"expected at least one image, got an array of shape \(0, 6, 5\)"),
        (np.zeros((3, 30), np.uint8), {}, r"got \(3, 30\)\. For flat images \(N, P\)"),
        (np.zeros((3, 29), np.uint8), {"image_shape": (1, 6, 5)}, r"expected images of shape \(1, 6, 5\), got"),
        (np.array([{}, {}, {}], object), {}, "expected booleans, integers or floating point, got dtype object"),
        (np.array(["a", "b"]), {}, "got dtype <U1"),
        (np.zeros((3, 6, 5), complex), {}, "got dtype complex128"),
        ([[1, 2], [3]], {}, "expected one array, got rows that differ in size"),
        (LEVELS, {"pixels": "gray"}, "faces pixels: expected 'binary', 'grey' or None, got 'gray'"),
    ],
)
def test_arrays_that_are_no_images_are_refused(bad, options, message):
    with pytest.raises(InvalidInputError, match=message):
        from_arrays(LEVELS, LEVELS, bad, name="faces", **options)
