"""Figures of runs that were really trained: they show the runs' numbers, and apply where they say."""

import dataclasses
import json
import math

import numpy as np
import pytest

from vae_flows.benchmark.presets import PRESETS
from vae_flows.errors import InvalidInputError
from vae_flows.persistence.json_files import write_json
from vae_flows.persistence.records import to_plain
from vae_flows.persistence.saved_models import WEIGHTS_FILE
from vae_flows.reporting import save_figure
from vae_flows.runs import FIGURES, Run, draw_figures
from vae_flows.runs.diagnosis import DIAGNOSTICS_FILES, RunDiagnostics
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import EPOCHS, METRICS, prepare
from vae_flows.runs.settings import with_changes

TINY = {
    "max_images": 60,
    "training.batch_size": 30,
    "training.max_epochs": 2,
    "compute.accelerator": "cpu",
    "latent_dim": 2,
    "network.hidden_dims": (8,),
    "network.context_dim": 8,
    "evaluation.importance_samples": 0,
}


def train(folder, data, posterior, **changes):
    settings = with_changes(PRESETS["smoke"].settings(data, posterior, 0), {**TINY, **changes})
    prepare(folder, settings)
    execute(folder)
    return Run(folder)


def diagnosed(run):
    """Leave what pictures of diagnostics are made of."""
    write_json(run.folder / DIAGNOSTICS_FILES[0], to_plain(RunDiagnostics(1.0, latent_dim=2)))
    weights = {"pareto_k": [0.1, 0.9], "effective_sample_size": [50.0, 2.0], "weight_draws": 100}
    np.savez(run.folder / DIAGNOSTICS_FILES[1], ranks=np.arange(80).reshape(40, 2) % 40, num_draws=39, **weights)
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    found = [train(root / posterior, "caltech101-silhouettes", posterior) for posterior in ("none", "ffjord")]
    diagnosed(found[1])
    prepare(root / "waiting", with_changes(PRESETS["smoke"].settings("caltech101-silhouettes", "iaf", 0), TINY))
    return [*found, Run(root / "waiting")]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("table")
    np.savetxt(root / "table.csv", np.random.RandomState(0).randn(90, 3), delimiter=",", header="a,b,c", comments="")
    options = {"network.kind": "auto", "network.hidden_dims": ()}
    return diagnosed(train(root / "run", str(root / "table.csv"), "planar", **options))


def copied(run, folder):
    folder.mkdir()
    for file in run.folder.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    return Run(folder)


def test_a_record_has_the_numbers_of_its_run(runs):
    for run in runs[:2]:
        record, metrics = run.to_record(), run.metrics
        assert (record.posterior, record.status, record.unit) == (run.settings.posterior, "finished", "nats")
        assert record.negative_elbo == metrics.test.negative_elbo
        assert record.curve == tuple(epoch.validation_negative_elbo for epoch in run.history)
        assert record.epoch_seconds == tuple(epoch.seconds for epoch in run.history)
        assert record.seconds_per_epoch == pytest.approx(np.mean(record.epoch_seconds))
        assert len(record.epoch_evaluations) == (2 if run.settings.posterior == "ffjord" else 0)
    waiting = runs[2].to_record()
    assert (waiting.status, waiting.curve, waiting.negative_elbo) == ("unfinished", (), None)


def test_all_figures_of_images_with_two_latents_apply(runs, tmp_path):
    drawn = {figure.name.removeprefix("caltech101-silhouettes-"): figure for figure in draw_figures(runs)}
    assert list(drawn) == [kind.name for kind in FIGURES if kind.name != "marginals"]
    for name, (_, title, alternative, figure, error) in drawn.items():
        assert not error
        assert figure is not None
        assert title.startswith("caltech101-silhouettes: ")
        assert "none, ffjord" in alternative
        assert save_figure(figure, tmp_path / f"{name}.svg").exists()
    lines = drawn["elbo-by-epoch"].figure.axes[0].lines
    for line, run in zip(lines, runs, strict=False):
        assert tuple(line.get_ydata()) == run.to_record().curve
    rows = [tick.get_text() for tick in drawn["reconstructions"].figure.axes[0].get_yticklabels()]
    assert rows == ["original", "none, mean", "none, drawn", "ffjord, mean", "ffjord, drawn"]


def test_tables_have_marginals_instead_of_pictures(table):
    names = {kind.name for kind in FIGURES if kind.draw([table], width="column") is not None}
    pictures = {"reconstructions", "samples", "traversals", "interpolations"}
    assert names == {kind.name for kind in FIGURES} - pictures - {"evaluations-by-epoch"}


def test_runs_that_differ_in_settings_are_lines_of_their_own(runs, tmp_path):
    other = copied(runs[0], tmp_path / "other")
    settings = json.loads((other.folder / "settings.json").read_text())
    settings["training"]["learning_rate"] = 0.123
    (other.folder / "settings.json").write_text(json.dumps(settings))
    (kind,) = (kind for kind in FIGURES if kind.name == "elbo-by-epoch")
    figure = kind.draw([runs[0], other])
    assert figure is not None
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert labels == {f"none (learning_rate {runs[0].settings.training.learning_rate})", "none (learning_rate 0.123)"}


def test_an_unfinished_run_is_drawn_in_the_unit_of_the_finished(runs, tmp_path):
    finished, running = copied(runs[0], tmp_path / "finished"), copied(runs[1], tmp_path / "running")
    metrics = json.loads((finished.folder / METRICS).read_text()) | {"unit": "bits/dim", "nats_per_unit": 2.0}
    (finished.folder / METRICS).write_text(json.dumps(metrics))
    (running.folder / METRICS).unlink()
    (kind,) = (kind for kind in FIGURES if kind.name == "elbo-by-epoch")
    figure = kind.draw([finished, running])
    assert figure is not None
    for line, run in zip(figure.axes[0].lines, runs, strict=False):
        np.testing.assert_allclose(line.get_ydata(), np.divide(run.to_record().curve, 2.0))


def test_what_is_damaged_is_told_once_and_the_rest_stands(runs, tmp_path):
    broken = copied(runs[0], tmp_path / "broken")
    (broken.folder / WEIGHTS_FILE).write_bytes(b"no weights")
    drawn = draw_figures([broken])
    told = [figure.error for figure in drawn if figure.error]
    assert len(told) == 1
    assert WEIGHTS_FILE in told[0]
    assert {figure.name.rpartition("silhouettes-")[2] for figure in drawn if figure.figure} >= {"test-elbo", "costs"}


def test_a_run_with_nan_is_drawn(runs, tmp_path):
    broken = copied(runs[0], tmp_path / "nan")
    (broken.folder / METRICS).unlink()
    text = (broken.folder / EPOCHS).read_text()
    bound = repr(runs[0].history[1].validation_negative_elbo)
    assert bound in text
    (broken.folder / EPOCHS).write_text(text.replace(bound, "nan"))
    assert math.isnan(broken.history[1].validation_negative_elbo)
    assert {figure.name for figure in draw_figures([broken]) if figure.figure} >= {
        "caltech101-silhouettes-elbo-by-epoch"
    }


def test_runs_on_several_data_sets_are_drawn_one_after_the_other(runs, table):
    with pytest.raises(InvalidInputError, match="one data set"):
        FIGURES[0].draw([runs[0], table])
    with pytest.raises(InvalidInputError, match="one data set"):
        FIGURES[0].draw([])
    names = [figure.name for figure in draw_figures([runs[0], table])]
    assert names.index("table-test-elbo") > names.index("caltech101-silhouettes-costs")


def test_kinds_have_names_and_words_of_their_own():
    for field in ("name", "title", "description"):
        assert len({getattr(kind, field) for kind in FIGURES}) == len(FIGURES)
    assert all(kind.description.endswith(".") for kind in FIGURES)
    assert all(dataclasses.is_dataclass(kind) for kind in FIGURES)
