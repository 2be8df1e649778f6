"""Data of any kind become examples at one place, and say clearly what they are not."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from tests.seeds import numpy_generator
from vae_flows.data import DataSet, Images, TensorExamples, as_data_set, as_examples, from_arrays
from vae_flows.data.splits import hold_out
from vae_flows.errors import InvalidInputError

VALUES = numpy_generator().integers(0, 100, (20, 3))
DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">i4", ">u2", ">f8"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_of_every_type_keep_their_values(dtype):
    array = VALUES.astype(dtype)
    batch = as_examples(array).batch(dtype=torch.float64)
    np.testing.assert_array_equal(batch.numpy(), array.astype(np.float64))


@pytest.mark.parametrize(
    "change", [lambda a: a[::-1], lambda a: a[:, ::2], np.asfortranarray], ids=["reversed", "strided", "Fortran"]
)
def test_arrays_of_every_layout_keep_their_values(change):
    array = change(VALUES)
    np.testing.assert_array_equal(as_examples(array).batch().numpy(), array)


def test_arrays_that_are_read_only_are_copied():
    array = VALUES.copy()
    array.flags.writeable = False
    np.testing.assert_array_equal(as_examples(array).batch().numpy(), array)


def test_tensors_and_arrays_share_memory():
    tensor, array = torch.zeros(3, 2), np.zeros((3, 2), np.float32)
    examples = [as_examples(tensor), as_examples(array)]
    tensor += 1
    array += 1
    assert all(bool((example.batch() == 1).all()) for example in examples)


def test_labels_of_every_kind_are_kept():
    labels = list(range(20))
    for given in (labels, np.array(labels, np.uint8), torch.tensor(labels, dtype=torch.int32)):
        assert as_examples(VALUES, labels=given).labels.tolist() == labels
    values = torch.from_numpy(VALUES)
    assert as_examples(TensorDataset(values, torch.tensor(labels))).labels.tolist() == labels
    assert as_examples(TensorDataset(values)).labels is None
    assert as_examples(TensorDataset(values, torch.rand(20))).labels is None  # targets of a regression


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(3, np.int64), r"labels: expected shape \(20,\), got \(3,\)"),
        (["a"] * 20, "labels of data: expected integers, got dtype <U1"),
        (np.zeros(20), "expected integers, got dtype float64"),
    ],
    ids=["length", "strings", "fractions"],
)
def test_labels_that_do_not_fit_are_refused(labels, message):
    with pytest.raises(InvalidInputError, match=message):
        as_examples(VALUES, labels=labels)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(VALUES)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (VALUES.tolist(), r"np\.asarray\(x\)"),
        ((VALUES, VALUES), r"TensorDataset\(x, labels\)"),
        (DataLoader(TensorDataset(torch.zeros(3, 2))), "Pass its data set"),
        (Stream(), "expected a data set with __len__ and __getitem__"),
        (None, "expected a tensor or an array, .*, got None"),
        (np.array([["a"]]), "got dtype <U1"),
        (np.array([[{}]], object), "got dtype object"),
        (np.zeros((2, 2), np.complex64), "got dtype complex64"),
        (np.full((2, 2), 2**63, np.uint64), "at most 63 bits"),
        (np.array([[0.0, np.nan]]), "got nan in example 0 at 1"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_data_is_refused(data, message):
    with pytest.raises(InvalidInputError, match=message):
        as_examples(data)


def test_a_split_is_taken_of_a_data_set_by_name():
    data = as_data_set(VALUES)
    assert as_data_set(data) is data
    with pytest.raises(InvalidInputError, match=r"expected a tensor .*, got .* Take one of its splits"):
        as_examples(data)
    with pytest.raises(InvalidInputError, match="labels: expected None"):
        as_examples(data.test, labels=[1])


@pytest.mark.parametrize(
    ("sizes", "counts"),
    [
        ({}, (16, 2, 2)),
        ({"validation": 0.25, "test": 1}, (14, 5, 1)),
        ({"validation": 3, "test": VALUES[:7]}, (17, 3, 7)),
        ({"validation": torch.zeros(4, 3), "test": TensorExamples(torch.zeros(5, 3))}, (20, 4, 5)),
    ],
    ids=["default", "sizes", "test given", "both given"],
)
def test_splits_are_held_out_or_given(sizes, counts):
    data = as_data_set(VALUES, **sizes, labels=range(20), name="counts")
    assert (len(data.train), len(data.validation), len(data.test)) == counts
    assert (data.name, data.pixels, data.event_shape) == ("counts", None, (3,))
    assert isinstance(data, DataSet)
    assert data.train.labels is not None
    np.testing.assert_array_equal(data.train.batch().numpy(), VALUES[data.train.labels.numpy()])


def test_the_split_is_that_of_the_seed():
    expected = hold_out("", 20, (2, 2), 7)
    data = as_data_set(VALUES, split_seed=7)
    for split, rows in zip((data.train, data.validation, data.test), expected, strict=True):
        np.testing.assert_array_equal(split.batch().numpy(), VALUES[rows])


def test_fractions_are_taken_as_written():
    assert len(as_data_set(np.zeros((100, 2)), test=0.29).test) == 29  # 0.29 · 100 is 28.999…


def test_images_keep_their_pixels():
    data = from_arrays(*[np.ones((n, 4, 4), bool) for n in (20, 3, 3)])
    again = as_data_set(data.train)
    assert (again.pixels, type(again.test)) == ("binary", Images)
    grey = Images(torch.zeros(20, 16, dtype=torch.uint8), (1, 4, 4))
    assert as_data_set(grey).pixels == "grey"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 15, "test": 5}, r"leave some of 20 examples to train on, got \(15, 5\)"),
        ({"validation": 0.9, "test": 0.1}, r"got \(18, 2\)"),
        ({"validation": 0.01}, r"got \(0, 2\)"),
        ({"test": -1}, r"got \(2, -1\)"),
        ({"test": 1.5}, "a number of examples, or a fraction of them between 0 and 1, got 1.5"),
        ({"test": float("nan")}, "between 0 and 1, got nan"),
        ({"test": True}, "between 0 and 1, got True"),
        ({"test": "0.1"}, "expected a tensor or an array"),
        ({"split_seed": -1}, "split_seed"),
        ({"validation": VALUES, "test": VALUES, "split_seed": 1}, "no option for splits that it brings along"),
        ({"validation": VALUES[:, :2]}, r"validation: expected examples of shape \(3,\), got \(2,\)"),
        ({"labels": [1, 2]}, r"labels: expected shape \(20,\)"),
        ({"name": 3}, "as_data_set name: expected a string"),
    ],
    ids=str,
)
def test_splits_that_are_not_possible_are_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        as_data_set(VALUES, **options)
