"""No module imports itself by way of others: dependencies point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("vae_flows", "experiments", "examples")


@dataclass
class ImportGraph:
    """Which modules each module imports: when it is imported itself, and later, when a function of it is called.

    The package around an imported module counts only where names of its own are taken from it.
    """

    at_once: dict[str, set[str]] = field(default_factory=dict)
    later: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path, packages: tuple[str, ...]) -> ImportGraph:
        files = {_name(path.relative_to(root)): path for package in packages for path in (root / package).rglob("*.py")}
        graph = cls()
        for module, path in files.items():
            graph.at_once[module], graph.later[module] = set(), set()
            for statement, late in _imports(ast.parse(path.read_text(encoding="utf-8")), late=False):
                found = _targets(
                    statement, module if path.stem == "__init__" else module.rpartition(".")[0], set(files)
                )
                (graph.later if late else graph.at_once)[module] |= found
        return graph

    def cycle(self) -> list[str]:
        """Return a circle of modules of which each imports the one before; empty where there is none."""
        try:
            TopologicalSorter(self.at_once).prepare()
        except CycleError as error:
            return error.args[1]
        return []

    def closing_late(self) -> set[tuple[str, str]]:
        """Return the imports inside functions whose target imports, by way of others, the module that they are in."""
        whole = {module: self.at_once[module] | self.later[module] for module in self.at_once}
        pairs = ((module, target) for module, targets in self.later.items() for target in targets)
        return {(module, target) for module, target in pairs if module in _reached(whole, target)}


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(node: ast.AST, *, late: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Return the import statements below a node, and whether in a function, but none for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, late
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for statement in child.orelse:
                yield from _imports(ast.Module([statement], []), late=late)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, late=late or inside)


def _targets(statement: ast.Import | ast.ImportFrom, package: str, modules: set[str]) -> set[str]:
    if isinstance(statement, ast.Import):
        return {alias.name for alias in statement.names} & modules
    above = package.split(".")[: len(package.split(".")) - statement.level + 1] if statement.level else []
    source = ".".join([*above, *([statement.module] if statement.module else [])])
    names = {f"{source}.{alias.name}" for alias in statement.names}
    return (names & modules) | ({source} & modules if names - modules else set())


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting.extend(new)
    return found


@pytest.fixture(scope="module")
def graph() -> ImportGraph:
    return ImportGraph.read(ROOT, PACKAGES)


def test_modules_do_not_import_each_other_in_a_circle(graph):
    assert len(graph.at_once) > 100
    assert graph.cycle() == []


def test_imports_inside_functions_close_no_further_circle(graph):
    assert not graph.closing_late()


@pytest.mark.parametrize(
    ("line", "circle", "late"),
    [
        ("from package.a import f", True, False),
        ("import package.a", True, False),
        ("from package import a", True, False),
        ("from .a import f", True, False),
        ("from . import a", True, False),
        ("try:\n    from package import a\nexcept ImportError:\n    pass", True, False),
        ("class C:\n    from package import a", True, False),
        ("if TYPE_CHECKING:\n    from package import a\nelse:\n    from package.a import f", True, False),
        ("if TYPE_CHECKING:\n    from package import a", False, False),
        ("if typing.TYPE_CHECKING:\n    from package import a", False, False),
        ("def g():\n    from package import a", False, True),
        ("async def g():\n    if g:\n        import package.a", False, True),
        ("import a", False, False),
        ("from elsewhere.package import a", False, False),
    ],
)
def test_circles_are_found(line, circle, late, tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("import package.b\n\ndef f():\n    pass\n")
    (package / "b.py").write_text(line)
    graph = ImportGraph.read(tmp_path, ("package",))
    assert (set(graph.cycle()) == {"package.a", "package.b"}) == circle
    assert (graph.closing_late() == {("package.b", "package.a")}) == late
