"""A run trains, tests, and leaves a folder that tells everything; interrupted, it goes on."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.seeds import reseed
from vae_flows.benchmark.presets import PAPER, PRESETS
from vae_flows.errors import CheckpointError, InvalidInputError, UnknownNameError
from vae_flows.evaluation import evaluate
from vae_flows.evaluation.units import unit_of
from vae_flows.flows import FFJORD
from vae_flows.likelihoods import CategoricalLikelihood
from vae_flows.persistence.json_files import read_json, write_json
from vae_flows.persistence.records import from_plain
from vae_flows.runs import execution
from vae_flows.runs.build import build_data, build_vae
from vae_flows.runs.evaluations import evaluate_run
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import FAILURE, IMAGES, METRICS, SETTINGS, load_settings, prepare
from vae_flows.runs.settings import RunSettings, with_changes

TINY = {"max_images": 60, "training.batch_size": 30, "evaluation.importance_samples": 2, "compute.accelerator": "cpu"}


def make_settings(posterior: str = "planar", data: str = "caltech101-silhouettes", **changes: object) -> RunSettings:
    return with_changes(PRESETS["smoke"].settings(data, posterior, 3), {**TINY, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    prepare(folder, make_settings("ffjord"))
    assert execute(folder) is not None
    return folder


def test_a_finished_run_is_left_as_it_is(finished):
    """Whoever came up while another process finished it finds it so, and does not test it again."""
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in finished.iterdir()}
    assert execute(finished) == read_json(finished / METRICS)
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in finished.iterdir()} == before


def test_metrics_tell_everything(finished):
    metrics = read_json(finished / METRICS)
    assert (metrics["data"], metrics["posterior"], metrics["seed"]) == ("caltech101-silhouettes", "ffjord", 3)
    assert (metrics["unit"], metrics["nats_per_unit"]) == ("nats", 1.0)
    assert metrics["test"]["num_images"] == 60
    assert 0 < metrics["test"]["negative_log_likelihood"] <= metrics["test"]["negative_elbo"] + 5
    assert metrics["test"]["evaluations_per_solve"] > 6
    assert metrics["forward_evaluations"] > 6
    assert len(metrics["history"]["validation_negative_elbo"]) == 2
    assert metrics["seconds"] > metrics["training_seconds"] > 0
    assert {"commit", "dirty", "versions", "hardware"} <= set(metrics)
    settings = load_settings(finished)
    assert from_plain(RunSettings, metrics["settings"]) == settings
    vae = build_vae(settings, build_data(settings))
    assert metrics["parameters"] == sum(parameter.numel() for parameter in vae.parameters())


def test_images_are_grey_levels_of_one_shape(finished):
    with np.load(finished / IMAGES, allow_pickle=False) as images:
        assert set(images) == {"originals", "reconstructions", "samples"}
        assert {(image.shape, image.dtype.name) for image in images.values()} == {((12, 1, 28, 28), "uint8")}
        assert set(np.unique(images["originals"])) == {0, 255}


def test_a_stored_run_can_be_tested_again(finished):
    metrics = read_json(finished / METRICS)
    again = evaluate_run(finished, 0)
    error = metrics["test"]["negative_elbo_standard_error"]
    assert abs(again.negative_elbo - metrics["test"]["negative_elbo"]) < 5 * error  # other draws, of the same images
    assert again.negative_log_likelihood is None


@pytest.mark.parametrize("device", ["toaster", "cuda:77"])
def test_a_device_that_is_not_there_is_told(finished, device):
    with pytest.raises(InvalidInputError, match="device: expected a device of this machine"):
        evaluate_run(finished, 0, device=device)


def test_a_checkpoint_of_another_model_is_refused(finished, tmp_path):
    prepare(tmp_path, make_settings("none"))
    for name in ("config.json", "model.safetensors"):
        shutil.copy(finished / name, tmp_path / name)
    with pytest.raises(CheckpointError, match="unexpected"):
        evaluate_run(tmp_path, 0)


def test_a_run_that_failed_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    prepare(tmp_path, make_settings())
    write_json(tmp_path / FAILURE, {"error": "an earlier one"})

    def no_memory(*_args: object, **_options: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(execution, "evaluate_each", no_memory)
        with pytest.raises(MemoryError):
            execute(tmp_path)
    assert not (tmp_path / METRICS).exists()
    assert not (tmp_path / FAILURE).exists()
    trained = (tmp_path / "last.ckpt").read_bytes()
    assert execute(tmp_path) is not None
    assert (tmp_path / "last.ckpt").read_bytes() == trained


def test_initial_weights_follow_from_the_seed_and_leave_the_callers_random_numbers_alone():
    settings = make_settings()
    data = build_data(settings)
    reseed(11)
    before = torch.get_rng_state()
    first, second = build_vae(settings, data), build_vae(settings, data)
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    moved = build_vae(with_changes(settings, {"training.seed": 4}), data)
    assert not torch.equal(next(first.parameters()), next(moved.parameters()))


def test_frey_faces_are_categorical_with_bounded_variance_in_bits():
    settings = make_settings("none", "frey-faces")
    data = build_data(settings)
    vae = build_vae(settings, data)
    assert isinstance(vae.likelihood, CategoricalLikelihood)
    assert vae.posterior.variance_bounds == (0.01, 7.0)
    tested = evaluate(vae, data.test.take(4))
    assert unit_of(data, tested.num_pixels, tested.log_bin_size) == ("bits/dim", pytest.approx(560 * math.log(2)), 0.0)
    assert vae.generate(2).shape == (2, 1, 28, 20)


@pytest.mark.slow
@pytest.mark.parametrize("data", PAPER.data)
def test_the_paper_preset_builds_and_gives_a_bound(data):
    settings = with_changes(PAPER.settings(data, "ffjord", 0), {"max_images": 2})
    loaded = build_data(settings)
    vae = build_vae(settings, loaded)
    assert torch.isfinite(vae.elbo(loaded.train.batch()).elbo).all()


def test_flow_and_solver_options_reach_the_flow():
    options = {"posterior_options.hidden_dims": (7,), "posterior_options.solver.rtol": 0.01}
    settings = make_settings("ffjord", "caltech101-silhouettes", **options)
    flow = build_vae(settings, build_data(settings)).posterior.flow
    assert isinstance(flow, FFJORD)
    assert any(parameter.shape[0] == 7 for parameter in flow.parameters())
    assert flow.cnf.solver.rtol == 0.01


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"solver": 3}, InvalidInputError, "option 'solver': ODESolver: expected a mapping"),
        ({"solver": {"speed": 3}}, InvalidInputError, "option 'solver': ODESolver: expected fields among .*speed"),
        ({"eval_solver": {"rtol": -1}}, InvalidInputError, "option 'eval_solver': ODESolver rtol"),
        ({"layers": 3}, InvalidInputError, "does not take these options"),
    ],
)
def test_wrong_options_are_refused(options, error, message):
    settings = replace(make_settings("ffjord"), posterior_options=options)
    with pytest.raises(error, match=message):
        build_vae(settings, build_data(settings))


def test_unknown_data_is_named():
    with pytest.raises(UnknownNameError, match="mnist-statics"):
        build_data(make_settings("none", "mnist-statics"))


def test_helper_processes_of_a_parallel_run_write_nothing(tmp_path, monkeypatch):
    prepare(tmp_path, make_settings())
    called = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(execution, "train", lambda *_args, **options: called.append(options["folder"]))
    assert execute(tmp_path) is None
    assert called == [tmp_path]
    assert json.loads((tmp_path / SETTINGS).read_text())
    assert [path.name for path in tmp_path.iterdir()] == [SETTINGS]
