"""Runs of any grids stand in one table, apart where their settings are."""

import csv
import io

import pytest

import vae_flows as vf
from tests.runs.recorded import TEST
from vae_flows.benchmark.grid import GridRun
from vae_flows.benchmark.presets import PRESETS
from vae_flows.benchmark.published import PUBLISHED
from vae_flows.errors import DataError, InvalidInputError
from vae_flows.runs.folder import prepare
from vae_flows.runs.literature import deviation_notes
from vae_flows.runs.settings import with_changes

SMOKE = PRESETS["smoke"]
HISTORY = {"best_epoch": 2, "stopped_early": False, "training_seconds": 4.0, "posterior_parameters": 10}


@pytest.fixture
def make(tmp_path, finish):
    def make(place: str, posterior: str, seed: int, bound: float | None, **changes: int | str) -> None:
        folder = tmp_path / place
        settings = with_changes(SMOKE.settings("caltech101-silhouettes", posterior, seed), changes)
        prepare(folder, settings)
        if bound is not None:
            extra = {"versions": {}, "hardware": {}, **HISTORY, "test": TEST | {"negative_elbo": bound}}
            finish(GridRun(folder, settings), bound, **extra)

    return make


def test_seeds_are_summed_up_and_settings_that_differ_told(make, tmp_path):
    for seed, bound in ((0, 100.0), (1, 102.0)):
        make(f"a/none/{seed}", "none", seed, bound)
    make("b/narrow", "planar", 0, 99.0, latent_dim=2)
    make("b/wide", "planar", 0, 98.0)
    make("b/late", "iaf", 0, None)
    table = vf.compare([tmp_path / "a", tmp_path / "b"])
    rows = {row[0].text: row for row in table.rows}
    assert set(rows) == {"none", "planar (latent_dim 2)", "planar (latent_dim 4)", "iaf"}
    assert rows["none"][3].text == "101.00 ± 1.41"
    assert not any(entry.bold for row in rows.values() for entry in row)  # one seed of one shows nothing
    assert rows["iaf"][2].text == "0 of 1 (unfinished)"


def test_runs_of_other_precision_stand_apart_and_those_of_another_place_do_not(make, tmp_path):
    make("a", "none", 0, 100.0)
    make("b", "none", 1, 102.0, **{"compute.precision": "bf16-mixed"})
    make("c", "none", 2, 104.0, **{"compute.accelerator": "cpu", "compute.devices": 2})
    rows = {row[0].text: row[2].text for row in vf.compare([tmp_path]).rows}
    assert rows == {"none (precision 32-true)": "2", "none (precision bf16-mixed)": "1"}


def test_a_precision_that_is_not_the_literatures_is_told():
    caltech = "caltech101-silhouettes"
    changes = {"compute.precision": "bf16-mixed", "compute.devices": 2, "evaluation.importance_samples": 7}
    own = with_changes(PRESETS["paper"].settings(caltech, "none", 0), changes)
    told = "Settings that differ from the paper's, in brackets: compute.precision bf16-mixed (32-true)."
    assert deviation_notes([own], PUBLISHED[caltech]) == [told]


def test_a_run_that_is_given_twice_counts_once(make, tmp_path):
    make("a", "none", 0, 100.0)
    (row,) = vf.compare([tmp_path, tmp_path / "a", vf.Run(tmp_path / "a")]).rows
    assert row[2].text == "1"
    assert not row[3].bold  # alone, it is the best of nothing


def test_the_table_shows_itself_everywhere(make, tmp_path):
    make("a", "zuko:NSF", 0, 100.0)
    table = vf.compare([tmp_path])
    assert "zuko:NSF" in str(table)
    assert "<td>zuko:NSF</td>" in table._repr_html_()
    assert "| zuko:NSF |" in table.to_markdown()
    header, row = csv.reader(io.StringIO(table.to_csv()))
    assert dict(zip(header, row, strict=True))["test −ELBO"] == "100.00"
    latex = table.to_latex()
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == 1
    assert r"test $-$ELBO" in latex


def test_nothing_in_a_folder_becomes_markup(tmp_path):
    from vae_flows.reporting.tables import Entry, Table

    table = Table("<b>", ("a & b", "x"), ((Entry("<script>"), Entry("50% of $1_0")),), ("<i>",))
    assert "<script>" not in table._repr_html_()
    assert "<i>" not in table._repr_html_()
    assert r"50\% of \$1\_0" in table.to_latex()
    assert r"a \& b" in table.to_latex()


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="at least one run"):
        vf.compare([])
    with pytest.raises(InvalidInputError, match="Pass a list"):
        vf.compare(str(tmp_path))
    with pytest.raises(DataError, match="the folder of a run"):
        vf.compare([tmp_path])
