"""What the pages of the documentation show must run, and their links must lead somewhere."""

from __future__ import annotations

import csv
import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pyro
import pytest

import vae_flows as vf
from tests.seeds import reseed
from vae_flows import cnf, ode, training
from vae_flows.benchmark.grid import plan_grid
from vae_flows.benchmark.presets import PRESETS
from vae_flows.cnf import Dequantization, Regularizer
from vae_flows.flows import registry
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import METRICS, prepare
from vae_flows.testing import check_flow

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("**/*.md"))
FILE = re.compile(r"^`([\w.]+)`:\n\n```\w+\n(.*?)```", flags=re.DOTALL | re.MULTILINE)


def snippets(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Pages may register flows and import the modules that they show."""
    registered, modules = dict(registry._registered), set(sys.modules)
    reseed()
    yield
    pyro.clear_param_store()
    registry._registered.clear()
    registry._registered.update(registered)
    for name in {name for name in sys.modules if name.startswith("my_")} - modules:
        del sys.modules[name]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder on the path, into which a page's files are put."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write_files(page: Path, folder: Path) -> None:
    """Write the files that a page shows below their names."""
    for name, content in FILE.findall(page.read_text(encoding="utf-8")):
        (folder / name).write_text(content, encoding="utf-8")
    importlib.invalidate_caches()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_snippets_run_one_after_the_other(page: Path, project: Path) -> None:
    write_files(page, project)
    namespace: dict[str, object] = {"__name__": "my_flows"}
    for number, snippet in enumerate(snippets(page, "python")):
        exec(compile(snippet, f"{page.name}, snippet {number}", "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def rows_of_methods() -> list[list[str]]:
    """Return name, test and measured sentence of each method."""
    page = (DOCS / "methods.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in page.splitlines() if line.startswith("| ")
    ]
    return [[name, test, measured] for _, name, _, test, measured in rows if test != "test"]


def test_each_method_names_a_test_that_there_is() -> None:
    assert len(rows_of_methods()) > 20
    for name, test, _ in rows_of_methods():
        told = re.fullmatch(r"\[(test_\w+)\]\(([^)]+)\)", test)
        assert told is not None, name
        assert f"def {told[1]}(" in (DOCS / told[2]).read_text(encoding="utf-8"), name


@pytest.mark.parametrize(
    "names",
    [
        [name for name in vf.flows.available_flows() if ":" not in name and name != "none"],
        get_args(ode.solver.Gradient),
        get_args(cnf.layers.TimeConditioning),
        get_args(cnf.amortization.AmortizationName),
        get_args(training.objectives.ObjectiveName),
        [kind.__name__ for kind in (*Regularizer.__subclasses__(), *Dequantization.__subclasses__())],
        ["hutchinson", "exact", "bottleneck"],
    ],
    ids=" ".join,
)
def test_every_method_has_its_entry(names: list[str]) -> None:
    page = (DOCS / "methods.md").read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in page and f'="{name}"`' not in page] == []


def test_figures_of_the_quick_table_are_its_own() -> None:
    with (ROOT / "experiments" / "results" / "quick" / "table.csv").open(encoding="utf-8") as file:
        recorded = {row["posterior"]: f"{float(row['negative_elbo_mean']):.2f}" for row in csv.DictReader(file)}
    told = {
        name.strip("`"): measured.partition(" ")[0]
        for name, _, measured in rows_of_methods()
        if measured.endswith(" in the quick table")
    }
    assert told == {name: value for name, value in recorded.items() if name != "none"}
    assert f"without a flow is {recorded['none']}." in (DOCS / "methods.md").read_text(encoding="utf-8")


def test_there_are_pages() -> None:
    assert "your-own-flow" in {page.stem for page in PAGES}


@pytest.fixture
def template(project: Path) -> Path:
    """The template of a flow as an installer leaves it: the module, and the entry point in the metadata."""
    write_files(DOCS / "your-own-flow.md", project)
    definition = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = project / f"{definition['name'].replace('-', '_')}-{definition['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {definition['name']}\nVersion: 0.1.0\n")
    ((group, points),) = definition["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    importlib.invalidate_caches()
    return project


@pytest.mark.usefixtures("template")
def test_the_template_is_found_by_its_entry_point_and_keeps_the_contract() -> None:
    assert "triangular" in vf.available_flows()
    assert "my_flows" not in sys.modules
    assert vf.AmortizedPosterior(3, 8, "triangular").flow_name == "triangular"
    check_flow(vf.flows.find_flow("triangular"))


@pytest.mark.slow
def test_the_templates_own_tests_pass(template: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(template / "test_my_flows.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=template, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert f"{len(vf.testing.CHECKS)} passed" in result.stdout


@pytest.mark.slow
def test_the_template_is_a_row_of_the_benchmark(template: Path) -> None:
    tiny = {"max_images": 40, "training.batch_size": 20, "training.max_epochs": 1, "compute.accelerator": "cpu"}
    (run,) = plan_grid(PRESETS["smoke"], template / "runs", posteriors=["triangular"], changes=tiny)
    prepare(run.folder, run.settings)
    execute(run.folder)
    assert (run.folder / METRICS).exists()
