"""A method that derived classes have to write cannot be forgotten: what has no body is abstract."""

from __future__ import annotations

import ast
import importlib
import inspect
from abc import ABCMeta
from collections.abc import Iterator
from pathlib import Path

import pytest

from vae_flows.ode.fields import TapedField

ROOT = Path(__file__).parents[1]


def has_no_body(function: ast.FunctionDef) -> bool:
    return all(isinstance(row, ast.Expr) and isinstance(row.value, ast.Constant) for row in function.body)


def methods_without_body() -> Iterator[tuple[type, str]]:
    """Yield those of abstract base classes; an empty method elsewhere does nothing on purpose."""
    for path in sorted((ROOT / "vae_flows").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "abstractmethod" in text:
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            for node in ast.walk(ast.parse(text)):
                kind = getattr(module, node.name) if isinstance(node, ast.ClassDef) else None
                if isinstance(node, ast.ClassDef) and isinstance(kind, ABCMeta):
                    functions = [part for part in node.body if isinstance(part, ast.FunctionDef)]
                    yield from ((kind, function.name) for function in functions if has_no_body(function))


METHODS = list(methods_without_body())


def test_there_are_some() -> None:
    assert (TapedField, "record") in METHODS


@pytest.mark.parametrize(("kind", "method"), METHODS)
def test_a_method_without_body_is_abstract(kind: type, method: str) -> None:
    assert inspect.isabstract(kind)
    assert method in kind.__abstractmethods__
