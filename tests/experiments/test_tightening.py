"""−log p(x) with many draws from few draws of all images and many of some."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import vae_flows as vf
from experiments.tightening import main, tighten
from vae_flows.benchmark.presets import PRESETS
from vae_flows.errors import DataError, FileError, InvalidInputError
from vae_flows.evaluation import estimate_likelihood
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import prepare

FEW, MANY = 4, 40
ERRORS = 5  # standard errors allowed: a false alarm in 1.7 million comparisons


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tightening")
    smoke = PRESETS["smoke"].settings("caltech101-silhouettes", "planar", 0)
    prepare(folder, replace(smoke, evaluation=replace(smoke.evaluation, importance_samples=FEW)))
    execute(folder)
    return vf.Run(folder)


def test_some_images_tell_what_many_draws_of_all_would_gain(run):
    found = tighten(run, importance_samples=MANY, images=150)
    vae, test = run.load_model(), run.load_data().test
    whole = estimate_likelihood(vae, test, importance_samples=MANY, particles=(FEW,), seed=1)
    gains = whole.log_bounds[:, whole.particles.index(MANY)] - whole.log_bounds[:, whole.particles.index(FEW)]
    error = (found.gain_standard_error**2 + float(gains.var()) / len(gains)) ** 0.5
    assert found.gain == pytest.approx(float(gains.mean()), abs=ERRORS * error)
    assert ERRORS * error < found.gain  # no gain at all would be found out
    assert found.with_many_draws == found.with_few_draws - found.gain


def test_the_gain_is_that_of_the_same_draws_and_is_told_with_its_error(run):
    every = len(run.load_data().test)
    found = tighten(run, importance_samples=MANY, images=every)
    assert (found.few_draws, found.many_draws, found.all_images, found.some_images) == (FEW, MANY, every, every)
    # The bound with few draws is averaged over groups of them: more can only lower −L.
    assert found.gain > 0
    assert found.with_few_draws == pytest.approx(run.metrics.test.negative_log_likelihood)
    fewer = tighten(run, importance_samples=MANY, images=every // 4)
    assert fewer.gain == pytest.approx(found.gain, abs=ERRORS * fewer.gain_standard_error)
    assert fewer.gain_standard_error > found.gain_standard_error


def test_the_same_call_gives_the_same(run):
    first, again = (tighten(run, importance_samples=MANY, images=20) for _ in range(2))
    assert first[:-1] == again[:-1]


def test_what_was_found_is_published_with_what_it_was_found_on(run, tmp_path, capsys):
    main(run.folder, importance_samples=MANY, images=20, publish=tmp_path)
    found = json.loads((tmp_path / "tightening.json").read_text())
    assert found["with_many_draws"] == found["with_few_draws"] - found["gain"]
    assert {"commit", "hardware", "versions"} <= found.keys()
    assert f"K = {MANY}: {found['with_many_draws']:.2f} nats" in capsys.readouterr().out
    assert not list(run.folder.glob("tightening*"))


def test_what_another_call_left_unfinished_is_not_in_the_way(run, monkeypatch):
    def killed(**_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("experiments.tightening.Tightening", killed)
        with pytest.raises(KeyboardInterrupt):
            main(run.folder, importance_samples=MANY, images=20)
    assert list(run.folder.glob("tightening*"))
    main(run.folder, importance_samples=MANY, images=21)
    main(run.folder, importance_samples=MANY, images=20)
    assert not list(run.folder.glob("tightening*"))


def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_scored(run, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.tightening.tighten", None)
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="file"):
        main(run.folder, importance_samples=MANY, images=20, publish=tmp_path / "file")


@pytest.mark.parametrize(("draws", "images"), [(FEW, 20), (MANY + 1, 20), (MANY, 1), (MANY, 10**6)])
def test_draws_and_images_that_are_none_are_refused(run, draws, images):
    with pytest.raises(InvalidInputError, match="tighten"):
        tighten(run, importance_samples=draws, images=images)


def test_a_run_without_a_test_is_refused(tmp_path):
    prepare(tmp_path, PRESETS["smoke"].settings("caltech101-silhouettes", "planar", 0))
    with pytest.raises(DataError, match="tested with draws"):
        tighten(vf.Run(tmp_path))
