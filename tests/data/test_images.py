import numpy as np
import pytest
import torch

from tests.seeds import numpy_generator, torch_generator
from vae_flows.data import Images
from vae_flows.errors import InvalidInputError

STANDARD_ERRORS = 5.0  # false-alarm rate 6e-7 a comparison

SHAPES = [(1, 28, 28), (1, 2, 5), (3, 3, 3), (1, 1, 1)]


def random_bits(count, shape):
    return numpy_generator().integers(0, 2, (count, *shape), dtype=np.uint8)


def packed(bits):
    rows = np.packbits(bits.reshape(len(bits), -1), axis=1)
    return Images(torch.from_numpy(rows), bits.shape[1:], packed=True)


def grey(shape=(1, 4, 4), count=6, dynamic_binarization=False, labels=None):
    levels = numpy_generator(1).integers(0, 256, (count, *shape), dtype=np.uint8)
    return Images(
        torch.from_numpy(levels.reshape(count, -1)), shape, dynamic_binarization=dynamic_binarization, labels=labels
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_packed_batches_are_what_numpy_unpacks(shape, dtype):
    bits = random_bits(9, shape)
    batch = packed(bits).batch(dtype=dtype)
    assert batch.dtype == dtype
    assert batch.shape == (9, *shape)
    np.testing.assert_array_equal(batch.float().numpy(), bits)


def test_padding_bits_do_not_show():
    images = Images(torch.full((2, 1), 255, dtype=torch.uint8), (1, 1, 3), packed=True)
    assert images.batch().tolist() == [[[[1.0, 1.0, 1.0]]]] * 2


def test_grey_batches_are_fractions_of_white():
    images = grey(shape=(3, 4, 5))
    expected = images.storage.numpy().reshape(6, 3, 4, 5) / 255
    np.testing.assert_array_equal(images.batch(dtype=torch.float64).numpy(), expected)


@pytest.mark.parametrize(
    ("indices", "rows"),
    [
        (None, [0, 1, 2, 3, 4, 5]),
        (slice(1, 4), [1, 2, 3]),
        (slice(4, 99), [4, 5]),
        (torch.tensor([5, 0, 5]), [5, 0, 5]),
        (torch.tensor([2], dtype=torch.int32), [2]),
        (torch.tensor([], dtype=torch.int64), []),
        (torch.tensor([4, 1], dtype=torch.uint8), [4, 1]),
        ([5, 0, 5], [5, 0, 5]),
        ((3,), [3]),
        ([], []),
        (range(0, 6, 2), [0, 2, 4]),
        (range(5, 3, -1), [5, 4]),
        (np.array([1, 4]), [1, 4]),
        (np.array([1, 4], np.uint16), [1, 4]),
        (np.arange(6)[::-2], [5, 3, 1]),
        (slice(None, None, 2), [0, 2, 4]),
        (slice(-2, None), [4, 5]),
    ],
    ids=str,
)
@pytest.mark.parametrize("images", [packed(random_bits(6, (1, 3, 5))), grey((1, 3, 5))], ids=["packed", "grey"])
def test_indices_choose_images_in_their_order(images, indices, rows):
    everything = images.batch()
    assert torch.equal(images.batch(indices), everything[rows])


@pytest.mark.parametrize(
    "indices",
    [
        torch.tensor([0.0]),
        torch.tensor([[0]]),
        torch.tensor(0),
        torch.tensor([True] * 6),
        torch.tensor([6]),
        torch.tensor([-1]),
        3,
        True,
        "012",
        [0.0],
        [True] * 6,
        np.array([True] * 6),
        [[0]],
        [[0], [1, 2]],
        [6],
        range(7),
        np.array([-1]),
        [2**70],
        {0, 1},
        ["a"],
        slice(None, None, -1),
        slice("a", None),
    ],
    ids=str,
)
def test_unusable_indices_are_refused(indices):
    with pytest.raises(InvalidInputError, match=r"Images.batch indices: expected"):
        grey().batch(indices)


@pytest.mark.parametrize(
    "wrong",
    [
        {"storage": [[1]]},
        {"packed": 1},
        {"dynamic_binarization": "no"},
        {"image_shape": (True, 4, 4)},
        {"image_shape": 16},
        {"labels": [0] * 6},
        {"labels": torch.zeros(6)},
        {"labels": torch.zeros(5, dtype=torch.int64)},
    ],
    ids=str,
)
def test_parts_of_another_type_are_refused(wrong):
    with pytest.raises(InvalidInputError, match=f"Images {next(iter(wrong))}: expected"):
        Images(**{"storage": grey().storage, "image_shape": (1, 4, 4), **wrong})


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2", None])
def test_only_a_positive_number_of_images_is_taken(count):
    with pytest.raises(InvalidInputError, match=r"Images\.take count"):
        grey().take(count)


def test_integer_batches_are_refused():
    with pytest.raises(InvalidInputError, match=r"Images.batch dtype: expected a floating-point type, got torch.int64"):
        grey().batch(dtype=torch.int64)


def test_dynamic_binarization_repeats_with_the_generator_and_not_without():
    images = grey(dynamic_binarization=True)
    first = images.batch(generator=torch_generator(3))
    again = images.batch(generator=torch_generator(3))
    generator = torch_generator(3)
    assert torch.equal(first, again)
    assert torch.equal(first, images.batch(generator=generator))
    assert not torch.equal(first, images.batch(generator=generator))
    assert set(first.unique().tolist()) == {0.0, 1.0}


def test_dynamic_binarization_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    grey(dynamic_binarization=True).batch(generator=torch_generator())
    assert torch.equal(state, torch.get_rng_state())


def test_dynamic_binarization_draws_each_level_with_its_probability():
    count = 4000
    levels = torch.arange(256, dtype=torch.uint8).expand(count, 256)
    images = Images(levels, (1, 16, 16), dynamic_binarization=True)
    means = images.batch(generator=torch_generator(), dtype=torch.float64).flatten(1).mean(0)
    p = torch.arange(256, dtype=torch.float64) / 255
    assert means[0] == 0
    assert means[255] == 1
    standard_error = (p * (1 - p) / count).sqrt()
    assert ((means - p).abs() <= STANDARD_ERRORS * standard_error).all()


def test_a_generator_elsewhere_is_refused():
    images = grey(dynamic_binarization=True).to("meta")
    with pytest.raises(
        InvalidInputError, match=r"generator: expected one on meta.*got one on cpu.*Generator\('meta'\)"
    ):
        images.batch(generator=torch.Generator())


def test_batches_made_in_inference_mode_do_not_spoil_later_ones():
    images = packed(random_bits(3, (1, 2, 2)))
    with torch.inference_mode():
        images.batch(dtype=torch.float64)
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    (images.batch(dtype=torch.float64).flatten(1) @ weight).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, images.batch(dtype=torch.float64).flatten(1).sum(0))


def test_moving_and_taking_keep_everything_together():
    images = grey(dynamic_binarization=True, labels=torch.arange(6))
    few, moved = images.take(2), images.to("meta")
    assert few.labels is not None
    assert moved.labels is not None
    assert (len(few), few.labels.tolist(), few.dynamic_binarization) == (2, [0, 1], True)
    assert few.storage.data_ptr() == images.storage.data_ptr()
    assert len(images.take(99)) == 6
    assert (moved.storage.device.type, moved.labels.device.type) == ("meta", "meta")
    with pytest.raises(InvalidInputError, match=r"take count: expected a positive number, got 0"):
        images.take(0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_are_made_on_the_device_of_the_images():
    index = torch.tensor([3, 1])
    for images in (packed(random_bits(6, (1, 3, 5))), grey((1, 3, 5))):
        batch = images.to("cuda").batch(index)
        assert batch.device.type == "cuda"
        assert torch.equal(batch.cpu(), images.batch(index))
    drawn = grey(dynamic_binarization=True).to("cuda")
    first, again = (drawn.batch(generator=torch.Generator("cuda").manual_seed(0)) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize(
    ("storage", "options", "message"),
    [
        (torch.zeros(2, 16), {}, r"expected uint8 of shape \(N, 16\).*got torch.float32 of shape \(2, 16\)"),
        (torch.zeros(2, 15, dtype=torch.uint8), {}, r"expected uint8 of shape \(N, 16\)"),
        (torch.zeros(2, 16, dtype=torch.uint8), {"packed": True}, r"expected uint8 of shape \(N, 2\).*packed"),
        (torch.zeros(0, 16, dtype=torch.uint8), {}, r"N ≥ 1"),
        (torch.zeros(16, dtype=torch.uint8), {}, r"got torch.uint8 of shape \(16,\)"),
        (torch.zeros(2, 2, dtype=torch.uint8), {"packed": True, "dynamic_binarization": True}, "got packed bits"),
        (
            torch.zeros(2, 16, dtype=torch.uint8),
            {"labels": torch.zeros(3, dtype=torch.int64)},
            r"labels: expected shape \(2,\), got \(3,\)",
        ),
        (torch.zeros(2, 16, dtype=torch.uint8), {"image_shape": (4, 4)}, r"image_shape: expected \(channels, height"),
        (torch.zeros(2, 16, dtype=torch.uint8), {"image_shape": (0, 4, 4)}, r"got \(0, 4, 4\)"),
    ],
    ids=["dtype", "width", "packed width", "empty", "1-D", "packed and dynamic", "labels", "2-D shape", "zero size"],
)
def test_storage_that_does_not_fit_is_refused(storage, options, message):
    with pytest.raises(InvalidInputError, match=message):
        Images(storage, **{"image_shape": (1, 4, 4), **options})


def test_a_representation_is_short():
    assert len(repr(grey(count=6))) < 100
