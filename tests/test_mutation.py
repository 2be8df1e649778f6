"""What is drawn for mutation testing, and that a fault is found or not by the tests of its module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests import mutation
from tests.mutation import Copies, Fault, draw, faults_in, modules, suite_of

FAULTS = [Fault(Path(module), line, "NumberReplacer", n) for module in "ab" for line in range(9) for n in range(line)]
SHAPES = Path("vae_flows/tensors/shapes.py")


def test_a_sample_has_one_fault_a_line_and_hangs_on_its_seed_alone() -> None:
    sample = draw(FAULTS, 5, seed=1)
    assert len({(fault.module, fault.line) for fault in sample}) == 5
    assert draw(FAULTS, 5, seed=1) == sample != draw(FAULTS, 5, seed=2)
    assert len(draw(FAULTS, 1000, seed=1)) == 16


@pytest.mark.parametrize("module", modules(), ids=str)
def test_every_module_of_the_core_has_its_tests(module: Path) -> None:
    tests = suite_of(module)
    assert tests[0] == str(module)
    assert len(tests) > 1
    assert all((mutation.ROOT / test).exists() for test in tests)


@pytest.mark.parametrize("module", [Path("vae_flows/ode/stepping.py"), Path("vae_flows/objectives/bounds.py")], ids=str)
def test_every_fault_changes_what_runs(module: Path) -> None:
    pytest.importorskip("cosmic_ray")
    text = (mutation.ROOT / module).read_text(encoding="utf-8")
    sample = draw(list(faults_in(module)), 30, seed=0)
    assert len(sample) == 30
    for fault in sample:
        assert ast.dump(ast.parse(fault.source())) != ast.dump(ast.parse(text))
        assert f"{module}:{fault.line} {fault.operator}" in str(fault)


def test_decorators_of_static_methods_are_left_alone() -> None:
    pytest.importorskip("cosmic_ray")
    module = Path("vae_flows/transforms/monotone.py")
    rows = (mutation.ROOT / module).read_text(encoding="utf-8").splitlines()
    assert any("@staticmethod" in row for row in rows)
    assert not any(fault.operator == "RemoveDecorator" for fault in faults_in(module))
    assert any(fault.operator == "RemoveDecorator" for fault in faults_in(Path("vae_flows/ode/stepping.py")))


def test_defaults_of_abstract_methods_are_left_alone() -> None:
    pytest.importorskip("cosmic_ray")
    module = Path("vae_flows/ode/fields.py")
    rows = (mutation.ROOT / module).read_text(encoding="utf-8").splitlines()
    (abstract,) = (number for number, row in enumerate(rows, 1) if "of_tensors: bool = True" in row)
    faults = list(faults_in(module))
    assert abstract not in {fault.line for fault in faults}
    assert any(fault.operator == "ReplaceTrueWithFalse" for fault in faults)


@pytest.mark.parametrize(
    ("fault", "limit", "failure"),
    [
        ("", 300, ""),
        ("assert 1 + 1 == 3", 300, "exit status 4"),
        ('def broken():\n    """\n    >>> 1 + 1\n    3\n    """', 300, f"FAILED {SHAPES}"),
        ("__import__('time').sleep(60)", 3, "no end within 3 s"),
    ],
)
def test_a_fault_is_found_where_tests_fail_or_do_not_end(
    fault: str, limit: float, failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(mutation.TESTS, str(SHAPES), ["tests/test_errors.py"])
    monkeypatch.setattr(mutation, "OF_ALL", [])
    source = (mutation.ROOT / SHAPES).read_text(encoding="utf-8")
    copies = Copies(tmp_path, 1)
    found = copies.first_failure(SHAPES, f"{source}\n{fault}\n", limit)
    assert (found or "").startswith(failure)
    assert (found is None) == (failure == "")
    assert (tmp_path / "0" / SHAPES).read_text(encoding="utf-8") == source
