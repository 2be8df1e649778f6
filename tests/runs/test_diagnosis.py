"""A run's posterior is diagnosed with a word on each number: wrong ones are condemned, right ones pass."""

import math
import shutil
from dataclasses import replace

import pytest

import vae_flows as vf
from tests.evaluation.linear_gaussian import LinearGaussianVAE, diagonal, exact, weight
from tests.evaluation.wrong_log_det import WrongLogDet
from tests.seeds import reseed
from vae_flows.benchmark.presets import PRESETS
from vae_flows.data import TensorExamples
from vae_flows.distributions import DiagonalNormal, FlowDistribution
from vae_flows.errors import DataError, InvalidInputError
from vae_flows.persistence.json_files import read_json, write_json
from vae_flows.runs import diagnosis
from vae_flows.runs.diagnosis import DIAGNOSTICS_FILES, RunDiagnostics, diagnose, diagnose_run, read_details
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import prepare
from vae_flows.runs.settings import with_changes
from vae_flows.runs.verdicts import KINDS, judge

pytest.importorskip("arviz_stats", reason="ArviZ is not installed")
TINY = {"max_images": 60, "training.max_epochs": 1, "compute.accelerator": "cpu", "latent_dim": 2}
NAMES = [kind.name for kind in KINDS]


def words(found: RunDiagnostics, evaluations=()) -> dict[str, str]:
    return {name: finding.word for name, finding in zip(NAMES, judge(found, evaluations), strict=True)}


def diagnosed(make) -> RunDiagnostics:
    """Diagnose a linear-Gaussian model with a posterior that is right or wrong by design, on data that it draws."""
    reseed(1)
    vae = LinearGaussianVAE(make, weight(orthogonal=True, seed=1))
    examples = TensorExamples(vae.data(600, seed=2))
    return diagnose(vae, vf.data.DataSet("linear", examples, examples, examples, None, "drawn from the model"))[0]


def test_the_exact_posterior_passes_everything():
    found = diagnosed(exact)
    assert found.problems == ()
    condemned = {name: word for name, word in words(found).items() if word in ("bad", "watch")}
    assert condemned == {}


@pytest.mark.parametrize(
    ("make", "condemned"),
    [
        (diagonal(ignore=True), ("rate (nats)", "mutual information (nats)", "active units")),
        (diagonal(widen=0.3), ("reliable k̂", "calibration, p")),
        (diagonal(shift=1.0), ("aggregate posterior = prior, p", "calibration, p")),
    ],
)
def test_wrong_posteriors_are_condemned(make, condemned):
    found = words(diagnosed(make))
    assert {name: found[name] for name in condemned} == dict.fromkeys(condemned, "bad")


@pytest.mark.parametrize(("error", "word"), [(0.1, "bad"), (0.0, "good")])
def test_a_wrong_log_determinant_is_condemned(error, word):
    def make(mean, covariance):
        scale = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        return FlowDistribution(DiagonalNormal(mean / 2, scale / 2), [WrongLogDet(error)])

    assert words(diagnosed(make))["∫ q(z) dz − 1"] == word


@pytest.mark.parametrize(
    ("changes", "evaluations", "name", "word"),
    [
        ({"trace_noise": 5.0}, (), "trace noise (nats)", "watch"),
        ({"trace_noise": 0.0}, (), "trace noise (nats)", "good"),
        ({"round_trip_log_density": 0.5}, (), "round-trip error (nats)", "bad"),
        ({"round_trip_log_density": 0.05}, (), "round-trip error (nats)", "watch"),
        ({"round_trip_log_density": 1e-6}, (), "round-trip error (nats)", "good"),
        ({"effective_sample_size": 1.5, "weight_draws": 500}, (), "effective draws", "watch"),
        ({"effective_sample_size": 150.0, "weight_draws": 500}, (), "effective draws", "good"),
        ({"reliable_share": 0.7}, (), "reliable k̂", "watch"),
        ({"active_units": 1}, (), "active units", "watch"),
        ({}, (20.0, 50.0), NAMES[-1], "watch"),
        ({}, (20.0, 26.0), NAMES[-1], "good"),
        ({}, (), "rate (nats)", ""),
    ],
)
def test_numbers_have_words(changes, evaluations, name, word):
    assert words(replace(RunDiagnostics(1.0, latent_dim=2), **changes), evaluations)[name] == word


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    settings = PRESETS["smoke"].settings("caltech101-silhouettes", "ffjord", 0)
    prepare(folder, with_changes(settings, TINY | {"evaluation.diagnostics": True}))
    execute(folder)
    return folder


@pytest.fixture
def finished(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def test_a_run_keeps_its_diagnostics(finished):
    found = vf.Run(finished).diagnostics
    assert found is not None
    assert found.problems == ()
    told = [name for name, value in vars(found).items() if value is None]
    assert told == []  # two latents: all of them apply
    details = read_details(finished)
    assert details.weights is not None
    assert details.weights.pareto_k.shape == (50,)
    assert details.calibration is not None
    assert details.calibration.ranks.shape == (500, 2)
    assert {figure.name for figure in vf.runs.draw_figures([vf.Run(finished)]) if figure.figure} >= {
        "caltech101-silhouettes-pareto-k",
        "caltech101-silhouettes-calibration",
    }


def test_the_same_run_has_the_same_diagnostics(finished):
    found = vf.Run(finished).diagnostics
    assert found is not None
    again = diagnose_run(finished)
    assert replace(again, seconds=0.0) == replace(found, seconds=0.0)


@pytest.mark.parametrize("asked", [False, True])
def test_finished_runs_are_those_asked_for_with_diagnostics_or_without(finished, asked):
    (finished / DIAGNOSTICS_FILES[0]).unlink()
    settings = vf.Run(finished).settings
    prepare(finished, with_changes(settings, {"evaluation.diagnostics": asked}))
    assert vf.Run(finished).settings == settings
    with pytest.raises(InvalidInputError, match=r"evaluation\.importance_samples"):
        prepare(finished, with_changes(settings, {"evaluation.diagnostics": asked, "evaluation.importance_samples": 9}))


def test_a_run_without_diagnostics_has_none(tmp_path):
    settings = PRESETS["smoke"].settings("caltech101-silhouettes", "none", 0)
    prepare(tmp_path, with_changes(settings, TINY))
    execute(tmp_path)
    assert vf.Run(tmp_path).diagnostics is None


def test_a_diagnosis_that_fails_does_not_lose_the_run(tmp_path, monkeypatch):
    def fails(*_arguments, **_options):
        raise RuntimeError("of no use")

    monkeypatch.setattr(diagnosis, "estimate_information", fails)
    settings = PRESETS["smoke"].settings("caltech101-silhouettes", "none", 0)
    prepare(tmp_path, with_changes(settings, TINY | {"evaluation.diagnostics": True}))
    assert execute(tmp_path) is not None
    found = vf.Run(tmp_path).diagnostics
    assert found is not None
    assert found.problems == ("rate and mutual information: of no use",)


def test_a_diagnostic_that_fails_is_told_and_the_others_stand(finished, monkeypatch):
    def fails(*_arguments, **_options):
        raise DataError("of no use")

    monkeypatch.setattr(diagnosis, "trace_noise", fails)
    found = diagnose_run(finished)
    assert found.problems == ("noise of the trace: of no use",)
    assert found.trace_noise is None
    assert found.rate is not None


def test_a_number_that_is_not_finite_is_told(finished, monkeypatch):
    real = diagnosis.compare_aggregate_posterior
    monkeypatch.setattr(
        diagnosis,
        "compare_aggregate_posterior",
        lambda *given, **options: real(*given, **options)._replace(p_value=math.nan),
    )
    found = diagnose_run(finished)
    assert found.aggregate_p_value is None
    assert found.problems == ("aggregate_p_value: not finite",)


@pytest.mark.parametrize(
    "wrong", [{"rate": "high"}, {"rate": True}, {"problems": "none"}, {"problems": [1]}, {"unknown": 1}]
)
def test_damaged_diagnostics_are_told(finished, wrong):
    path = finished / DIAGNOSTICS_FILES[0]
    write_json(path, read_json(path) | wrong)
    with pytest.raises(DataError, match=r"diagnostics\.json"):
        _ = vf.Run(finished).diagnostics


def test_damaged_details_are_told(finished):
    (finished / DIAGNOSTICS_FILES[1]).write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"diagnostics\.npz"):
        read_details(finished)


def test_a_run_that_was_not_diagnosed_has_none(finished):
    for name in DIAGNOSTICS_FILES:
        (finished / name).unlink()
    assert vf.Run(finished).diagnostics is None
    assert read_details(finished).weights is None
