"""Comparing regularisers: what is run, tabulated, drawn and written."""

import json
import math
from pathlib import Path

import pytest
from matplotlib.image import imread

from experiments import commands
from experiments.cli import main
from experiments.density.plots import plot_trials
from experiments.density.regularizers import TRIALS, Trial, TrialResult, regularizer_tables, run_trials
from experiments.density.settings import DensitySettings

TINY = DensitySettings(hidden_dims=(8,), steps=2, batch_size=16, test_size=50, tolerance=1e-2, test_tolerance=1e-3)
PAIR = (TRIALS[0], Trial("kinetic energy 10", {"kinetic_energy": 10.0}))


def record(seed: int, nll: float, evaluations: float, **settings: float) -> dict:
    return {
        "settings": {**vars(TINY), "data": "moons", "seed": seed, **settings},
        "test": {
            "negative_log_likelihood": nll,
            "true_negative_log_likelihood": 2.0,
            "excess": nll - 2.0,
            "evaluations_per_solve": evaluations,
        },
        "training": {"forward_evaluations": 1000 * (seed + 1)},
        "processor_seconds": 10.0,
        "hardware": {"processor": "a processor", "threads": 1, "cores": 2},
    }


def test_trials_differ_in_what_they_are_called_after(tmp_path):
    told = []
    results = run_trials(TINY, tmp_path, data=["moons"], seeds=[0, 1], trials=PAIR, say=told.append)
    assert [line.split(":")[0] for line in told] == [
        "moons, none, seed 0",
        "moons, none, seed 1",
        "moons, kinetic energy 10, seed 0",
        "moons, kinetic energy 10, seed 1",
    ]
    plain, heavy = results
    assert [entry["settings"]["seed"] for entry in plain.records] == [0, 1]
    assert plain.values("settings", "kinetic_energy") == [0.0, 0.0]
    assert heavy.values("settings", "kinetic_energy") == [10.0, 10.0]
    assert heavy.values("test", "excess") != plain.values("test", "excess")
    assert run_trials(TINY, tmp_path, data=["moons"], seeds=[0, 1], trials=PAIR, say=told.append) == results


def test_the_first_trial_regularises_nothing_and_names_are_folders_of_their_own():
    assert TRIALS[0].changes == {}
    assert all(trial.changes for trial in TRIALS[1:])
    assert len({trial.folder for trial in TRIALS}) == len(TRIALS)
    assert {name for trial in TRIALS for name in trial.changes} <= vars(TINY).keys()


def test_tables_compare_runs_of_the_same_seed():
    plain = TrialResult(PAIR[0], (record(0, 2.5, 40), record(1, 2.7, 60)))
    heavy = TrialResult(PAIR[1], (record(0, 2.6, 20), record(1, 2.8, 30)))
    (table,) = regularizer_tables([plain, heavy])
    rows = [[entry.text for entry in row] for row in table.rows]
    assert rows[0] == ["none", "2.600 ± 0.100", "", "50.0 ± 10.0", "", "1,500", "10"]
    assert rows[1] == [
        "kinetic energy 10",
        "2.700 ± 0.100",
        "0.100 ± 0.000",
        "25.0 ± 5.0",
        "0.50 ± 0.00",
        "1,500",
        "10",
    ]
    assert "2 seeds" in table.notes[0]
    assert "2.000 nats" in table.notes[0]
    (alone,) = regularizer_tables([TrialResult(PAIR[0], plain.records[:1])])
    assert alone.rows[0][1].text == "2.500"


def test_the_plot_has_a_circle_for_each_seed_and_a_dot_for_their_mean():
    figure = plot_trials({"moons": {"none": [(40.0, 0.5), (60.0, 0.7)], "other": [(20.0, 0.6)]}})
    (axes,) = figure.axes
    circles, mean, *_ = (collection.get_offsets() for collection in axes.collections)
    assert circles.tolist() == [[40.0, 0.5], [60.0, 0.7]]
    assert mean.tolist() == [[50.0, pytest.approx(0.6)]]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["none", "other"]


def test_the_command_publishes(no_colour, capsys, monkeypatch):
    monkeypatch.setattr(commands, "REGULARIZED", TINY)
    arguments = ["regularizers", "--data", "moons", "--seeds", "0", "--steps", "1", "--publish", "published"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "moons, none, seed 0" in out
    assert "Written to published: regularizers.json, regularizers.md, regularizers.png" in out
    runs = json.loads(Path("published/regularizers.json").read_text())["runs"]
    assert [run["trial"] for run in runs] == [trial.name for trial in TRIALS]
    assert all(math.isfinite(run["test"]["excess"]) for run in runs)
    assert {"settings", "versions", "hardware", "commit"} <= runs[0].keys()
    assert Path("published/regularizers.md").read_text().count("\n| ") == len(TRIALS) + 1
    assert imread("published/regularizers.png").ndim == 3
