"""Examples of any kind: batches, positions, labels, devices, and what `torch.utils.data` asks of them."""

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader

from tests.seeds import numpy_generator, torch_generator
from vae_flows.data import Images, TensorExamples
from vae_flows.errors import IndexOutOfRangeError, InvalidInputError

FLOATING = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
DTYPES = [*FLOATING, torch.int64, torch.int16, torch.uint8, torch.bool]


def rows(shape=(3,), count=6, dtype=torch.float64, labels=None):
    values = torch.rand(count, *shape, generator=torch_generator(), dtype=torch.float64) * 200
    return TensorExamples(values.to(dtype), labels)


def grey(labels=None):
    levels = numpy_generator(1).integers(0, 256, (6, 6), dtype=np.uint8)
    return Images(torch.from_numpy(levels), (1, 2, 3), labels=labels)


def packed(labels=None):
    levels = numpy_generator(1).integers(0, 256, (6, 1), dtype=np.uint8)
    return Images(torch.from_numpy(levels), (1, 2, 3), packed=True, labels=labels)


KINDS = pytest.mark.parametrize("make", [rows, grey, packed], ids=["tensor", "grey", "packed"])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("wanted", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_batches_are_the_values_in_the_models_type(dtype, wanted):
    examples = rows((2, 3), dtype=dtype)
    batch = examples.batch([4, 1], dtype=wanted)
    assert (examples.event_shape, batch.dtype) == ((2, 3), wanted)
    assert torch.equal(batch, examples.storage[[4, 1]].to(wanted))


@KINDS
def test_an_item_is_the_example_at_a_position(make):
    examples = make()
    for position in (0, 5, -1, -6, np.int64(3)):
        assert torch.equal(examples[position], examples.batch()[position])
    assert torch.equal(torch.stack(list(examples)), examples.batch())
    for position in (6, -7):
        with pytest.raises(IndexOutOfRangeError, match=f"expected one from -6 to 5, got {position}") as error:
            examples[position]
        assert isinstance(error.value, IndexError)
    for position in ("0", 1.0, True, None, [0]):
        with pytest.raises(InvalidInputError, match=r"index of .*: expected an integer"):
            examples[position]


@KINDS
def test_an_item_has_its_label(make):
    labels = torch.tensor([3, 1, 4, 1, 5, 9])
    example, label = make(labels=labels)[-1]
    assert (label, type(label)) == (9, int)
    assert torch.equal(example, make().batch([5])[0])


@KINDS
def test_torchs_loader_takes_them(make):
    labels = torch.arange(6)
    examples = make(labels=labels)
    batches = list(DataLoader(examples, batch_size=4))
    assert torch.equal(torch.cat([x for x, _ in batches]), examples.batch())
    assert torch.equal(torch.cat([y for _, y in batches]), labels)
    assert len(ConcatDataset([examples, examples])) == 12


@KINDS
def test_selection_and_batches_are_those_of_the_positions(make):
    examples, positions = make(labels=torch.arange(6)), np.array([5, 0, 5])
    chosen = examples.select(positions)
    assert torch.equal(chosen.batch(), examples.batch(positions))
    assert chosen.labels.tolist() == positions.tolist()
    assert torch.equal(examples.take(2).batch(), examples.batch(slice(0, 2)))
    assert len(examples.take(99)) == 6
    pieces = list(examples.batches(torch.arange(6).split(4), generator=None, dtype=torch.float64))
    assert [len(piece) for piece in pieces] == [4, 2]
    assert torch.equal(torch.cat(pieces), examples.batch(dtype=torch.float64))


@KINDS
def test_a_fingerprint_tells_contents_apart(make):
    examples = make()
    assert examples.fingerprint() == make().fingerprint()
    others = [examples.take(5), examples.select([1, 0, 2, 3, 4, 5]), examples.select([0, 1, 2, 3, 4, 4])]
    assert len({other.fingerprint() for other in (examples, *others)}) == 4


def test_fingerprints_of_images_are_those_of_earlier_runs():
    images = Images(torch.arange(12, dtype=torch.uint8).reshape(2, 6), (1, 2, 3))
    assert images.fingerprint() == "2 of shape (1, 2, 3), checksum 9270c965"


def test_fingerprints_tell_types_apart():
    values = torch.zeros(2, 3)
    prints = {TensorExamples(values.to(dtype)).fingerprint() for dtype in DTYPES}
    assert len(prints) == len(DTYPES)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_values_that_are_not_finite_are_told_with_their_place(value, dtype):
    vectors = torch.zeros(5, 3, dtype=dtype)
    vectors[2, 1] = value
    with pytest.raises(InvalidInputError, match=rf"expected finite values, got {value} in example 2 at 1\."):
        TensorExamples(vectors)
    images = torch.zeros(5, 3, 2, 2, dtype=dtype)
    images[4, 1, 0, 1] = value
    with pytest.raises(InvalidInputError, match=rf"got {value} in example 4 at \(1, 0, 1\)"):
        TensorExamples(images)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(3), r"got \(3,\)\. Give single numbers as rows: x\.unsqueeze\(-1\)"),
        (torch.zeros(()), r"at least one example, got \(\)"),
        (torch.zeros(0, 3), r"at least one example, got \(0, 3\)"),
        (torch.zeros(3, 0), r"got \(3, 0\)"),
        (torch.zeros(3, 2, dtype=torch.complex64), "dense tensor of real numbers"),
        (torch.zeros(3, 2).to_sparse(), "dense tensor of real numbers"),
        (torch.zeros(3, 2, device="meta"), "dense tensor of real numbers"),
        ([[1.0]], "dense tensor of real numbers"),
    ],
    ids=["numbers", "number", "none", "empty", "complex", "sparse", "meta", "list"],
)
def test_what_holds_no_examples_is_refused(values, message):
    with pytest.raises(InvalidInputError, match=message):
        TensorExamples(values)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(5, dtype=torch.int64), r"TensorExamples labels: expected shape \(6,\), got \(5,\)"),
        (torch.zeros(6), "a tensor of integers, got torch.float32"),
        ([0] * 6, "a tensor of integers, got list"),
    ],
    ids=["length", "type", "list"],
)
def test_labels_that_do_not_fit_are_refused(labels, message):
    with pytest.raises(InvalidInputError, match=message):
        rows(labels=labels)


def test_values_are_taken_without_their_gradients():
    assert not TensorExamples(torch.zeros(2, 3, requires_grad=True)).batch().requires_grad


def test_memory_is_shared():
    values = torch.zeros(4, 2)
    assert TensorExamples(values).take(2).storage.data_ptr() == values.data_ptr()


def test_integer_batches_are_refused():
    with pytest.raises(InvalidInputError, match=r"TensorExamples.batch dtype: expected a floating-point type"):
        rows().batch(dtype=torch.int64)
