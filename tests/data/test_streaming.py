"""Data sets that are read batch by batch: the same examples and draws with any number of processes, clear errors."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from tests.seeds import reseed, torch_generator
from vae_flows.data import StreamedExamples, TensorExamples, as_data_set, as_examples
from vae_flows.errors import DataError, IndexOutOfRangeError, InvalidInputError

VALUES = torch.rand(30, 2, 3, generator=torch_generator())


class Items(Dataset):
    """Whatever `make` returns for each position."""

    def __init__(self, make, count=30):
        self.make = make
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.make(index)


def jittered(index):
    noise = torch.rand(()) + np.random.rand() + random.random()  # noqa: NPY002
    return VALUES[index] + noise


def failing(index):
    if index == 7:
        raise KeyError("missing")
    return VALUES[index]


def cut(index):
    return VALUES[index, : 1 + (index != 7)]


def infinite(index):
    return VALUES[index] / (index != 7)


MAKES = {
    "tensor": lambda i: VALUES[i],
    "array": lambda i: VALUES[i].numpy(),
    "labelled": lambda i: (VALUES[i], i),
    "tensor label": lambda i: [VALUES[i].numpy(), torch.tensor(i)],
    "more": lambda i: (VALUES[i], np.int64(i), "a note"),
}


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_those_of_the_same_examples_in_memory(make, num_workers):
    streamed, stored = StreamedExamples(Items(MAKES[make]), num_workers=num_workers), TensorExamples(VALUES)
    assert (len(streamed), streamed.event_shape) == (30, (2, 3))
    for indices in (None, slice(3, 20, 2), [5, 0, 5], torch.tensor([29]), np.array([1, 2])):
        assert torch.equal(streamed.batch(indices, dtype=torch.float64), stored.batch(indices, dtype=torch.float64))
    order = torch.randperm(30, generator=torch_generator(1)).split(7)
    for dtype in (torch.float32, torch.float64):
        batches = list(streamed.batches(order, generator=None, dtype=dtype))
        expected = list(stored.batches(order, generator=None, dtype=dtype))
        assert len(batches) == len(expected)
        assert all(torch.equal(*pair) for pair in zip(batches, expected, strict=True))


def test_items_have_the_labels_of_the_source():
    example, label = StreamedExamples(Items(MAKES["labelled"]))[-1]
    assert torch.equal(example, VALUES[29])
    assert (label, type(label)) == (29, int)
    assert torch.equal(StreamedExamples(Items(MAKES["array"]))[3], VALUES[3])
    with pytest.raises(IndexOutOfRangeError):
        StreamedExamples(Items(MAKES["array"]))[30]


def test_a_selection_reads_the_items_that_it_means():
    examples = StreamedExamples(Items(MAKES["labelled"])).select([9, 4, 2, 4]).select([3, 0])
    assert torch.equal(examples.batch(), VALUES[[4, 9]])
    assert [label for _, label in examples] == [4, 9]
    assert torch.equal(examples.take(1).batch(), VALUES[[4]])


@pytest.mark.parametrize("name", ["targets", "labels"])
def test_labels_that_the_source_keeps_are_known_without_reading(name):
    source = Items(MAKES["labelled"])
    setattr(source, name, list(range(30)))
    assert StreamedExamples(source).select([7, 3]).labels.tolist() == [7, 3]
    setattr(source, name, [0.5] * 30)
    assert StreamedExamples(source).labels is None
    setattr(source, name, list(range(29)))
    assert StreamedExamples(source).labels is None


def test_draws_of_the_source_depend_on_the_generator_and_on_nothing_else():
    order = torch.arange(30).split(7)

    def drawn(num_workers, seed):
        reseed(num_workers)
        examples = StreamedExamples(Items(jittered), num_workers=num_workers)
        states = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
        batches = torch.cat(list(examples.batches(order, generator=torch_generator(seed), dtype=torch.float64)))
        assert torch.equal(torch.random.get_rng_state(), states[0])
        assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
        assert random.getstate() == states[2]
        return batches

    first = drawn(0, 0)
    assert torch.equal(drawn(1, 0), first)
    assert torch.equal(drawn(2, 0), first)
    assert not torch.equal(drawn(0, 1), first)
    noise = (first - VALUES).flatten(1)[:, 0]
    assert len(noise.unique()) == 30


def test_fingerprints_repeat_and_tell_contents_apart():
    def fingerprint(make):
        return StreamedExamples(Items(make)).fingerprint()

    assert fingerprint(jittered) == fingerprint(jittered)
    assert fingerprint(MAKES["tensor"]) == fingerprint(MAKES["labelled"])
    assert fingerprint(lambda i: VALUES[-1 - i]) != fingerprint(MAKES["tensor"])
    examples = StreamedExamples(Items(MAKES["tensor"]))
    assert examples.take(29).fingerprint() != examples.fingerprint()


def test_torchs_loader_takes_them():
    examples = StreamedExamples(Items(MAKES["labelled"]))
    batches = list(DataLoader(examples, batch_size=8))
    assert torch.equal(torch.cat([x for x, _ in batches]), VALUES)
    assert torch.equal(torch.cat([y for _, y in batches]), torch.arange(30))


class Shaped(Items):
    def __getitems__(self, indices):
        return [self.make(index) for index in indices]


def test_items_are_asked_for_together_where_the_source_can():
    assert torch.equal(StreamedExamples(Shaped(MAKES["array"])).batch([3, 1]), VALUES[[3, 1]])


class Stream(IterableDataset):
    def __iter__(self):
        return iter(VALUES)


class Unsized(Dataset):
    def __getitem__(self, index):
        return VALUES[index]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Stream(), "expected a data set with __len__ and __getitem__, .* Each epoch needs all examples"),
        (Unsized(), "expected a data set with __len__ and __getitem__"),
        (VALUES, "expected a data set with __len__ and __getitem__"),
        (Items(MAKES["tensor"], 0), "expected at least one example, got none"),
        (Items(lambda i: 1.0), "item 0 of Items: expected a tensor or array .* Give single numbers as arrays of one"),
        (Items(lambda i: {"x": VALUES[i]}), "Wrap the data set in one whose items are the arrays"),
        (Items(lambda i: (Image.new("L", (4, 4)), 0)), r"transform=torchvision.transforms.ToTensor\(\)"),
        (Items(lambda i: "text"), "got 'text'"),
        (Items(lambda i: ()), r"got \(\)"),
        (Items(lambda i: np.array(["a"])), "got dtype <U1"),
        (Items(lambda i: VALUES[i] / 0), "items of Items: expected finite values, got (nan|inf) in example 0"),
    ],
    ids=[
        "iterable",
        "no length",
        "tensor",
        "empty",
        "number",
        "mapping",
        "picture",
        "text",
        "nothing",
        "strings",
        "nan",
    ],
)
def test_sources_of_no_examples_are_refused(source, message):
    with pytest.raises(InvalidInputError, match=message):
        StreamedExamples(source)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (failing, DataError, r"^item 7 of Items: expected an example, got KeyError \('missing'\)"),
        (cut, InvalidInputError, r"^item 7 of Items: expected shape \(2, 3\) as of .* got \(1, 3\)"),
        (infinite, InvalidInputError, r"^items of Items: expected finite values, got inf in example 7"),
    ],
    ids=["failing", "another shape", "infinite"],
)
def test_items_that_cannot_be_used_are_told_of(num_workers, make, error, message):
    examples = StreamedExamples(Items(make), num_workers=num_workers)
    with pytest.raises(error, match=message):
        list(examples.batches(torch.arange(30).split(5), generator=None, dtype=torch.float32))


DYING = """
import os
import torch
from torch.utils.data import Dataset
from vae_flows.data import StreamedExamples

class Dying(Dataset):
    def __len__(self):
        return 30

    def __getitem__(self, index):
        if index == 7:
            os._exit(3)
        return torch.zeros(2)

if __name__ == "__main__":
    examples = StreamedExamples(Dying(), num_workers=1)
    list(examples.batches(torch.arange(30).split(5), generator=None, dtype=torch.float32))
"""


def test_a_process_that_ends_is_told_of(tmp_path):
    # In a process of its own: torch tells of the end by a signal, which may reach the test runner instead.
    (tmp_path / "dying.py").write_text(DYING)
    ended = subprocess.run([sys.executable, tmp_path / "dying.py"], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    # By the reader, or by torch's signal where that is faster.
    assert "processes reading" in ended.stderr or "DataLoader worker" in ended.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_workers": -1}, "num_workers"),
        ({"num_workers": 1.5}, "num_workers"),
        ({"num_workers": True}, "num_workers"),
        ({"positions": torch.tensor([30])}, "positions: expected values from 0 to 29"),
        ({"positions": torch.tensor([-1])}, "positions: expected values from 0 to 29"),
        ({"positions": torch.tensor([0.5])}, "positions: expected integers"),
        ({"device": "nowhere"}, "device"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        StreamedExamples(Items(MAKES["tensor"]), **options)


def test_positions_beyond_the_end_are_refused():
    for indices in ([30], [-1], torch.tensor([0.5])):
        with pytest.raises(InvalidInputError, match=r"StreamedExamples.batch indices"):
            StreamedExamples(Items(MAKES["tensor"])).batch(indices)


def test_data_sets_of_torch_are_streamed_but_those_of_tensors():
    assert isinstance(as_examples(Subset(TensorDataset(VALUES), [1, 2])), StreamedExamples)
    assert isinstance(as_examples(TensorDataset(VALUES)), TensorExamples)
    data = as_data_set(Items(MAKES["labelled"]), validation=0.2, split_seed=1)
    labels = [label for split in (data.train, data.validation, data.test) for _, label in split]
    assert sorted(labels) == list(range(30))
    same = as_data_set(VALUES, validation=0.2, split_seed=1)
    assert torch.equal(data.validation.batch(), same.validation.batch())
