"""Ablations: what is planned and trained, the answers that numbers give, and what is written and refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from matplotlib.image import imread

from experiments import commands
from experiments.ablations import QUESTIONS, Question, Setting, find_questions, plan_ablations
from experiments.ablations.answers import answer, answer_noise, answer_tolerance
from experiments.ablations.findings import Finding, NoiseFinding, ToleranceFinding, find
from experiments.ablations.questions import DEFAULT, NARROW, base_settings
from experiments.ablations.retests import ESTIMATES, NOISE, REFERENCE, TOLERANCE, TOLERANCES, kept
from experiments.ablations.step_times import STEP_TIME, compare_steps
from experiments.cli import main
from tests.seeds import numpy_generator
from vae_flows.benchmark.engine import RunExit
from vae_flows.cnf.divergence import divergence_from
from vae_flows.data import load
from vae_flows.errors import DataError
from vae_flows.evaluation import paired_difference
from vae_flows.flows import FFJORD
from vae_flows.persistence.records import differences
from vae_flows.posterior import AmortizedPosterior
from vae_flows.reporting import Estimate
from vae_flows.runs import Run
from vae_flows.runs.build import build_vae
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import METRICS, prepare


class HereEngine:
    """Runs in this process, as processes would take seconds each to start."""

    workers = 1

    def __init__(self) -> None:
        self.started: list[Path] = []

    def start(self, folder: Path) -> DoneHere:
        self.started.append(folder)
        execute(folder)
        return DoneHere()


class DoneHere:
    begun = True

    def poll(self) -> RunExit:
        return RunExit()

    def stop(self) -> None:
        pass


def settings_of(questions: Sequence[Question]) -> dict[str, Setting]:
    return {setting.name: setting for question in questions for setting in question.settings}


def found(setting: Setting, shift: float, evaluations: float = 20.0, step_time: float = 1.0) -> Finding:
    """A finding whose images all differ by about `shift` from those of the default."""
    default = numpy_generator(0).normal(100.0, 20.0, (2, 300))
    own = default + shift + numpy_generator(1).normal(0.0, 0.1, (2, 300))
    difference = paired_difference(own, default) if setting.against else None
    costs = Estimate.of([evaluations, evaluations]), ((10.0, 20.0), (20.0, 20.0)), Estimate.of([step_time, step_time])
    return Finding(setting, Estimate.of(own.mean(1).tolist()), difference, *costs, 1000)


def test_every_question_has_its_settings_and_runs_are_shared(tmp_path):
    asked = {question.name: question for question in QUESTIONS}
    assert len(asked) == 9
    assert [setting.changes.get("latent_dim", 32) for setting in asked["dimension"].settings] == [
        2, 4, 8, 16, 32, 64, 128,
    ]  # fmt: skip
    assert all(DEFAULT in question.settings for question in QUESTIONS)
    runs = plan_ablations(QUESTIONS, tmp_path, seeds=[1, 2])
    chosen = settings_of(QUESTIONS)
    assert len({run.folder for run in runs}) == len(runs) == 2 * len(chosen)
    assert len({repr(run.settings) for run in runs}) == len(runs)
    for setting in chosen.values():
        changed = differences(setting.settings(1), base_settings(1)).keys()
        assert bool(changed) == (setting is not DEFAULT)
        assert setting.against in ("", *chosen)


@pytest.mark.parametrize("setting", settings_of(QUESTIONS).values(), ids=lambda setting: setting.folder)
def test_every_setting_builds(setting):
    settings = setting.settings(0)
    vae = build_vae(settings, load(settings.data))
    config = cast(FFJORD, cast(AmortizedPosterior, vae.posterior).flow).get_config()
    for name, value in setting.changes.items():
        option = name.removeprefix("posterior_options.")
        if option in config and option != "divergence":
            assert config[option] == value
    if setting is NARROW:
        assert "256, 16" in repr(config["hidden_dims"])


def test_retests_have_every_noise_and_number_of_probes():
    made = [divergence_from(*estimate) for estimate in ESTIMATES]
    assert len(set(map(repr, made))) == len(made)
    for noise in ("gaussian", "rademacher"):
        assert [e.probes for e in ESTIMATES if e[:2] == ("hutchinson", noise)] == [1, 2, 4, 8, 16]


def test_the_answer_tells_what_is_real_and_in_which_direction():
    question = QUESTIONS[0]
    better, worse, same = (Setting(name, {"latent_dim": 3}) for name in ("a", "b", "c"))
    findings = [found(DEFAULT, 0.0), found(better, -30.0, 40.0), found(worse, 30.0), found(same, 0.0)]
    told = answer(question, findings)
    assert told.startswith("Really lower −ELBO has a (-")
    assert "really higher −ELBO has b (+" in told
    assert " c (" not in told
    assert "between 20.0 (default) and 40.0 (a)" in told
    assert answer(question, findings[:1] + findings[3:]).startswith("No difference of −ELBO is real")


def test_the_answer_tells_the_time_of_a_step_where_a_question_asks_for_it():
    (question,) = find_questions(["gradient"])
    cheap, dear = (Setting(name, {"latent_dim": 3}) for name in ("cheap", "dear"))
    findings = [found(DEFAULT, 0.0), found(dear, 0.0, step_time=3.5), found(cheap, 0.0, step_time=0.75)]
    assert "a training step takes between 0.75 (cheap) and 3.50 (dear) times the default's time" in answer(
        question, findings
    )


def test_the_answer_about_training_is_a_ratio_over_seeds():
    (question,) = find_questions(["training"])
    told = answer(question, [found(DEFAULT, 0.0)])
    assert "from the first to the last of 2 epochs" in told.lower()
    assert "from 15.0 to 20.0, 1.50 ± 0.71-fold over 2 seeds" in told


def test_the_answer_about_tolerance_stops_at_the_first_that_is_too_loose():
    def at(tolerance: float, error: float, evaluations: float) -> ToleranceFinding:
        return ToleranceFinding(tolerance, Estimate.of([evaluations]), Estimate.of([error]), None)

    findings = [at(1e-9, 0.0, 90), at(1e-1, 1e-4, 8), at(1e-3, 0.5, 14), at(1e-5, 1e-3, 26)]
    told = answer_tolerance(findings)
    assert "up to tolerance 1e-05, for 26 evaluations" in told  # not 0.1, which is right by chance
    assert answer_tolerance([at(1e-9, 0.0, 90), at(1e-5, 1.0, 26)]).startswith("No tolerance")


def test_the_answer_about_noise_names_least_and_most():
    findings = [
        NoiseFinding(DEFAULT, name, Estimate.of([value]))
        for name, value in (("one", 4.0), ("many", 0.25), ("exact trace", 0.0))
    ]
    assert "between 0.25 nats² (many) and 4 (one)" in answer_noise(findings)


def test_the_command_trains_tests_again_answers_and_keeps_what_is_finished(tmp_path, monkeypatch, no_colour, capsys):
    monkeypatch.chdir(tmp_path)
    engine = HereEngine()
    monkeypatch.setattr(commands, "LocalEngine", lambda *_, **__: engine)
    # Two of the settings, and a retest of few numbers.
    shortened = [
        Question("tolerance", "Which tolerance?", (DEFAULT, Setting("loose", {"posterior_options.solver.rtol": 0.1})),
                 retest="tolerance"),
        Question("training", "Do they rise?", (DEFAULT,), over_training=True),
        Question("noise", "Which noise?", (DEFAULT, NARROW), cost="time", retest="noise"),
    ]  # fmt: skip
    monkeypatch.setattr("experiments.ablations.questions.QUESTIONS", shortened)
    monkeypatch.setattr("experiments.ablations.retests.ESTIMATES", (ESTIMATES[0], ESTIMATES[9], ESTIMATES[-1]))
    monkeypatch.setattr("experiments.ablations.retests.TOLERANCES", (1e-1, 1e-4))
    options = ["ablations", "--quick", "--seeds", "0", "1", "--publish", "published"]
    assert main(options) == 0
    assert len(engine.started) == 6
    out = capsys.readouterr().out
    assert "Which tolerance?" in " ".join(out.split())
    published = Path("published")
    names = {path.name for path in published.iterdir()}
    pictures = {"tolerance.png", "tolerance-tested-again.png", "training.png", "noise.png", "noise-tested-again.png"}
    assert names == {"ablations.md", "ablations.json", "runs.json", *pictures}
    assert all(imread(published / name).any() for name in pictures)
    findings = json.loads((published / "ablations.json").read_text())["findings"]
    assert {entry["question"] for entry in findings} == {"tolerance", "training", "noise"}
    tested = [entry for entry in findings if "log_q_error" in entry]
    assert [entry["tolerance"] for entry in tested] == [REFERENCE, 1e-1, 1e-4]
    loose, tight = tested[1:]
    assert loose["evaluations"]["mean"] < tight["evaluations"]["mean"] < tested[0]["evaluations"]["mean"]
    assert loose["log_q_error"]["mean"] > tight["log_q_error"]["mean"]
    noisy = {entry["estimate"]: entry["variance"]["mean"] for entry in findings if "variance" in entry}
    assert noisy["exact trace"] < 1e-8 < noisy[ESTIMATES[0].label]
    runs = json.loads((published / "runs.json").read_text())["runs"]
    assert len(runs) == 6
    assert all({"versions", "hardware", "commit"} <= run.keys() for run in runs)
    for name in (TOLERANCE, NOISE):
        assert list(Path("runs/ablations-quick/default").rglob(name))
    timed = {path: json.loads(path.read_text()) for path in Path("runs/ablations-quick").rglob(STEP_TIME)}
    assert len(timed) == 4  # two seeds of each setting but the default
    ratios = {entry["setting"]["name"]: entry["step_time"]["mean"] for entry in findings if "step_time" in entry}
    assert ratios.pop("default") == 1.0
    for name, ratio in ratios.items():
        folder = Setting(name).folder
        assert ratio == pytest.approx(np.mean([kept["ratio"] for path, kept in timed.items() if folder in path.parts]))
    assert main(options) == 0
    assert len(engine.started) == 6


def test_what_is_tested_again_is_kept_unless_of_another_size(tmp_path):
    found = iter([{"value": 1}, {"value": 2}])
    for images, expected in ((4, 1), (4, 1), (5, 2)):
        stored = kept(tmp_path / "kept.json", {"images": images}, lambda: next(found))
        assert stored == {"images": images, "value": expected}


def test_steps_are_timed_with_the_trained_models_of_both_runs(tmp_path, monkeypatch):
    seen = []

    def total(vae) -> float:
        return sum(weight.detach().sum().item() for weight in vae.parameters())

    class Steps:
        def __init__(self, vae, data, settings) -> None:
            self.seconds = 0.5 + 0.25 * settings.num_particles
            assert 0 < settings.learning_rate <= 1e-8
            seen.append((total(vae), len(data.train)))

        def take(self) -> float:
            return self.seconds

    monkeypatch.setattr("experiments.ablations.step_times.TrainingSteps", Steps)
    runs = []
    for setting in (Setting("more", {"training.num_particles": 2}), DEFAULT):
        prepare(folder := tmp_path / setting.folder, setting.settings(0, tiny=True))
        execute(folder)
        runs.append(Run(folder))
    found = compare_steps(runs[0], runs[1], tiny=True)
    assert found["ratio"] == pytest.approx(1.0 / 0.75)
    assert seen == [(total(run.load_model()), 40) for run in runs]


def test_an_answer_needs_finished_runs(tmp_path):
    (question,) = find_questions(["gradient"])
    for run in plan_ablations([question], tmp_path, seeds=[0], tiny=True):
        prepare(run.folder, run.settings)
        assert not (run.folder / METRICS).exists()
    with pytest.raises(DataError, match="a finished run"):
        find(question, tmp_path, [0], tiny=True)


def test_an_unknown_question_is_told_with_the_nearest(no_colour, capsys):
    assert main(["ablations", "--questions", "tolerence"]) == 1
    assert "Did you mean 'tolerance'" in capsys.readouterr().err


def test_tolerances_are_looser_than_the_reference():
    assert min(TOLERANCES) > REFERENCE
    assert np.all(np.diff(TOLERANCES) < 0)
