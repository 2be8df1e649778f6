"""The variants of the suite: every two settings meet, and the oldest releases are those of the bounds."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import astuple
from itertools import combinations, product
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.everywhere import VARIANTS, Variant, main

ROOT = Path(__file__).parents[1]
SETTINGS = (("newest", "oldest"), (0, 1, 2), ("default", "avx2"), (1, 2))
PINS = ROOT / "tests" / "oldest.txt"


@pytest.mark.parametrize(("first", "second"), [*combinations(range(4), 2)])
def test_every_two_settings_meet(first: int, second: int) -> None:
    met = {(astuple(variant)[first], astuple(variant)[second]) for variant in VARIANTS}
    assert met == set(product(SETTINGS[first], SETTINGS[second]))


def test_all_run_although_one_fails_and_the_failed_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    ran = []

    def run(variant: Variant, options: Sequence[str]) -> bool:
        ran.append((variant, options))
        return variant.seed != 1

    assert main(["-k", "planar"], run) == 1
    assert ran == [(variant, ["-k", "planar"]) for variant in VARIANTS]
    told = capsys.readouterr().out
    assert "4 of 6 variants passed" in told
    assert all((f"failed: {variant}" in told) == (variant.seed == 1) for variant in VARIANTS)


def test_a_hash_chooses_one_and_each_has_its_turn() -> None:
    ran: list[Variant] = []
    for turn in ("0a3d6f5", *map(str, range(6))):
        assert main(["--turn", turn], lambda variant, options: ran.append(variant) is None) == 0
    assert ran == [VARIANTS[0x0A3D6F5 % 6], *VARIANTS]


def test_a_turn_has_one_part_of_the_files_and_each_comes_with_each_variant() -> None:
    ran: list[tuple[Variant, str]] = []
    for turn in range(18):
        assert (
            main([f"--turn={turn:x}", "--parts=3", "-x"], lambda variant, options: ran.append((variant, *options))) == 1
        )
    assert sorted(ran, key=str) == sorted(
        ((variant, "-x", f"--part={part}/3") for variant in VARIANTS for part in (1, 2, 3)), key=str
    )


class Collected:
    """A plugin that keeps the tests that were collected."""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.names = [item.nodeid for item in session.items]


def test_parts_are_whole_files_and_together_all_tests() -> None:
    def collected(*options: str) -> list[str]:
        found = Collected()
        command = ["--collect-only", "-q", "-p", "no:cacheprovider", str(ROOT / "tests" / "ode")]
        assert pytest.main([*command, *options], plugins=[found]) == pytest.ExitCode.OK
        return found.names

    parts = [collected("--part", f"{part}/2") for part in (1, 2)]
    assert sorted([*parts[0], *parts[1]]) == sorted(collected())
    first, second = ({name.partition("::")[0] for name in part} for part in parts)
    assert first
    assert second
    assert not first & second


@pytest.mark.parametrize("part", ["0/2", "3/2", "2", "a/b"])
def test_parts_that_are_none_are_refused(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pytest.main(["--collect-only", "--part", part, __file__]) == pytest.ExitCode.USAGE_ERROR
    assert "--part" in capsys.readouterr().err


def test_a_variant_reaches_the_process_that_it_names() -> None:
    variant = Variant("newest", 2, "default", 1)
    script = "import torch; from tests.seeds import shift; "
    script += "print(shift(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())"
    command = [sys.executable, "-c", script]
    told = subprocess.check_output(command, cwd=ROOT, env=variant.environment(), text=True)
    seed, *vector, threads = told.split()
    assert (seed, " ".join(vector), threads) in {("2", "DEFAULT", "1"), ("2", "NO AVX", "1")}  # newer, older releases
    assert variant.command(["-x"])[1:3] == ["-m", "pytest"]
    assert variant.command(["-x"])[-1] == "-x"


def test_the_oldest_releases_are_the_lower_bounds() -> None:
    definition = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = definition["optional-dependencies"]
    waiting = [*map(Requirement, definition["dependencies"]), Requirement("vae-flows[test]")]
    wanted: list[Requirement] = []
    while waiting:
        requirement = waiting.pop()
        if requirement.name == "vae-flows":
            waiting += [Requirement(line) for extra in requirement.extras for line in extras[extra]]
        else:
            wanted.append(requirement)
    assert len(wanted) > len(definition["dependencies"])
    pins = dict(re.findall(r"^([\w-]+)==([\d.]+)$", PINS.read_text(encoding="utf-8"), flags=re.MULTILINE))
    for requirement in wanted:
        (bound,) = requirement.specifier
        assert bound.operator == ">="
        release = pins[requirement.name]
        assert f"{release}.".startswith(f"{bound.version}."), requirement.name
