"""Mutation testing of the numeric core: how many small faults, put in at random, do the fast tests find?

    python -m tests.mutation --sample 100 --seed 0 --minutes 60

cosmic-ray knows the faults and where they fit. What is here draws a sample of them, lets each meet the tests of its
module in a copy of the tree, and gives the score: cosmic-ray alone takes one command of tests for all modules, tries
all of its ten thousand faults, and writes them into the working tree.

A line is drawn first and then a fault on it, so that a table of coefficients does not outweigh what is done with it.
Faults that no test can meet, in annotations, in the defaults of abstract methods and without `@staticmethod`, and those
that any test finds, such as a shift of bits of a tensor, are left out. A fault is found when a test fails or takes too
long.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory

__all__ = ["Fault", "draw", "faults_in", "main", "modules", "suite_of"]

ROOT = Path(__file__).parents[1]

TESTS = {
    "vae_flows/ode": ["tests/ode", "tests/cnf", "tests/flows/test_ffjord.py"],
    "vae_flows/cnf": [
        "tests/cnf",
        "tests/ode",
        "tests/flows/test_ffjord.py",
        "tests/flows/test_contract.py",
        "tests/persistence/test_configuration.py",
        "tests/tensors/test_subclasses.py",
    ],
    "vae_flows/transforms": ["tests/transforms", "tests/flows", "tests/test_distributions.py"],
    "vae_flows/flows": ["tests/flows", "tests/test_posterior.py", "tests/persistence/test_configuration.py"],
    "vae_flows/likelihoods": ["tests/test_likelihoods.py", "tests/test_likelihood_contract.py"],
    "vae_flows/evaluation": ["tests/evaluation", "tests/test_randomness.py", "tests/test_records.py"],
    "vae_flows/objectives": ["tests/objectives", "tests/test_biased_bounds.py", "tests/test_vae.py"],
    "vae_flows/distributions": ["tests/test_distributions.py", "tests/test_posterior.py", "tests/flows"],
}
"""Where the tests of a folder or a file are, beside its doctests and the file of its name."""

OF_ALL = ["tests/test_abstract_methods.py", "tests/test_wrong_calls.py"]
"""Tests that are generated for every module, the last to run."""

SWAPS = {
    "Binary": "Add_Sub Sub_Add Mul_Div Div_Mul Mul_Add Add_Mul Pow_Mul",
    "Comparison": "Lt_LtE LtE_Lt Gt_GtE GtE_Gt Lt_Gt Gt_Lt LtE_GtE GtE_LtE Eq_NotEq NotEq_Eq Is_IsNot IsNot_Is",
}
OTHERS = """ReplaceUnaryOperator_Delete_USub ReplaceUnaryOperator_Delete_Not ReplaceAndWithOr ReplaceOrWithAnd AddNot
    ReplaceTrueWithFalse ReplaceFalseWithTrue ReplaceBreakWithContinue ReplaceContinueWithBreak NumberReplacer
    ZeroIterationForLoop RemoveDecorator"""
OPERATORS = [f"Replace{kind}Operator_{swap}" for kind in SWAPS for swap in SWAPS[kind].split()] + OTHERS.split()

Place = tuple[int, int]
Span = tuple[Place, Place]


@dataclass(frozen=True)
class Fault:
    """An operator of cosmic-ray, and the how manieth of the places in a module where it fits."""

    module: Path
    line: int
    operator: str
    occurrence: int

    def source(self) -> str:
        """Return the module with the fault in it."""
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator

        text = (ROOT / self.module).read_text(encoding="utf-8")
        source = mutate_code(text, get_operator(f"core/{self.operator}")(), self.occurrence)
        assert source is not None, self
        return source

    def __str__(self) -> str:
        rows = ((ROOT / self.module).read_text(encoding="utf-8").splitlines(), self.source().splitlines())
        changed = [f"    {old.strip()}\n -> {new.strip()}" for old, new in zip(*rows, strict=False) if old != new]
        return "\n".join([f"{self.module}:{self.line} {self.operator}", *changed[:1]])


def modules() -> list[Path]:
    """Return the modules of the numeric core."""
    found = [path for name in TESTS for path in ([ROOT / name] if name.endswith(".py") else (ROOT / name).glob("*.py"))]
    return sorted(path.relative_to(ROOT) for path in found)


def faults_in(module: Path) -> Iterator[Fault]:
    """Yield every fault that fits a module."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator

    text = (ROOT / module).read_text(encoding="utf-8")
    nodes, tree = list(ast_nodes(get_ast(text))), ast.parse(text)
    unmet, signs = [*_annotations(tree), *_abstract_defaults(tree), *_static_decorators(tree)], list(_signs(tree))
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        places = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, place in enumerate(places):
            met = not _within(place, unmet)
            if met and (not name.startswith("ReplaceBinary") or _within(place, signs)):
                yield Fault(module, place[0], name, occurrence)


def _annotations(tree: ast.AST) -> Iterator[Span]:
    """Yield where annotations are, which are never evaluated."""
    for node in ast.walk(tree):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(part, ast.expr):
                yield (part.lineno, part.col_offset), _end(part)


def _abstract_defaults(tree: ast.AST) -> Iterator[Span]:
    """Yield where defaults of abstract methods are, which those that fill them in give again."""
    for node in ast.walk(tree):
        decorators = [part.id for part in getattr(node, "decorator_list", ()) if isinstance(part, ast.Name)]
        if isinstance(node, ast.FunctionDef) and "abstractmethod" in decorators:
            for default in (*node.args.defaults, *node.args.kw_defaults):
                if default is not None:
                    yield (default.lineno, default.col_offset), _end(default)


def _static_decorators(tree: ast.AST) -> Iterator[Span]:
    """Yield where `@staticmethod` is, without which a function that is called on its class is the same."""
    for node in ast.walk(tree):
        for decorator in getattr(node, "decorator_list", ()):
            if isinstance(decorator, ast.Name) and decorator.id == "staticmethod":
                yield (decorator.lineno, 0), _end(decorator)


def _signs(tree: ast.AST) -> Iterator[Span]:
    """Yield where signs of binary operations are; cosmic-ray takes the stars of arguments for products as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp):
            yield _end(node.left), (node.right.lineno, node.right.col_offset)


def _end(node: ast.expr) -> Place:
    return node.end_lineno or node.lineno, node.end_col_offset or node.col_offset


def _within(place: Place, spans: Sequence[Span]) -> bool:
    return any(start <= place < end for start, end in spans)


def draw(faults: Sequence[Fault], count: int, seed: int) -> list[Fault]:
    """Draw lines, and one fault on each."""
    chosen = random.Random(seed)
    lines: dict[tuple[Path, int], list[Fault]] = {}
    for fault in faults:
        lines.setdefault((fault.module, fault.line), []).append(fault)
    return [chosen.choice(lines[line]) for line in chosen.sample(sorted(lines), min(count, len(lines)))]


def suite_of(module: Path) -> list[str]:
    """Return what to run for a module, the likeliest to fail first."""
    (place,) = (name for name in TESTS if module.is_relative_to(name))
    near = Path("tests", *module.parent.parts[1:], f"test_{module.stem}.py")
    return [str(module), *([str(near)] if (ROOT / near).exists() else []), *TESTS[place], *OF_ALL]


class Copies:
    """Copies of the tree to put faults into, one for each worker."""

    def __init__(self, folder: Path, count: int) -> None:
        self._free: Queue[Path] = Queue()
        self._seconds = itertools.count(2)  # bytecode is found stale by whole seconds
        for number in range(count):
            copy = folder / str(number)
            for name in ("vae_flows", "experiments", "examples", "tests", "docs"):
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            for file in ("pyproject.toml", "conftest.py", "README.md"):
                shutil.copy(ROOT / file, copy)
            self._free.put(copy)

    def first_failure(self, module: Path, source: str, limit: float) -> str | None:
        """Return the first test of a module that fails with that source, or what else is wrong; `None` if all pass."""
        copy = self._free.get()
        try:
            self._write(copy / module, source)
            return _first_failure(copy, suite_of(module), limit)
        finally:
            self._write(copy / module, (ROOT / module).read_text(encoding="utf-8"))
            self._free.put(copy)

    def _write(self, path: Path, source: str) -> None:
        path.write_text(source, encoding="utf-8")
        moment = time.time() + next(self._seconds)
        os.utime(path, (moment, moment))


def _first_failure(folder: Path, tests: list[str], limit: float) -> str | None:
    command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", "--no-header", "--tb=no", *tests]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no end within {limit:.0f} s"
    if done.returncode == 0:
        return None
    named = (row for row in done.stdout.splitlines() if row.startswith(("FAILED", "ERROR")))
    return next(named, f"exit status {done.returncode}")


def limits(copies: Copies, chosen: set[Path]) -> dict[str, float]:
    """Return how long the tests of each place may take, by how long they take without a fault.

    Raises:
        SystemExit: They fail without one.
    """
    found = {}
    for place in TESTS:
        module = next((module for module in sorted(chosen) if module.is_relative_to(place)), None)
        if module is not None:
            start = time.monotonic()
            failure = copies.first_failure(module, (ROOT / module).read_text(encoding="utf-8"), limit=1800)
            if failure is not None:
                raise SystemExit(f"the tests of {module} fail before any fault is put in: {failure}")
            found[place] = 60 + 4 * (time.monotonic() - start)
    return found


def main(arguments: Sequence[str]) -> None:
    """Draw, try, and tell the score and the faults that no test found."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sample", type=int, default=100, help="faults to try")
    parser.add_argument("--seed", type=int, default=0, help="which")
    parser.add_argument("--minutes", type=float, default=60, help="try no further ones after this time")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="modules whose path has this in it")
    settings = parser.parse_args(arguments)
    chosen = [module for module in modules() if settings.only in str(module)]
    faults = [fault for module in chosen for fault in faults_in(module)]
    sample = draw(faults, settings.sample, settings.seed)
    print(f"{len(sample)} of {len(faults)} faults in {len(chosen)} modules, seed {settings.seed}", flush=True)
    with TemporaryDirectory() as folder, ThreadPoolExecutor(settings.workers) as pool:
        copies = Copies(Path(folder), settings.workers)
        limit, end = limits(copies, {fault.module for fault in sample}), time.monotonic() + 60 * settings.minutes

        def survives(fault: Fault) -> bool | None:
            if time.monotonic() > end:
                return None
            place = next(place for place in TESTS if fault.module.is_relative_to(place))
            failure = copies.first_failure(fault.module, fault.source(), limit[place])
            print(f"SURVIVED {fault}" if failure is None else f"found {fault}\n by {failure}", flush=True)
            return failure is None

        fates = dict(zip(sample, pool.map(survives, sample), strict=True))
    survivors = [fault for fault, lives in fates.items() if lives]
    tried = sum(lives is not None for lives in fates.values())
    print(f"\n{tried - len(survivors)} of {tried} faults found; not found:", *survivors, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
