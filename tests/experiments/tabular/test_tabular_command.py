"""Tables learned from the command line: what is loaded, computed, kept, written and refused."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from experiments.cli import main
from experiments.density.densities import ContinuousDensity, GaussianDensity
from experiments.density.tabular import MODELS, TabularSettings, is_table, load_table, run_table
from experiments.density.tabular.published import PUBLISHED
from experiments.density.tabular.run import METRICS, STATE
from tests.seeds import numpy_generator
from vae_flows.errors import DataError, InvalidInputError, UnknownNameError
from vae_flows.flows.adapters.zuko import zuko_is_installed

OPTIONS = ["--seconds", "0.2", "--hidden-dims", "8", "--batch-size", "32", "--num-transforms", "1"]
TINY = {"seconds": 0.2, "hidden_dims": (8,), "batch_size": 32, "num_transforms": 1}
ROUNDING = 1e-9
needs_zuko = pytest.mark.skipif(not zuko_is_installed(), reason="needs zuko")


@pytest.fixture
def table(tmp_path):
    """Two hundred rows of three numbers that depend on each other, as an .npz file."""
    generator, path = numpy_generator(), tmp_path / "mine.npz"
    rows = generator.normal(size=(200, 3)) @ generator.normal(size=(3, 3)) + 5.0
    np.savez(path, x=rows)
    return path


@needs_zuko
@pytest.mark.parametrize(
    "name", ["wine", *(pytest.param(name, marks=pytest.mark.slow) for name in ("breast_cancer", "diabetes"))]
)
def test_real_tables_are_learned(name, no_colour, capsys):
    datasets = pytest.importorskip("sklearn.datasets")
    rows = getattr(datasets, f"load_{name}")().data
    with open(f"{name}.csv", "w", newline="") as file:
        csv.writer(file).writerows([[f"column {place}" for place in range(rows.shape[1])], *rows.tolist()])
    assert main(["density", "--data", f"{name}.csv", "--publish", "published", *OPTIONS]) == 0
    assert "Written to published: tabular.json, tabular.md" in capsys.readouterr().out
    runs = json.loads(Path("published/tabular.json").read_text())["runs"]
    assert [run["settings"]["model"] for run in runs] == list(MODELS)
    markdown = Path("published/tabular.md").read_text()
    assert "FFJORD" not in markdown
    for run in runs:
        assert run["dim"] == rows.shape[1]
        assert sum(run["data"]["rows"]) == len(rows)
        assert run["test"]["rows"] == run["data"]["rows"][2]
        assert {"versions", "hardware", "commit"} <= run.keys()
        assert math.isfinite(run["test"]["negative_log_likelihood"])
        assert run["test"]["standard_error"] > 0
        assert f"{run['test']['negative_log_likelihood']:.2f} ± {run['test']['standard_error']:.2f}" in markdown


def test_the_gaussian_is_that_of_scipy(table, tmp_path):
    data = load_table(str(table))
    train, test = data.train.double().numpy(), data.test.double().numpy()
    density = multivariate_normal(train.mean(0), np.cov(train.T, bias=True))
    found = run_table(tmp_path / "run", "gaussian", data, TabularSettings(str(table), **TINY))
    losses = -density.logpdf(test)
    assert found["test"]["negative_log_likelihood"] == pytest.approx(losses.mean(), abs=ROUNDING)
    assert found["test"]["standard_error"] == pytest.approx(losses.std(ddof=1) / math.sqrt(len(test)), abs=ROUNDING)
    assert found["training"]["steps"] == 0
    other = GaussianDensity(torch.full((3,), 0.1).double(), torch.eye(3).double())
    assert -other(data.train.double()).mean() > -GaussianDensity.of(data.train)(data.train.double()).mean()


def test_rows_are_split_by_the_seed_and_standardized_by_the_training_ones(table):
    data, same, other = (load_table(str(table), split_seed=seed) for seed in (3, 3, 4))
    assert [len(rows) for rows in (data.train, data.validation, data.test)] == [160, 20, 20]
    assert data.fingerprint == same.fingerprint != other.fingerprint
    torch.testing.assert_close(data.train.mean(0), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(data.train.std(0, correction=0), torch.ones(3), rtol=0, atol=1e-5)
    assert data.published is None


@pytest.mark.parametrize("model", ["cnf", pytest.param("spline", marks=needs_zuko)])
def test_a_flow_gets_better_and_stops_with_its_time(table, tmp_path, model):
    settings = TabularSettings(str(table), **{**TINY, "seconds": 0.5})
    data, told = load_table(str(table)), []
    found = run_table(tmp_path / "run", model, data, settings, told.append)
    moments = found["training"]["moments"]
    best = min(moment[2] for moment in moments)
    assert best < moments[0][2]
    assert found["training"]["steps"] == moments[-1][0]
    assert moments[-1][1] >= 0.5 or len(moments) > settings.patience
    assert len(told) == len(moments)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {METRICS, STATE}


def test_training_ends_where_validation_gets_no_better_with_the_best_weights(table, tmp_path, monkeypatch):
    losses = iter([3.0, 1.0, 2.0, 2.0, 2.0, 2.0])
    seen = []

    def loss(density, _rows):
        seen.append([parameter.clone() for parameter in density.parameters()])
        return next(losses)

    monkeypatch.setattr("experiments.density.tabular.run._mean_loss", loss)
    kept = []
    monkeypatch.setattr(
        "experiments.density.tabular.run._test",
        lambda density, *_: kept.extend(parameter.clone() for parameter in density.parameters()),
    )
    settings = TabularSettings(str(table), **{**TINY, "seconds": 4.0, "patience": 3})
    found = run_table(tmp_path / "run", "cnf", load_table(str(table)), settings)
    assert [moment[2] for moment in found["training"]["moments"]] == [3.0, 1.0, 2.0, 2.0, 2.0]
    assert all(map(torch.equal, kept, seen[1]))
    assert not all(map(torch.equal, kept, seen[-1]))


def test_an_interrupted_run_goes_on_and_a_finished_one_is_kept(table, tmp_path, monkeypatch):
    settings, data, folder = TabularSettings(str(table), **TINY), load_table(str(table)), tmp_path / "run"

    def interrupt(_line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_table(folder, "cnf", data, settings, interrupt)
    assert not (folder / METRICS).exists()
    found = run_table(folder, "cnf", data, settings)
    first, *others = found["training"]["moments"]
    assert first[0] < others[0][0]  # the moment before the interrupt is the first of all
    steps = []
    monkeypatch.setattr("experiments.density.tabular.run.BudgetedTraining.advance", lambda *_: steps.append(1) or 1 / 0)
    assert run_table(folder, "cnf", data, settings) == found
    changed = data._replace(train=data.train.flip(0))
    with pytest.raises(ZeroDivisionError):
        run_table(folder, "cnf", changed, settings)
    assert not (folder / METRICS).exists()


def test_the_test_is_exact_and_in_double_precision(table, tmp_path, monkeypatch):
    seen = []
    whole = ContinuousDensity.forward

    def forward(self, x):
        if not self.training:
            seen.append((x.dtype, self.flow.eval_solver.rtol))
        return whole(self, x)

    monkeypatch.setattr(ContinuousDensity, "forward", forward)
    run_table(tmp_path / "run", "cnf", load_table(str(table)), TabularSettings(str(table), **TINY))
    assert seen[-1] == (torch.float64, 1e-5)
    assert seen[0] == (torch.float32, 1e-3)


@needs_zuko
def test_the_published_number_stands_beside_a_published_table(tmp_path, no_colour, monkeypatch):
    np.save("data.npy", numpy_generator().normal(size=(100, 8)))
    monkeypatch.setitem(PUBLISHED, "power", PUBLISHED["power"]._replace(sizes=(81, 9, 10)))
    assert main(["density", "--data", "power:data.npy", *OPTIONS]) == 0
    markdown = Path("runs/density/power/tabular.md").read_text()
    (row,) = (line for line in markdown.splitlines() if "continuous flow" in line)
    assert row.endswith("| -0.46 |")
    assert sum("-0.46" in line for line in markdown.splitlines()) == 1
    assert "Grathwohl" in markdown


def test_names_of_tables():
    assert all(map(is_table, ["a.npz", "a.npy", "b/A.CSV", "gas:x.npy", "hepmass:folder"]))
    assert not any(map(is_table, ["moons", "all", "2spirals"]))


def test_wrong_tables_are_refused(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match="Did you mean 'power'"):
        load_table("powr:data.npy")
    with pytest.raises(DataError, match="no such path"):
        load_table("none.csv")
    with pytest.raises(InvalidInputError, match="split_seed: expected none for a published table, got 3"):
        load_table("power:data.npy", split_seed=3)
    rows = np.load(table)["x"]
    np.save("images.npy", rows.reshape(-1, 3, 1))
    with pytest.raises(InvalidInputError, match=r"expected rows of numbers \(N, D\)"):
        load_table("images.npy")
    for name, wrong in {
        "constant": np.hstack([rows, np.ones((200, 1))]),
        "sum": np.hstack([rows, rows.sum(1, keepdims=True)]),
        "few": numpy_generator().normal(size=(10, 30)),
    }.items():
        np.save(f"{name}.npy", wrong)
        with pytest.raises(DataError, match="on a plane"):
            load_table(f"{name}.npy")


def test_a_column_of_labels_is_left_out(tmp_path):
    path = tmp_path / "a.csv"
    rows = numpy_generator().normal(size=(50, 2))
    path.write_text("x,y,class\n" + "\n".join(f"{x},{y},{place % 2}" for place, (x, y) in enumerate(rows)))
    assert load_table(str(path), label_column="class").train.shape == (40, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "mine.npz", "--steps", "3"], "--steps"),
        (["--data", "moons", "--patience", "3"], "--patience"),
        (["--data", "mine.npz", "--patience", "0"], "--patience: expected a positive integer"),
        (["--data", "mine.npz", "--activation", "tan"], "Did you mean 'tanh'"),
        (["--data", "none.npz"], "no such path"),
    ],
)
def test_wrong_settings_are_one_line(arguments, message, capsys, no_colour):
    assert main(["density", *arguments]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("name", ["seconds", "patience", "batch_size", "test_size", "learning_rate", "tolerance"])
def test_settings_are_checked(name):
    with pytest.raises(InvalidInputError, match=f"TabularSettings {name}: expected a (positive integer|finite number)"):
        TabularSettings("a.csv", **{name: 0})
