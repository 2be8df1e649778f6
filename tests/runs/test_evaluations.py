"""Runs keep what each test image scored, and later tests that go on after a kill."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import vae_flows as vf
from vae_flows.benchmark.presets import PRESETS
from vae_flows.data import TensorExamples, load
from vae_flows.errors import CheckpointError, DataError, NonFiniteLossError
from vae_flows.persistence.json_files import read_json, write_json
from vae_flows.runs import evaluations
from vae_flows.runs.evaluations import evaluate_run, evaluation_name, find_evaluations, find_interrupted
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import METRICS, SCORES, prepare
from vae_flows.runs.scores import RunScores, digests_of, read_scores, write_scores
from vae_flows.runs.settings import with_changes

TINY = {"max_images": 60, "training.max_epochs": 1, "evaluation.importance_samples": 4, "compute.accelerator": "cpu"}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    prepare(folder, with_changes(PRESETS["smoke"].settings("caltech101-silhouettes", "planar", 0), TINY))
    execute(folder)
    return folder


@pytest.fixture
def finished(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "run")


def test_the_scores_of_a_run_average_to_its_metrics(finished):
    run = vf.Run(finished)
    scores, metrics = run.scores, run.metrics
    assert scores is not None
    assert metrics is not None
    assert scores.images.shape == (60,)
    # float64 sums of 60 numbers in another order
    assert math.isclose(scores.negative_elbo.mean(), metrics.test.negative_elbo, rel_tol=1e-12)
    likelihood = metrics.test.negative_log_likelihood
    assert scores.negative_log_likelihood is not None
    assert likelihood is not None
    assert math.isclose(scores.negative_log_likelihood.mean(), likelihood, rel_tol=1e-12)
    assert scores.importance_samples == 4
    assert np.array_equal(scores.images, digests_of(run.load_data().test))


def test_an_unfinished_run_has_no_scores(finished):
    (finished / METRICS).unlink()
    assert vf.Run(finished).scores is None


def test_scores_of_other_weights_are_refused(finished):
    scores = read_scores(finished / SCORES)
    write_scores(finished / SCORES, RunScores(scores.images, scores.negative_elbo + 0.01))
    with pytest.raises(DataError, match=r"scores whose average is that of metrics\.json"):
        _ = vf.Run(finished).scores


GOOD = {"images": np.arange(3), "negative_elbo": np.ones(3)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": np.arange(3)},
        {"negative_elbo": np.ones(3)},
        {**GOOD, "images": np.ones(3)},
        {**GOOD, "negative_elbo": np.ones(4)},
        {**GOOD, "negative_elbo": np.ones(3, np.float32)},
        {**GOOD, "negative_elbo": np.array([1.0, np.nan, 1.0])},
        {**GOOD, "negative_log_likelihood": np.ones((3, 1))},
        {**GOOD, "importance_samples": np.ones(2, np.int64)},
        {"images": np.arange(0), "negative_elbo": np.ones(0)},
        {**GOOD, "negative_elbo": np.array([None, 1, 2], dtype=object)},
    ],
)
def test_other_arrays_are_no_scores(tmp_path, wrong):
    np.savez(tmp_path / SCORES, **wrong)
    with pytest.raises(DataError, match=r"scores\.npz"):
        read_scores(tmp_path / SCORES)


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_damaged_scores_are_told(finished, damage):
    whole = (finished / SCORES).read_bytes()
    (finished / SCORES).write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.raises(DataError, match=r"scores\.npz"):
        read_scores(finished / SCORES)


def test_digests_tell_images_apart_and_binarise_alike():
    first = TensorExamples(torch.arange(12.0).reshape(6, 2))
    assert np.array_equal(digests_of(first), digests_of(first))
    assert len(set(digests_of(first).tolist())) == 6
    assert np.array_equal(digests_of(first.select([5, 0])), digests_of(first)[[5, 0]])
    dynamic = load("mnist-dynamic").test.take(5) if "mnist-dynamic" in vf.data.available_data_sets() else None
    if dynamic is not None:
        assert np.array_equal(digests_of(dynamic), digests_of(dynamic))


def test_a_later_test_leaves_numbers_and_scores(finished):
    found = evaluate_run(finished, 40)
    run = vf.Run(finished)
    assert run.evaluations == (found,)
    scores = run.evaluation_scores(found)
    assert scores is not None
    assert scores.negative_log_likelihood is not None
    assert found.negative_log_likelihood is not None
    assert math.isclose(scores.negative_elbo.mean(), found.negative_elbo, rel_tol=1e-12)
    assert math.isclose(scores.negative_log_likelihood.mean(), found.negative_log_likelihood, rel_tol=1e-12)
    assert found.particles == (1, 10, 40)
    assert found.bounds[0] == found.negative_elbo
    assert found.bounds[-1] == found.negative_log_likelihood
    assert found.bounds[0] > found.bounds[1] > found.bounds[2]
    assert math.isclose(found.distortion + found.rate, found.negative_elbo, rel_tol=1e-6)  # sums of float32 scores
    assert not (finished / evaluation_name(40)).exists()


class Killed(BaseException):
    pass


def test_a_killed_test_is_seen_and_goes_on(finished, monkeypatch):
    whole = evaluate_run(shutil.copytree(finished, finished.parent / "other"), 20, batch_size=20)

    def kill(step):
        if step.images_done >= 40:
            raise Killed

    with pytest.raises(Killed):
        evaluate_run(finished, 20, batch_size=20, progress=kill)
    assert find_interrupted(finished) == ((evaluation_name(20), "40 of 60 images so far"),)
    assert find_evaluations(finished) == ()
    told = []
    again = evaluate_run(finished, 20, batch_size=20, progress=told.append)
    assert [step.images_done for step in told] == [60]
    assert again.bounds == whole.bounds
    assert find_interrupted(finished) == ()


def test_a_test_with_nan_leaves_nothing(finished, monkeypatch):
    real = evaluations.load_best

    def spoiled(*arguments):
        vae = real(*arguments)
        next(vae.decoder.parameters()).data.fill_(math.nan)
        return vae

    monkeypatch.setattr(evaluations, "load_best", spoiled)
    with pytest.raises(NonFiniteLossError, match="finite numbers"):
        evaluate_run(finished, 4)
    assert not list(finished.glob("evaluation-*"))


@pytest.mark.parametrize("damage", ["{", "[]", '{"importance_samples": 4}'])
def test_damaged_results_of_a_test_are_told(finished, damage):
    evaluate_run(finished, 4)
    path = finished / f"{evaluation_name(4)}.json"
    path.write_text(damage, encoding="utf-8")
    with pytest.raises(DataError, match="evaluation-4-samples"):
        find_evaluations(finished)


def test_results_with_nan_are_told(finished):
    evaluate_run(finished, 4)
    path = finished / f"{evaluation_name(4)}.json"
    write_json(path, read_json(path) | {"negative_elbo": None})
    with pytest.raises(DataError, match="evaluation-4-samples"):
        find_evaluations(finished)


def test_what_is_left_of_a_damaged_test_is_told(finished):
    (finished / evaluation_name(9)).mkdir()
    (finished / evaluation_name(9) / "likelihood.safetensors").write_bytes(b"nonsense")
    ((name, told),) = find_interrupted(finished)
    assert name == evaluation_name(9)
    assert "damage" in told
    with pytest.raises(CheckpointError, match="damage"):
        evaluate_run(finished, 9)
