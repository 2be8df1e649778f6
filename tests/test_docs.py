"""What the pages of the documentation show must run, and their links must lead somewhere."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pyro
import pytest

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.benchmark.grid import plan_grid
from vae_flows.benchmark.presets import PRESETS
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
