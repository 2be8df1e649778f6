"""The literature's tables, from small files of their layout: what is dropped, added, split and refused."""

import numpy as np
import pytest

from experiments.density.tabular.published import PUBLISHED, read_published
from tests.seeds import numpy_generator
from vae_flows.errors import DataError

ROUNDING = 1e-9


def allow(monkeypatch, name, sizes, dim=None):
    """Let a table be of other sizes, so that a small file passes."""
    published = PUBLISHED[name]
    monkeypatch.setitem(PUBLISHED, name, published._replace(sizes=sizes, dim=dim or published.dim))


def published_power(rows):
    """The published preparation of POWER, line by line: generator 42 shuffles, then draws the noise."""
    generator = np.random.RandomState(42)
    rows = rows.copy()
    generator.shuffle(rows)
    kept = rows[:, [0, 2, 4, 5, 6, 7]]
    kept[:, 1] += 0.01 * generator.rand(len(rows), 1)[:, 0]
    kept[:, 0] += 0.001 * generator.rand(len(rows), 1)[:, 0]
    kept[:, 2:5] += generator.rand(len(rows), 3)
    return kept


def test_power_is_shuffled_loses_two_columns_and_has_noise_within_its_digits(tmp_path, monkeypatch):
    rows = numpy_generator().normal(size=(100, 8))
    np.save(tmp_path / "data.npy", rows)
    allow(monkeypatch, "power", (81, 9, 10))
    splits = read_published("power", tmp_path / "data.npy")
    expected = published_power(rows)
    known = expected[:90]
    standardized = (expected - known.mean(0)) / known.std(0)
    for split, part in zip(splits, np.split(standardized, [81, 90]), strict=True):
        np.testing.assert_allclose(split, part, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("columns", [16, 19])
def test_gas_loses_the_first_of_sensors_that_agree(tmp_path, monkeypatch, columns):
    generator = numpy_generator()
    rows = generator.normal(size=(200, columns))
    sensors = rows[:, -16:]
    for copy in range(8):  # sensor 2i + 1 repeats 2i, so that the even ones are dropped; the inverse of one stays
        sensors[:, 2 * copy + 1] = 3 * sensors[:, 2 * copy] + 1e-3 * generator.normal(size=200)
    sensors[:, 15] = -sensors[:, 13]
    sensors[:, 14] = sensors[:, 15]
    np.save(tmp_path / "gas.npy", rows)
    allow(monkeypatch, "gas", (162, 18, 20))
    splits = read_published("gas", tmp_path / "gas.npy")
    kept = sensors[:, 1::2]
    expected = (kept - kept.mean(0)) / kept.std(0, ddof=1)
    for split, part in zip(splits, np.split(expected, [162, 180]), strict=True):
        np.testing.assert_allclose(split, part, rtol=0, atol=ROUNDING)


def test_hepmass_keeps_signals_and_features_that_do_not_repeat_their_least_value(tmp_path, monkeypatch):
    generator = numpy_generator()
    train, test = generator.normal(size=(80, 28)), generator.normal(size=(40, 29))
    train[:, 0], test[:, 0] = np.arange(80) % 2, np.arange(40) % 2
    train[:, 3] = np.maximum(train[:, 3], 0.0)  # its least value occurs often
    train[:, 5] = np.minimum(train[:, 5], 0.0)  # its greatest does, by which nothing is dropped
    for name, rows in {"1000_train.csv": train, "1000_test.csv": test}.items():
        np.savetxt(tmp_path / name, rows, delimiter=",", header="# label,f0,f1", comments="", fmt="%.17g")
    allow(monkeypatch, "hepmass", (36, 4, 20), 26)
    splits = read_published("hepmass", tmp_path)
    signals, kept = train[train[:, 0] == 1][:, 1:], [place for place in range(27) if place != 2]
    mean, deviation = signals.mean(0), signals.std(0, ddof=1)
    expected = ((signals - mean) / deviation)[:, kept]
    np.testing.assert_allclose(np.vstack(splits[:2]), expected, rtol=0, atol=ROUNDING)
    tested = ((test[test[:, 0] == 1][:, 1:28] - mean) / deviation)[:, kept]
    np.testing.assert_allclose(splits.test, tested, rtol=0, atol=ROUNDING)


def test_miniboone_loses_outliers_and_features_that_repeat_and_is_prepared_once(tmp_path, monkeypatch):
    rows = numpy_generator().normal(size=(103, 50))
    rows[::51, 0] = -999.0
    rows[:, 1:8] = np.maximum(rows[:, 1:8], 0.0)
    np.save(tmp_path / "raw.npy", rows)
    np.save(tmp_path / "data.npy", np.delete(rows[rows[:, 0] > -100], slice(1, 8), axis=1))
    allow(monkeypatch, "miniboone", (81, 9, 10))
    raw, prepared = (read_published("miniboone", tmp_path / name) for name in ("raw.npy", "data.npy"))
    for one, other in zip(raw, prepared, strict=True):
        np.testing.assert_array_equal(one, other)
    known = np.vstack(raw[:2])
    np.testing.assert_allclose([known.mean(0), known.std(0)], [np.zeros(43), np.ones(43)], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("suffix", ["npz", "hdf5"])
def test_bsds300_is_taken_as_it_is(tmp_path, monkeypatch, suffix):
    generator, path = numpy_generator(), tmp_path / f"BSDS300.{suffix}"
    rows = {name: generator.normal(size=(size, 63)) for name, size in [("train", 8), ("validation", 3), ("test", 4)]}
    if suffix == "npz":
        np.savez(path, **rows)
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, values in rows.items():
                file[name] = values
    allow(monkeypatch, "bsds300", (8, 3, 4))
    for split, values in zip(read_published("bsds300", path), rows.values(), strict=True):
        np.testing.assert_array_equal(split, values)


def test_published_sizes_add_up_to_those_of_the_files():
    """Tenths of all rows for the test and of the rest for validation, where the files are split so."""
    for name, rows in {"power": 2_049_280, "gas": 1_052_065, "miniboone": 36_488}.items():
        test = rows // 10
        validation = (rows - test) // 10
        assert PUBLISHED[name].sizes == (rows - test - validation, validation, test)
    assert {name: published.dim for name, published in PUBLISHED.items()} == {
        "power": 6,
        "gas": 8,
        "hepmass": 21,
        "miniboone": 43,
        "bsds300": 63,
    }


@pytest.mark.parametrize("name", ["power", "gas", "miniboone"])
def test_other_rows_than_the_published_ones_are_refused(tmp_path, name):
    path = tmp_path / "data.npy"
    columns = {"power": 8, "gas": 16, "miniboone": 43}[name]
    np.save(path, numpy_generator().normal(size=(100, columns)))
    with pytest.raises(DataError, match=rf"{name} at .*: expected {PUBLISHED[name].dim} columns and .* rows"):
        read_published(name, path)
    np.save(path, np.zeros((100, 5)))
    with pytest.raises(DataError, match=r"expected finite numbers in rows of .* columns, got shape \(100, 5\)"):
        read_published(name, path)
    np.save(path, np.full((100, columns), np.nan))
    with pytest.raises(DataError, match="expected finite numbers in rows of"):
        read_published(name, path)


@pytest.mark.parametrize(("name", "file"), [("bsds300", "a.hdf5"), ("hepmass", "1000_train.csv")])
def test_files_that_are_missing_or_damaged_are_told(tmp_path, name, file):
    place = tmp_path / file if name == "bsds300" else tmp_path
    if name == "bsds300":
        pytest.importorskip("h5py")
    with pytest.raises(DataError, match="got an error"):
        read_published(name, place)
    (tmp_path / file).write_text("damaged")
    with pytest.raises(DataError):
        read_published(name, place)
