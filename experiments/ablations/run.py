"""The runs that answer questions, and what their trained models are measured by afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from experiments.ablations.questions import DEFAULT, NARROW, Question, Setting
from experiments.ablations.retests import retest_noise, retest_tolerance
from experiments.ablations.step_times import compare_steps
from vae_flows.benchmark.grid import GridRun
from vae_flows.runs import Run
from vae_flows.runs.folder import folder_of

__all__ = ["folder_of_setting", "plan_ablations", "retest_models", "runs_of", "tested_again"]


def folder_of_setting(root: Path, setting: Setting) -> Path:
    """Return the folder of the runs of a setting, those of all seeds."""
    return root / setting.folder


def plan_ablations(
    questions: Iterable[Question], root: Path, *, seeds: Sequence[int], tiny: bool = False
) -> tuple[GridRun, ...]:
    """Return the runs that answer questions, each once."""
    settings = dict.fromkeys(setting.name for question in questions for setting in question.settings)
    found = {setting.name: setting for question in questions for setting in question.settings}
    runs = []
    for name in settings:
        for seed in seeds:
            chosen = found[name].settings(seed, tiny=tiny)
            runs.append(GridRun(folder_of(folder_of_setting(root, found[name]), chosen), chosen))
    return tuple(runs)


def runs_of(setting: Setting, root: Path, seeds: Sequence[int], *, tiny: bool = False) -> list[Run]:
    """Return the finished runs of a setting, one a seed."""
    place = folder_of_setting(root, setting)
    return [Run(folder_of(place, setting.settings(seed, tiny=tiny))) for seed in seeds]


def tested_again(question: Question) -> tuple[Setting, ...]:
    """Return the settings whose trained models a question tests again."""
    return {"tolerance": (DEFAULT,), "noise": (DEFAULT, NARROW), None: ()}[question.retest]


def retest_models(
    questions: Sequence[Question],
    root: Path,
    *,
    seeds: Sequence[int],
    tiny: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Test trained models again and time their steps, as far as that is not done; runs' folders keep what is found."""
    for question in questions:
        retest = retest_tolerance if question.retest == "tolerance" else retest_noise
        for setting in tested_again(question):
            for run in runs_of(setting, root, seeds, tiny=tiny):
                say(f"{question.name}: testing {setting.name}, seed {run.settings.seed}, again")
                retest(run, tiny=tiny)

    default = runs_of(DEFAULT, root, seeds, tiny=tiny)
    others = {setting.name: setting for question in questions for setting in question.settings if setting != DEFAULT}
    for setting in others.values():
        say(f"{setting.name}: training steps in turn with the default's")
        for run, reference in zip(runs_of(setting, root, seeds, tiny=tiny), default, strict=True):
            compare_steps(run, reference, tiny=tiny)
