import numpy as np
import pytest

from vae_flows.data.splits import Rows, complete_splits, hold_out
from vae_flows.errors import InvalidInputError

NOTHING = {"split_seed": None, "validation_size": None, "test_size": None}


def rows(count, labels=True):
    return Rows(np.arange(count)[:, None], np.arange(count) if labels else None)


@pytest.mark.parametrize("seed", [123, 321, 231])
def test_the_order_is_that_of_the_legacy_shuffle(seed):
    shuffled = np.arange(3930).reshape(1965, 2)
    np.random.RandomState(seed).shuffle(shuffled)
    train, validation, test = hold_out("faces", 1965, (200, 200), seed)
    assert [len(train), len(validation), len(test)] == [1565, 200, 200]
    np.testing.assert_array_equal(np.concatenate([train, validation, test]), shuffled[:, 0] // 2)


def test_the_default_seed_is_fixed():
    np.testing.assert_array_equal(hold_out("a", 50, (5,))[1], hold_out("a", 50, (5,), 123)[1])


@pytest.mark.parametrize(
    ("sizes", "seed", "message"),
    [
        ((5, 5), 0, r"toy split: expected sizes of at least 1 that leave some of 10 examples.*got \(5, 5\) held out"),
        ((0,), 0, r"got \(0,\) held out"),
        ((-1, 3), 0, r"got \(-1, 3\) held out"),
        ((1,), -1, r"toy split_seed: expected an integer from 0"),
        ((1,), 2**32, "split_seed"),
        ((1,), 0.5, "split_seed"),
        ((1,), True, "split_seed"),
        ((1,), "x", "split_seed: .*got 'x'"),
        (("1",), 0, "integers for sizes"),
        ((1.0,), 0, "integers for sizes"),
        ((True,), 0, "integers for sizes"),
    ],
)
def test_impossible_splits_are_refused(sizes, seed, message):
    with pytest.raises(InvalidInputError, match=message):
        hold_out("toy", 10, sizes, seed)


def test_one_array_is_split_in_three_without_loss():
    splits = complete_splits("toy", {"train": rows(40)}, fraction=0.1, **NOTHING)
    assert {name: len(split.values) for name, split in splits.items()} == {"train": 32, "validation": 4, "test": 4}
    together = np.concatenate([split.values[:, 0] for split in splits.values()])
    np.testing.assert_array_equal(np.sort(together), np.arange(40))
    for split in splits.values():
        np.testing.assert_array_equal(split.values[:, 0], split.labels)


def test_a_given_test_set_stays_as_it_is():
    test = rows(7, labels=False)
    options = {**NOTHING, "validation_size": 3, "split_seed": 5}
    splits = complete_splits("toy", {"train": rows(10), "test": test}, fraction=0.1, **options)
    assert splits["test"] is test
    np.testing.assert_array_equal(splits["validation"].labels, hold_out("toy", 10, (3,), 5)[1])


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (
            ("train", "validation", "test"),
            {"split_seed": 1},
            "no option for splits that it brings along, got split_seed",
        ),
        (("train", "validation", "test"), {"validation_size": 1}, "got validation_size"),
        (("train", "test"), {"test_size": 2}, "got test_size"),
        (("train",), {"test_size": 9}, r"leave some of 10 examples"),
    ],
)
def test_options_that_do_not_fit_are_refused(given, options, message):
    with pytest.raises(InvalidInputError, match=message):
        complete_splits("toy", {name: rows(10) for name in given}, fraction=0.1, **{**NOTHING, **options})


def test_labels_are_one_per_example():
    with pytest.raises(
        InvalidInputError, match=r"toy train labels: expected one for each of 4 examples, got shape \(3,\)"
    ):
        Rows(np.zeros((4, 2)), np.zeros(3, np.int64), "toy train")
