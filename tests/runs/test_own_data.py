"""Runs on files of one's own: what they are called, that they are told apart, and that other data are noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vae_flows as vf
from tests.benchmark.attempts import Silent
from tests.seeds import numpy_generator
from vae_flows.benchmark.engine import RunHandle
from vae_flows.benchmark.grid import plan_grid, run_grid
from vae_flows.benchmark.presets import PRESETS
from vae_flows.benchmark.published import PUBLISHED
from vae_flows.cli.main import main
from vae_flows.errors import DataError, InvalidInputError
from vae_flows.runs.diagnosis import diagnose_run
from vae_flows.runs.evaluations import evaluate_run
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import folder_of, prepare
from vae_flows.runs.settings import RunSettings, with_changes

TINY = {"training.max_epochs": 1, "evaluation.importance_samples": 0, "compute.accelerator": "cpu"}


def write(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x=numpy_generator(seed).normal(size=(60, 3)))
    return path


def settings_of(data: Path | str, seed: int = 0) -> RunSettings:
    return with_changes(PRESETS["smoke"].settings(str(data), "none", seed), {**TINY, "training.seed": seed})


def trained(folder: Path, data: Path | str, seed: int = 0) -> Path:
    prepare(folder, settings_of(data, seed))
    execute(folder)
    return folder


def test_a_run_is_not_tested_on_data_that_have_changed(tmp_path):
    data = write(tmp_path / "mine.npz")
    run = trained(tmp_path / "run", data)
    evaluate_run(run, 2)
    write(data, seed=1)
    for test in (lambda: evaluate_run(run, 3), lambda: diagnose_run(run)):
        with pytest.raises(DataError, match=r"expected the test examples of the run, got others. Put .*mine"):
            test()
    write(data)
    evaluate_run(run, 3)


def test_a_grid_does_not_skip_runs_whose_data_have_changed(tmp_path):
    data = write(tmp_path / "mine.npz")
    runs = plan_grid([settings_of(data, seed) for seed in (0, 1)], tmp_path / "grid")
    trained(runs[0].folder, data)

    class Never:
        workers = 1

        def start(self, folder: Path) -> RunHandle:
            raise AssertionError(folder)

    assert [outcome.status for outcome in run_grid(runs[:1], Never(), Silent())] == ["skipped"]
    write(data, seed=1)
    with pytest.raises(DataError, match=r"seed-0: expected the test examples of the run, got others. Put .*mine"):
        run_grid(runs, Never(), Silent())


def test_data_of_one_name_are_told_apart(tmp_path):
    one, other, copy = (
        write(tmp_path / "a" / "mine.npz"),
        write(tmp_path / "b" / "mine.npz", 1),
        tmp_path / "c" / "mine.npz",
    )
    write(copy)
    runs = [trained(tmp_path / "ra", one), trained(tmp_path / "rb", other, 1), trained(tmp_path / "rc", copy, 2)]
    table = vf.compare(runs)
    assert [(row[1].text, row[2].text) for row in table.rows] == [(str(one), "2"), (str(other), "1")]
    assert [row[1].text for row in vf.compare([runs[0], runs[2]]).rows] == ["mine"]


def test_other_seeds_of_a_split_are_of_the_same_data(tmp_path):
    data, runs = write(tmp_path / "mine.npz"), []
    for seed in (0, 1):
        runs.append(tmp_path / f"run-{seed}")
        prepare(runs[-1], with_changes(settings_of(data, seed), {"split_seed": seed}))
        execute(runs[-1])
    (row,) = vf.compare(runs).rows
    assert (row[1].text, row[2].text) == ("mine", "2")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_file_that_is_called_like_published_data_has_none_of_their_numbers(tmp_path, monkeypatch, name, capsys):
    monkeypatch.chdir(tmp_path)
    for data in (f"./{name}.npz", f"./{name}"):
        assert folder_of(Path("runs"), settings_of(data)).parts[1] not in PUBLISHED
    write(tmp_path / f"{name}.npz")
    trained(folder_of(tmp_path / "grid", settings_of(f"./{name}.npz")), f"./{name}.npz")
    assert main(["report", "grid"]) == 0
    assert "FFJORD paper" not in (tmp_path / "grid" / "table.md").read_text()
    assert "FFJORD paper" not in capsys.readouterr().out


@pytest.mark.parametrize("data", [".", "..", "sub/..", "./"])
def test_a_folder_without_a_name_of_its_own_gets_its_real_one(tmp_path, monkeypatch, data):
    here = tmp_path / "pictures" / "faces.v2"
    here.mkdir(parents=True)
    (here / "sub").mkdir()
    monkeypatch.chdir(here)
    (run,) = plan_grid([settings_of(data)], tmp_path / "grid")
    name = "pictures" if data == ".." else "faces.v2"
    assert run.folder == tmp_path / "grid" / name / "none" / "seed-0"
    assert Path(run.settings.data).is_absolute()


def test_data_that_folders_would_call_alike_are_refused(tmp_path):
    pairs = [("a/mine.npz", "b/mine.npz"), ("mine.npz", "mine.csv"), ("mine.npy", "mine")]
    for pair in pairs:
        paths = [tmp_path / part for part in pair]
        for path in paths:
            path.parent.mkdir(exist_ok=True)
            path.touch()
        with pytest.raises(InvalidInputError, match="a name of its own"):
            plan_grid([settings_of(path) for path in paths], tmp_path / "grid")
    (tmp_path / "faces.v1").mkdir()
    (tmp_path / "faces.v2").mkdir()
    assert len(plan_grid([settings_of(tmp_path / f"faces.v{number}") for number in (1, 2)], tmp_path / "grid")) == 2
