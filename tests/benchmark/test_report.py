"""Reports are made of the runs' files, and rendered from `results.json` alone."""

import json
import math
from pathlib import Path

import pytest

from vae_flows.benchmark.grid import plan_grid
from vae_flows.benchmark.presets import PAPER, PRESETS
from vae_flows.benchmark.report import Results, collect_results, render_tables, write_report
from vae_flows.errors import DataError
from vae_flows.persistence.json_files import write_json
from vae_flows.persistence.records import to_plain
from vae_flows.reporting.tables import tables_to_markdown
from vae_flows.runs.folder import FAILURE, IMAGES

PUBLISHED = Path(__file__).parents[2] / "experiments" / "results" / "quick"
README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


@pytest.fixture
def grid(tmp_path, finish):
    """A grid of two posteriors and two seeds; one run failed."""
    root = tmp_path / "grid"
    runs = plan_grid(PRESETS["smoke"], root, posteriors=["ffjord", "none"], seeds=[0, 1])
    for run, bound in zip(runs, (100.0, 102.0, 110.5, None), strict=True):
        if bound is None:
            write_json(run.folder / "settings.json", to_plain(run.settings))
            write_json(run.folder / FAILURE, {"error": "no memory"})
        else:
            write_json(run.folder / "settings.json", {"data": run.settings.data, "posterior": "any"})
            finish(run, bound)
    return root


def test_a_report_writes_results_tables_and_plots(grid):
    results, files = write_report(grid)
    assert [(record["posterior"], record["status"]) for record in results.records] == [
        ("none", "finished"),
        ("none", "failed"),
        ("ffjord", "finished"),
        ("ffjord", "finished"),
    ]
    names = ["elbo-by-epoch", "elbo-by-time", "test-elbo", "costs", "reconstructions", "samples"]
    assert [file.name for file in files] == [
        "results.json",
        "table.md",
        "table.csv",
        *(f"caltech101-silhouettes-{name}.png" for name in names),
    ]
    assert all(file.stat().st_size > 0 for file in files)
    table = (grid / "table.md").read_text()
    assert "| none | 110.50 (n = 1), 1 failed | 105.50 (n = 1), 1 failed | – | 2.00 | 1,234 | 110.80 ± 0.46 |" in table
    assert "| ffjord | 101.00 ± 1.41 | 96.00 ± 1.41 | 20.0 | 2.00 | 1,234 | 104.03 ± 0.43 |" in table
    assert "1 of 4 runs failed." in table
    assert "latent_dim 4 (64); network.kind mlp (conv)" in table
    assert "ffjord.amortization bias (low_rank)" in table


def test_tables_come_from_the_results_file_alone(grid, tmp_path):
    write_report(grid, tmp_path / "published")
    assert not (grid / "results.json").exists()
    results = Results.read(tmp_path / "published" / "results.json")
    assert results == collect_results(grid)
    assert tables_to_markdown(render_tables(results)) == (tmp_path / "published" / "table.md").read_text()


@pytest.mark.parametrize("records", [[{"data": "a", "posterior": "none", "seed": 0, "status": "failed"}], []])
def test_results_that_name_their_records_as_before_are_read(records, tmp_path):
    write_json(tmp_path / "results.json", {"cells": records})
    results = Results.read(tmp_path / "results.json")
    assert results == Results(tuple(records))
    assert json.loads(results.to_json()) == {"best": {}, "runs": records}


def test_the_settings_of_the_paper_need_no_note(tmp_path, finish):
    (run,) = plan_grid(PAPER, tmp_path, posteriors=["ffjord"], data=["mnist-static"], seeds=[0])
    write_json(run.folder / "settings.json", {})
    finish(run)
    (table,) = render_tables(collect_results(tmp_path))
    assert [note for note in table.notes if "differ" in note] == []


def test_bits_per_dimension_are_made_of_nats(tmp_path, finish):
    (run,) = plan_grid(PRESETS["quick"], tmp_path, posteriors=["none"], data=["frey-faces"], seeds=[0])
    write_json(run.folder / "settings.json", {})
    scale = 560 * math.log(2)
    finish(run, 4.5 * scale, unit="bits/dim", nats_per_unit=scale)
    (run,) = collect_results(tmp_path).runs()
    assert run.negative_elbo == pytest.approx(4.5)
    assert run.curve[-1] == pytest.approx(4.5)


def test_runs_of_two_versions_of_the_code_are_told(tmp_path, finish):
    runs = plan_grid(PRESETS["smoke"], tmp_path, posteriors=["none"], seeds=[0, 1])
    for run, commit in zip(runs, ("abc", "def"), strict=True):
        write_json(run.folder / "settings.json", {})
        finish(run, commit=commit)
    (table,) = render_tables(collect_results(tmp_path))
    assert "The runs come from different versions of the code." in table.notes


def test_paths_of_the_machine_are_not_published(tmp_path, finish):
    (run,) = plan_grid(PRESETS["smoke"], tmp_path, posteriors=["none"], changes={"data_path": "/home/someone/x.mat"})
    write_json(run.folder / "settings.json", {})
    finish(run)
    assert "someone" not in collect_results(tmp_path).to_json()


def test_a_folder_without_runs_is_told(tmp_path):
    with pytest.raises(DataError, match="the folder of a benchmark, got one without a run"):
        write_report(tmp_path)


def test_damaged_files_are_told(grid):
    image = next(grid.glob(f"*/ffjord/*/{IMAGES}"))
    image.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"images\.npz: expected an \.npz file"):
        write_report(grid)
    write_json(grid / "other.json", [1])
    with pytest.raises(DataError, match="results of a benchmark"):
        Results.read(grid / "other.json")


@pytest.mark.skipif(not PUBLISHED.exists(), reason="no results are published yet")
def test_published_tables_are_those_of_the_published_results():
    results = Results.read(PUBLISHED / "results.json")
    assert tables_to_markdown(render_tables(results)) == (PUBLISHED / "table.md").read_text(encoding="utf-8")


def test_the_table_of_the_readme_is_that_of_the_published_results():
    text = README.read_text(encoding="utf-8")
    if BEGIN not in text or not PUBLISHED.exists():
        pytest.skip("no results are published yet, or the README has no place for them")
    shown = text.partition(BEGIN)[2].partition(END)[0]
    results = Results.read(PUBLISHED / "results.json")
    assert shown.strip() == tables_to_markdown(render_tables(results)).strip()
