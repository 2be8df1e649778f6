"""Tables: headers or none, numbers as Python reads them, and the place of whatever is no number."""

import os

import numpy as np
import pytest
import torch

from tests.seeds import numpy_generator
from vae_flows.data import TensorExamples, load
from vae_flows.data.tables import read_table
from vae_flows.errors import DataError, InvalidInputError, UnknownNameError
from vae_flows.persistence import archives

VALUES = numpy_generator().normal(size=(30, 4))


def write(path, values=VALUES, header=None, labels=None):
    lines = [] if header is None else [",".join(header)]
    lines += [",".join(map(repr, row)) for row in values.tolist()]
    if labels is not None:
        start = 0 if header is None else 1
        lines = lines[:start] + [f"{line},{label}" for line, label in zip(lines[start:], labels, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("header", [None, ["a", "b", "c", "d"], ["1", "2", "x", "4"]], ids=["none", "names", "mixed"])
def test_numbers_are_read_to_the_last_digit(tmp_path, header):
    columns, values = read_table(write(tmp_path / "a.csv", header=header))
    np.testing.assert_array_equal(values, VALUES)
    assert columns == tuple(header or ["1", "2", "3", "4"])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2\r\n3,4\r\n", [[1, 2], [3, 4]]),
        ("1,2\n\n3,4", [[1, 2], [3, 4]]),
        ("\ufeffx,y\n 1 , -2.5e-3\n", [[1, -0.0025]]),
        ('"x, or so","y"\n"1","2"\n', [[1, 2]]),
        ("5\n6\n", [[5], [6]]),
    ],
    ids=["Windows", "empty lines", "mark and spaces", "quotes", "one column"],
)
def test_tables_are_read_as_they_are_usually_written(tmp_path, text, values):
    path = tmp_path / "a.csv"
    path.write_text(text, newline="")
    assert read_table(path).values.tolist() == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,2\n3,nan\n", r"a.csv, line 3, column 'y': expected a finite number, got 'nan'"),
        ("x,y\n1,2\n3,\n", r"line 3, column 'y': expected a finite number, got nothing"),
        ("1,2\n,4\n", r"line 2, column '1': expected a finite number, got nothing"),
        ("1,\n3,4\n", r"line 1, column '2': expected a finite number, got nothing"),
        ("x,y\n\n1,2\nNA,2\n", r"line 4, column 'x': .* got 'NA'\. Fill in or leave out"),
        ("1,2\n3,inf\n", r"line 2, column '2': .* got 'inf'"),
        ("1,2\n3,1e999\n", r"got '1e999'"),
        ("1,2\n3,red\n", r"got 'red'\. .*encode words as numbers"),
        ("1,2\n3,1_0\n", r"got '1_0'"),
        ("1,2\n3,4,5\n", r"a.csv, line 2: expected 2 cells, got 3"),
        ("1,2\n3\n", r"a.csv, line 2: expected 2 cells, got 1"),
        ("1;2\n3;4\n", r"line 2, column '1;2': expected a finite number, got '3;4'"),
        ("", r"a.csv: expected rows of numbers, got none"),
        ("x,y\n", r"a.csv: expected rows of numbers, got none"),
        ('x,"y\n1,2\n', r"a.csv: expected a .csv file of numbers"),
    ],
)
def test_what_is_no_number_is_told_of_with_its_place(tmp_path, text, message):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_table(path)


def test_what_is_no_table_is_refused(tmp_path):
    for content in (bytes(range(256)), b"\x00" * 100, b"9" * 10**5):
        (tmp_path / "a.csv").write_bytes(content)
        with pytest.raises(DataError, match=r"a.csv"):
            read_table(tmp_path / "a.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=r"pipe.csv: expected a .csv file, got .*pipe"):
        read_table(tmp_path / "pipe.csv")


def test_tables_that_do_not_fit_in_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
    path = write(tmp_path / "a.csv")
    monkeypatch.setattr(archives, "MAX_BYTES", path.stat().st_size)
    with pytest.raises(DataError, match=r"a.csv: expected at most 0 MiB"):
        read_table(path)


@pytest.mark.parametrize("suffix", [".csv", ".CSV"])
def test_a_table_is_a_data_set(tmp_path, suffix):
    path = write(tmp_path / f"points{suffix}")
    data = load(path, split_seed=2, validation_size=0.1, test_size=6)
    assert (data.name, data.pixels, data.event_shape) == ("points", None, (4,))
    assert (len(data.train), len(data.validation), len(data.test)) == (21, 3, 6)
    assert isinstance(data.train, TensorExamples)
    together = torch.cat([split.batch(dtype=torch.float64) for split in (data.train, data.validation, data.test)])
    np.testing.assert_array_equal(np.sort(together.numpy(), 0), np.sort(VALUES, 0))


@pytest.mark.parametrize("header", [None, ["a", "b", "c", "d", "kind"]], ids=["none", "names"])
def test_a_column_may_be_the_labels(tmp_path, header):
    path = write(tmp_path / "a.csv", header=header, labels=range(30))
    data = load(path, label_column="kind" if header else "5")
    assert data.event_shape == (4,)
    np.testing.assert_array_equal(data.test.batch(dtype=torch.float64).numpy(), VALUES[data.test.labels.numpy()])
    with pytest.raises(UnknownNameError, match=r"label column of .*a.csv: expected one of"):
        load(path, label_column="sort")
    with pytest.raises(InvalidInputError, match="expected integers, got fractions"):
        load(path, label_column="a" if header else "1")


def test_a_split_larger_than_the_table_is_refused(tmp_path):
    path = write(tmp_path / "a.csv")
    with pytest.raises(InvalidInputError, match=r"leave some of 30 examples to train on, got \(3, 30\) held out"):
        load(path, test_size=30)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(("columns", "integers"), [(2, False), (3, False), (4, False), (4, True), (12, True)])
def test_a_line_that_counts_the_columns_is_a_header(tmp_path, first, columns, integers):
    """As pandas writes for an array."""
    values = numpy_generator().normal(size=(20, columns))
    values = np.rint(9 * values).astype(int) if integers else values
    path = write(tmp_path / "a.csv", values, [str(first + place) for place in range(columns)])
    with pytest.warns(UserWarning, match=r"a.csv, line 1: .* are taken for names of columns"):
        found = read_table(path)
    np.testing.assert_array_equal(found.values, values)
    assert found.columns == tuple(str(first + place) for place in range(columns))


@pytest.mark.parametrize(
    "text",
    ["0,1\n1,0\n3,4\n", "1,2,3\n4,5,6.5\n", "0.0,1.0,2.0,3.0\n1.5,2,3,4\n", "0,1,2,4\n1.5,2.5,3.5,4.5\n", "0\n1.5\n"],
)
def test_a_first_line_of_other_numbers_is_an_example(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    found = read_table(tmp_path / "a.csv")
    np.testing.assert_array_equal(found.values, np.loadtxt(tmp_path / "a.csv", delimiter=",", ndmin=2))


def test_label_columns_that_would_be_others_are_refused(tmp_path):
    path = write(tmp_path / "a.csv", header=["a", "b", "a", "c"])
    with pytest.raises(InvalidInputError, match=r"label column 'a' of .*expected one, got 2 of that name"):
        load(path, label_column="a")
    path = write(tmp_path / "b.csv", header=["a", "b", "c", "d", "label"], labels=[1e300] * 30)
    with pytest.raises(InvalidInputError, match="expected integers up to 9007199254740992, got 1e"):
        load(path, label_column="label")


def test_columns_that_single_precision_does_not_resolve_are_not_standardised(tmp_path):
    values = numpy_generator().normal(size=(200, 3))
    near = values * [1.0, 500.0, 1e-3] + [0.0, 101325.0, 2.0]
    far = values + np.array([1.7e9, 0.0, 0.0])
    assert load(write(tmp_path / "near.csv", near), standardize=True).standardization is not None
    with pytest.raises(InvalidInputError, match=r"single precision resolves, got a mean .*at places 0\. Subtract"):
        load(write(tmp_path / "far.csv", far), standardize=True)
    constant = np.column_stack([values[:, 0], np.full(200, 1.7e9)])
    assert load(write(tmp_path / "constant.csv", constant), standardize=True).standardization is not None
