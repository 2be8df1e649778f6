"""The notebook runs from first to last cell, and shows bars, tables and figures as Jupyter has them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbformat, of the extra dev")
nbclient = pytest.importorskip("nbclient", reason="needs nbclient, of the extra dev")
pytest.importorskip("ipykernel", reason="needs ipykernel, of the extra dev")

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Return the outputs of the code cells, by their source, of a kernel of this environment in an empty folder."""
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")  # without it jupyter_core warns
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["ffjord", "none", "planar"]
    return {cell.source: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def shown(executed: dict[str, list[Any]], part: str, kind: str) -> list[str]:
    """Return what the one cell that has a text shows in a format."""
    (outputs,) = [outputs for source, outputs in executed.items() if part in source]
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


def test_the_notebook_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if "outputs" in cell)


def test_training_shows_bars_that_come_to_their_end(executed: dict[str, list[Any]]):
    bars = [html for html in shown(executed, "vf.training.train(", "text/html") if "<progress" in html]
    assert len(bars) == 3  # one for each model, whose pictures replace each other
    for html in bars:
        assert '<progress value="4" max="4"></progress>' in html
        assert "validation −ELBO" in html
        assert "examples/s" in html


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("vf.training.train(", ("TrainingResult", "best_epoch")),
        ("for name in models]\nruns[-1]", ("posterior", "ffjord", "status")),
        ("runs[-1].history", ("validation_negative_elbo", "4 epochs")),
        ("estimate_likelihood", ("−L (nats)", "<td>100</td>")),
        ("results_table", ("planar", "ffjord", "test −ELBO (nats)")),
    ],
)
def test_tables_are_html(executed: dict[str, list[Any]], part: str, expected: tuple[str, ...]):
    table = shown(executed, part, "text/html")[-1]
    assert "<table>" in table
    assert all(text in table for text in expected)


@pytest.mark.parametrize("part", ["plot_curves", "plot_samples", "plot_reconstructions"])
def test_figures_are_pictures(executed: dict[str, list[Any]], part: str):
    (picture,) = shown(executed, part, "image/png")
    assert len(picture) > 5000  # base64 of a picture, not of an empty one


@pytest.mark.parametrize(
    ("part", "expected"),
    [("data.train", "Images(1000 of 1×28×28"), ("rsample_with_log_prob", "FlowDistribution(DiagonalNormal → ")],
)
def test_what_has_no_table_has_a_line(executed: dict[str, list[Any]], part: str, expected: str):
    assert shown(executed, part, "text/plain")[-1].startswith(expected)


def test_nothing_is_warned_of(executed: dict[str, list[Any]]):
    texts = [out.text for outputs in executed.values() for out in outputs if out.output_type == "stream"]
    assert texts == []
