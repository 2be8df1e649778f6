"""Flags are made from annotations: every setting has one, and what is typed wrongly is told in one line."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import tyro

from experiments.cli import main
from vae_flows.benchmark.presets import PRESETS
from vae_flows.cli.flags import Alias, Flag, Group, flags_of_call, flags_of_record, make_flag
from vae_flows.cli.parsing import parse
from vae_flows.cli.run_flags import changes_flags
from vae_flows.cnf.regularization import REGULARIZERS, JacobianNorm, KineticEnergy
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.flows.registry import available_flows, flow_parameters
from vae_flows.likelihoods.registry import available_likelihoods
from vae_flows.persistence.records import record_in
from vae_flows.runs.build import flow_options
from vae_flows.runs.settings import RunSettings, with_changes
from vae_flows.training.optimizers import available_optimizers, optimizer_parameters

SETTINGS = PRESETS["smoke"].settings("caltech101-silhouettes", "ffjord", 0)
TYPES: Mapping[Any, tuple[tuple[str, Any], str]] = {
    int: (("7", 7), "x"),
    float: (("0.5", 0.5), "x"),
    bool: (("True", True), "maybe"),
    str: (("word", "word"), "two words"),
    Path: (("a/b", Path("a/b")), "two words"),
    int | None: (("None", None), "1.5"),
    float | None: (("3", 3.0), "x"),
    Literal["a", "b"]: (("b", "b"), "c"),
    Literal["a", "b"] | None: (("None", None), "c"),
    float | Literal["learned"]: (("learned", "learned"), "learnt"),
    tuple[int, ...]: (("3 4", (3, 4)), "3 x"),
    Sequence[int]: (("3 4", (3, 4)), "3 x"),
    tuple[float, float]: (("1 2", (1.0, 2.0)), "1"),
    tuple[float, float] | None: (("1 2", (1.0, 2.0)), "1 2 3"),
    dict[str, Any]: (("a 1 b x", {"a": 1, "b": "x"}), "a"),
}


@dataclasses.dataclass(frozen=True)
class Inner:
    """Inner settings.

    Arguments:
        size: How many.
    """

    size: int = 3
    again: Inner | None = None


@dataclasses.dataclass(frozen=True)
class Outer:
    """Outer settings."""

    rate: float
    inner: Inner = Inner(5)
    other: Inner | None = None
    hook: Callable[[], None] | None = None


def told(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    return said.err


def fields(kind: type, path: str = "") -> Iterator[tuple[str, Any]]:
    for entry in dataclasses.fields(kind):
        hint = typing.get_type_hints(kind)[entry.name]
        record = record_in(hint)
        if record is not None:
            yield from fields(record, f"{path}{entry.name}.")
        else:
            yield f"{path}{entry.name}", hint


def example(hint: Any) -> tuple[str, Any]:
    """Return words that a type takes, and their value, which no preset has."""
    parts = [part for part in typing.get_args(hint) if part is not type(None)]
    hint = parts[0] if type(None) in typing.get_args(hint) and len(parts) == 1 else hint
    if typing.get_origin(hint) is Literal:
        return str(typing.get_args(hint)[-1]), typing.get_args(hint)[-1]
    return TYPES[hint][0]


ELSEWHERE: Mapping[str, tuple[str, Any]] = {
    "data": ("mnist-static", "mnist-static"),
    "posterior": ("planar", "planar"),
    "likelihood": ("gaussian", "gaussian"),
    "training.optimizer": ("AdamW", "AdamW"),
    "training.schedule": ("cosine", "cosine"),
    "training.objective": ("importance_weighted", "importance_weighted"),
    "training.learning_rate_warmup_epochs": ("2", 2),
    "training.loggers": ("csv wandb", ("csv", "wandb")),
}
"""Examples for settings that do not take any value of their type."""
BESIDE = {"training.objective": ["--training.num-particles", "2"]}
FIELDS = {name: hint for name, hint in fields(RunSettings) if not name.endswith("_options")}


@pytest.mark.parametrize("hint", TYPES, ids=str)
def test_each_type_is_read_and_what_is_wrong_is_told_with_the_name_as_typed(hint):
    (words, value), wrong = TYPES[hint]
    flag = make_flag("some_flag", hint, [None])
    assert isinstance(flag, Flag)
    assert parse([flag], ["--some-flag", *words.split()], "test") == {"some_flag": value}
    assert parse([flag], ["--some-flag"] if hint is bool else [], "test") == (
        {"some_flag": True} if hint is bool else {}
    )
    for name in ("--some-flag", "--some_flag"):
        with pytest.raises(InvalidInputError, match=f"^{name}: expected .*, got '{wrong}'"):
            parse([flag], [name, *wrong.split()], "test")
    alone = {bool: True, tuple[int, ...]: (), Sequence[int]: (), dict[str, Any]: {}}
    if hint in alone:
        assert parse([flag], ["--some-flag"], "test") == {"some_flag": alone[hint]}
    else:
        with pytest.raises(InvalidInputError, match=r"^--some-flag: expected .*, got nothing"):
            parse([flag], ["--some-flag"], "test")


def test_records_become_groups_once_each():
    members = flags_of_record(Outer)
    assert [member.name for member in members] == ["rate", "inner", "other"]
    arguments = ["--rate", "2", "--inner.size", "4", "--other.size", "1"]
    assert parse(members, arguments, "test") == {"rate": 2.0, "inner": {"size": 4}, "other": {"size": 1}}
    with pytest.raises(InvalidInputError, match=r"^--rate: expected a finite number, got nothing"):
        parse(members, [], "test")


def test_arguments_of_a_call_become_flags(capsys):
    def command(
        names: Annotated[tuple[str, ...], tyro.conf.Positional],
        seed: Annotated[int | None, Alias("--inner-seed")] = None,
        inner: Inner = Inner(7),
        hook: Callable[[], None] | None = None,
    ) -> int:
        """Do something.

        Arguments:
            names: Whose.
            seed: Zero by default.
        """
        return 0

    members = flags_of_call(command)
    assert parse(members, ["a", "b", "--inner-seed", "3"], "test") == {"names": ("a", "b"), "seed": 3}
    assert parse(members, ["a", "--size", "9"], "test")["inner"] == Inner(9)
    with pytest.raises(InvalidInputError, match=r"^--inner-seed: expected an integer, got 'None'"):
        parse(members, ["a", "--inner-seed", "None"], "test")
    with pytest.raises(SystemExit):
        parse(members, ["--help"], "test")
    shown = " ".join(capsys.readouterr().out.split())
    assert "Zero by default." in shown
    assert "(default: 7)" in shown
    assert "None" not in shown


def test_an_unknown_flag_is_told_with_those_of_its_group_nearest_first():
    members = [
        Group("network", (Flag("kind", str, ("conv",)), Flag("hidden_dims", tuple[int, ...], ((),))), "network"),
        Flag("seed", int, (0,)),
    ]
    with pytest.raises(UnknownNameError, match=r"one of --network.hidden-dims, --network.kind, got '--network.hiden'"):
        parse(members, ["--network.hiden", "3"], "test")
    with pytest.raises(UnknownNameError, match=r"got '--sed'. Did you mean '--seed'"):
        parse(members, ["--sed=3"], "test")
    with pytest.raises(UnknownNameError, match=r"begins with --network\., got '--networks.kind'. Did you mean"):
        parse(members, ["--networks.kind", "3"], "test")
    with pytest.raises(InvalidInputError, match="argument: expected the flags that `test --help` lists, got 'word'"):
        parse(members, ["word", "--seed", "3"], "test")


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_has_a_flag(name, capsys, no_colour):
    words, value = ELSEWHERE[name] if name in ELSEWHERE else example(FIELDS[name])
    flag, beside = f"--{name.replace('_', '-')}", BESIDE.get(name, [])
    assert main(["train", "--preset", "smoke", "--print-settings", flag, *words.split(), *beside]) == 0
    found = json.loads(capsys.readouterr().out)
    for part in name.split("."):
        found = found[part]
    assert found == (list(value) if isinstance(value, tuple) else value)


def test_the_hardware_and_the_seed_have_short_names(capsys, no_colour):
    assert main(["train", "--print-settings", "--accelerator", "cpu", "--seed", "3", "--precision", "64-true"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["compute"]["accelerator"], found["compute"]["precision"]) == ("cpu", "64-true")
    assert found["training"]["seed"] == 3


@pytest.mark.parametrize("posterior", available_flows())
def test_every_option_of_a_flow_that_can_be_written_has_a_flag(posterior):
    settings = with_changes(SETTINGS, {"posterior": posterior})
    names = {name for name in _names(changes_flags([settings], [])) if name.startswith(f"{posterior}.")}
    plain = (int, float, bool, str, int | None, float | None, Sequence[int])
    for parameter in flow_parameters(posterior):
        plainly = parameter.annotation in plain or typing.get_origin(parameter.annotation) is Literal
        if plainly or parameter.annotation is Parameter.empty:
            assert f"{posterior}.{parameter.name}" in names
    if posterior == "ffjord":
        assert {
            "ffjord.solver.rtol",
            "ffjord.solver.compile",
            "ffjord.eval_solver.method",
            "ffjord.divergence",
        } <= names
        assert {"ffjord.divergence", "ffjord.end_time_jitter", *(f"ffjord.{name}" for name in REGULARIZERS)} <= names
        assert "ffjord.regularizers" not in names


@pytest.mark.parametrize("likelihood", available_likelihoods())
def test_options_of_the_likelihood_that_is_named_have_flags(likelihood):
    names = set(_names(changes_flags([SETTINGS], ["--likelihood", likelihood])))
    assert {"likelihood"} <= names
    assert not {name for name in _names(changes_flags([SETTINGS], [])) if name.startswith(f"{likelihood}.")}
    if likelihood in ("gaussian", "laplace", "student-t"):
        assert f"{likelihood}.scale" in names


@pytest.mark.parametrize("optimizer", available_optimizers())
def test_every_option_of_the_optimizer_that_is_named_has_a_flag(optimizer):
    names = set(_names(changes_flags([SETTINGS], ["--training.optimizer", optimizer])))
    prefix = optimizer.lower()
    options = {f"{prefix}.{parameter.name}" for parameter in optimizer_parameters(optimizer)}
    assert {name for name in names if name.startswith(f"{prefix}.")} == options


@pytest.mark.parametrize(
    ("typed", "setting", "value"),
    [
        ("--training.optimizer Adam --adam.betas 0.9 0.99", "training.optimizer_options", {"betas": [0.9, 0.99]}),
        ("--training.schedule step --step.epochs 1", "training.schedule_options", {"epochs": 1}),
        ("--training.objective beta --beta.beta 4", "training.objective_options", {"beta": 4.0}),
        ("--likelihood gaussian --gaussian.scale 0.3", "likelihood_options", {"scale": 0.3}),
        ("--ffjord.end-time-jitter 0.1", "posterior_options.end_time_jitter", 0.1),
        ("--ffjord.kinetic-energy 0.01", "posterior_options.regularizers", {"kinetic_energy": 0.01}),
        (
            "--ffjord.kinetic-energy 0.01 --ffjord.jacobian_norm 0.2",
            "posterior_options.regularizers",
            {"kinetic_energy": 0.01, "jacobian_norm": 0.2},
        ),
    ],
)
def test_options_of_what_is_named_are_settings_which_files_keep(typed, setting, value, capsys, no_colour):
    def printed(*arguments: str) -> str:
        assert main(["train", "--print-settings", *arguments]) == 0
        return capsys.readouterr().out

    text = printed("--preset", "smoke", *typed.split())
    found = json.loads(text)
    for part in setting.split("."):
        found = found[part]
    assert found == value
    (no_colour / "settings.json").write_text(text)
    assert printed("--settings", "settings.json") == text
    # What is typed beside a file changes one option and leaves the others.
    if "kinetic" in typed:
        changed = json.loads(printed("--settings", "settings.json", "--ffjord.kinetic-energy", "0.5"))
        assert changed["posterior_options"]["regularizers"] == {**value, "kinetic_energy": 0.5}


def test_weights_of_regularizers_make_them(no_colour, capsys):
    made = flow_options("ffjord", {"regularizers": {"kinetic_energy": 0.5, "jacobian_norm": 0.25}})
    assert made["regularizers"] == (KineticEnergy(0.5), JacobianNorm(0.25))
    assert flow_options("ffjord", {"regularizers": {"kinetic_energy": 0.0}})["regularizers"] == ()
    said = told(capsys, ["train", "--preset", "smoke", "--ffjord.kinetic-energy", "-1"])
    assert said == "error: --ffjord.kinetic-energy: expected a number of at least 0, got -1.0.\n"
    with pytest.raises(UnknownNameError, match=r"regularizer: .*Did you mean 'kinetic_energy'"):
        flow_options("ffjord", {"regularizers": {"kinetic": 1.0}})


def _names(group: Group, prefix: str = "") -> Iterator[str]:
    for member in group.members:
        if isinstance(member, Group):
            yield from _names(member, f"{prefix}{member.prefix}." if member.prefix else prefix)
        else:
            yield f"{prefix}{member.name}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--training.max_epochs", "x"], "--training.max_epochs: expected an integer, got 'x'."),
        (["train", "--training.max-epochs=1.5"], "--training.max-epochs: expected an integer, got '1.5'."),
        (["train", "--seed", "x"], "--seed: expected an integer, got 'x'."),
        (["train", "--training.gradient", "pth"], "Did you mean 'path'?"),
        (["train", "--standardize", "maybe"], "--standardize: expected True or False, got 'maybe'."),
        (["train", "--ffjord.rnk", "3"], "expected one of --ffjord.rank, "),
        (["train", "--ffjord.rank", "many"], "--ffjord.rank: expected an integer or None, got 'many'."),
        (["train", "--ffjord.solver.rtoll", "1"], "expected one of --ffjord.solver.rtol, "),
        (["train", "--planar.num-layers", "2"], "--ffjord., "),
        (["train", "--likelihood", "student"], "Did you mean 'student-t'?"),
        (["train", "--likelihood", "student-t", "--student-t.scale", "big"], "--student-t.scale: expected"),
        (["train", "--data", "caltech"], "Did you mean 'caltech101-silhouettes'?"),
        (["train", "--posterior", "sylv"], "Did you mean 'sylvester-"),
        (["train", "--preset", "smok"], "Did you mean 'smoke'?"),
        (["train", "--max-epochs", "3"], "Did you mean '--training.max-epochs'"),
        (["train", "ffjord"], "argument: expected the flags"),
        (["train", "--preset", "quick", "--settings", "x.json"], "expected none beside --settings x.json"),
        (["train", "--settings", "x.json"], "x.json: expected a JSON file, got no file"),
        (["benchmark", "--data", "caltech"], "Did you mean 'caltech101-silhouettes'?"),
        (["benchmark", "--posteriors", "sylv"], "Did you mean 'sylvester-"),
        (["benchmark", "--seeds", "1", "x"], "--seeds: expected a sequence with entries each an integer, got '1 x'."),
        (["benchmark", "--posteriors", "planar", "--planar.rank", "2"], "--planar.num-layers"),
        (["benchmark", "--posteriors", "planar", "--ffjord.rank", "2"], "--planar., --training., got '--ffjord.rank'"),
        (["evaluate"], "FOLDER: expected a path, got nothing."),
        (["evaluate", "a", "b"], "FOLDER: expected a path, got 'a b'."),
        (["compare", "a", "--style", "text-mode"], "--style: expected"),
        (["density", "--steps", "x"], "--steps: expected an integer, got 'x'."),
        (["trian"], "Did you mean 'train'"),
        (["train", "--posterior", "plannar"], "error: --posterior: expected one of"),
        (["train", "--data=mnist-statc"], "error: --data: expected"),
        (["benchmark", "--posteriors", "planar", "plannar"], "error: --posteriors: expected one of"),
        (["benchmark", "--data", "omniglott"], "error: --data: expected"),
        (["train", "--training.optimizer", "adm"], "error: --training.optimizer: expected one of"),
        (["train", "--training.optimizer", "adm"], "Did you mean 'Adam'"),
        (["train", "--training.learning_rate", "-1"], "error: --training.learning_rate: expected"),
        (["train", "--latent-dim=0"], "error: --latent-dim: expected a positive integer, got 0."),
        (["train", "--training.optimizer", "Adam", "--adam.beta", "1"], "Did you mean '--adam.betas'"),
        (["train", "--training.optimizer", "Adam", "--adam.betas", "1"], "error: --adam.betas: expected"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_wrong_arguments_are_one_line_and_write_nothing(arguments, message, capsys, no_colour):
    assert message in told(capsys, arguments)
    assert list(no_colour.iterdir()) == []


def test_help_shows_the_defaults_of_the_run_that_is_named(capsys, no_colour):
    def shown(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--help"])
        assert ended.value.code == 0
        return " ".join(capsys.readouterr().out.replace("│", " ").split())

    assert "Epochs at most. (default: 40)" in shown("train", "--data", "frey-faces")
    assert "Epochs at most. (default: 36)" in shown("train")
    assert "Epochs at most. (default: 36 or 40)" in shown("benchmark", "--data", "caltech101-silhouettes", "frey-faces")
    planar = shown("train", "--posterior", "planar")
    assert "--planar.num-layers" in planar
    assert "--ffjord.num-blocks" not in planar


def test_options_are_given_by_posterior_and_settings_to_all(capsys, no_colour):
    arguments = ["--posteriors", "planar", "iaf", "none", "--planar.num-layers", "2", "--iaf.hidden-dim", "8"]
    assert main(["benchmark", "--preset", "smoke", *arguments, "--latent-dim", "3", "--print-settings"]) == 0
    runs = json.loads(capsys.readouterr().out)
    assert [run["posterior"] for run in runs] == ["planar", "iaf", "none"]
    assert [run["posterior_options"] for run in runs] == [{"num_layers": 2}, {"hidden_dim": 8}, {}]
    assert {run["latent_dim"] for run in runs} == {3}
