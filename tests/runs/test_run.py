"""A run as an object tells what its folder holds, at every stage."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import vae_flows as vf
from vae_flows.benchmark.presets import PRESETS
from vae_flows.errors import CheckpointError, DataError, UnknownNameError
from vae_flows.persistence.json_files import read_json, write_json
from vae_flows.runs import Run, RunHistory, RunSettings
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import EPOCHS, FAILURE, METRICS, prepare
from vae_flows.runs.settings import with_changes

TINY = {"max_images": 60, "training.batch_size": 30, "evaluation.importance_samples": 2, "compute.accelerator": "cpu"}


def tiny(
    changes: Mapping[str, object] | None = None, posterior: str = "planar", data: str = "caltech101-silhouettes"
) -> RunSettings:
    return with_changes(PRESETS["smoke"].settings(data, posterior, 3), {**TINY, **(changes or {})})


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    prepare(folder, tiny())
    execute(folder)
    return folder


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "copy")


def test_a_finished_run_tells_settings_history_and_metrics(finished):
    run, plain = vf.Run(finished), read_json(finished / METRICS)
    assert run.status == "finished"
    assert run.settings == tiny()
    assert run.metrics is not None
    assert dataclasses.asdict(run.metrics.test) == plain["test"]
    assert run.metrics.best_epoch == plain["best_epoch"]
    assert [record.validation_negative_elbo for record in run.history] == plain["history"]["validation_negative_elbo"]
    assert "planar on caltech101-silhouettes, seed 3, 2 epochs, finished" in repr(run)


def test_history_turns_into_columns(finished):
    history = vf.Run(finished).history
    columns = history.to_columns()
    assert columns["epoch"].tolist() == [1, 2]
    assert np.isnan(columns["evaluations_per_solve"]).all()  # planar flows solve nothing
    assert history[0].epoch == 1
    assert len(history[:1]) == 1
    assert {len(column) for column in RunHistory().to_columns().values()} == {0}


def test_the_best_weights_are_a_saved_model_and_give_the_tested_bound(finished):
    run = vf.Run(finished)
    vae, data, saved = run.load_model(), run.load_data(), vf.VAE.from_pretrained(finished)
    assert not vae.training
    for name, tensor in vae.state_dict().items():
        assert torch.equal(saved.state_dict()[name], tensor)
    assert run.metrics is not None
    again = vf.evaluation.evaluate(saved, data.test, seed=run.settings.seed)
    # The same sums, perhaps in another order.
    assert again.negative_elbo == pytest.approx(run.metrics.test.negative_elbo, rel=1e-5)


def test_the_latest_weights_can_be_had_too(finished):
    run = vf.Run(finished)
    assert run.load_model("last").state_dict().keys() == run.load_model("best").state_dict().keys()
    with pytest.raises(UnknownNameError, match="one of best, last, got 'bets'"):
        run.load_model("bets")  # type: ignore[arg-type]


def test_a_run_that_is_under_way_is_read_as_far_as_it_got(copied):
    (copied / METRICS).unlink()
    lines = (copied / EPOCHS).read_text().splitlines(keepends=True)
    (copied / EPOCHS).write_text("".join(lines[:2]))
    run = vf.Run(copied)
    assert (run.status, run.metrics, len(run.history)) == ("unfinished", None, 1)
    write_json(copied / FAILURE, {"error": "no memory"})
    assert run.status == "failed"


def test_a_run_without_an_epoch_has_no_weights(tmp_path):
    prepare(tmp_path, tiny())
    assert len(vf.Run(tmp_path).history) == 0
    with pytest.raises(CheckpointError, match=r"expected a saved model, config\.json, got none"):
        vf.Run(tmp_path).load_model()


def test_folders_that_hold_no_run_are_refused(tmp_path):
    with pytest.raises(DataError, match="the folder of a run"):
        Run(tmp_path)
    with pytest.raises(DataError, match="the folder of a run"):
        Run(tmp_path / "missing")


@pytest.mark.parametrize("text", ["epoch\nx\n", "epoch,beta\n1,0.5\n", "\0\n1\n"])
def test_a_damaged_table_of_epochs_is_told(copied, text):
    (copied / EPOCHS).write_text(text)
    with pytest.raises(DataError, match="one line for each epoch"):
        _ = vf.Run(copied).history


@pytest.mark.parametrize("spoil", [lambda m: m.pop("unit"), lambda m: m.update(test={"negative_elbo": 1.0})])
def test_damaged_metrics_are_told(copied, spoil):
    metrics = read_json(copied / METRICS)
    spoil(metrics)
    write_json(copied / METRICS, metrics)
    with pytest.raises(DataError, match="the metrics of a finished run"):
        _ = vf.Run(copied).metrics


def test_runs_on_a_table_and_on_colour_pictures(tmp_path):
    generator = np.random.RandomState(0)
    np.savetxt(tmp_path / "table.csv", generator.randn(60, 3), delimiter=",", header="a,b,c", comments="")
    np.savez(tmp_path / "colour.npz", images=generator.randint(0, 256, (60, 8, 6, 3)).astype(np.uint8))
    for name, likelihood, changes in (
        ("table.csv", "GaussianLikelihood", {"standardize": True}),
        ("table.csv", "StudentTLikelihood", {"likelihood": "student-t"}),
        ("colour.npz", "DiscretizedLogisticLikelihood", {}),
    ):
        folder = tmp_path / likelihood
        prepare(folder, tiny({"training.batch_size": 20, **changes}, data=str(tmp_path / name)))
        execute(folder)
        run = vf.Run(folder)
        vae = run.load_model()
        assert type(vae.likelihood).__name__ == likelihood
        assert vae.generate(2).shape == (2, *run.load_data().event_shape)
        assert run.metrics is not None
        assert run.metrics.unit == ("nats" if name == "table.csv" else "bits/dim")
        assert (folder / "images.npz").exists() is (name != "table.csv")
        events = EventAccumulator(str(folder))
        events.Reload()
        assert events.Scalars("test/negative_elbo")[0].value == pytest.approx(run.metrics.test.negative_elbo)
        pictures = {"samples/originals", "samples/reconstructions", "samples/samples"}
        assert set(events.Tags()["images"]) == (set() if name == "table.csv" else pictures)
