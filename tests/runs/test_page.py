"""Any runs make one page of HTML, in which damage is told and nothing from a folder is markup."""

import re

import pytest

from tests.runs.recorded import TEST
from vae_flows.benchmark.grid import GridRun
from vae_flows.benchmark.presets import PRESETS
from vae_flows.errors import DataError, InvalidInputError
from vae_flows.persistence.json_files import write_json
from vae_flows.runs.folder import FAILURE, METRICS, SETTINGS, prepare
from vae_flows.runs.page import write_page

HOSTILE = "</td><script>alert(1)</script><svg onload=alert(2)>\"'"


@pytest.fixture
def make(tmp_path, finish):
    def make(posterior: str, seed: int, bound: float | None, **changes: object) -> None:
        folder = tmp_path / "runs" / f"{posterior}-{seed}"
        settings = PRESETS["smoke"].settings("caltech101-silhouettes", posterior, seed)
        prepare(folder, settings)
        if bound is not None:
            history = {"best_epoch": 2, "stopped_early": False, "training_seconds": 4.0, "posterior_parameters": 10}
            extra = {"versions": {"torch": "2.6"}, "hardware": {}, **history, "test": TEST | {"negative_elbo": bound}}
            finish(GridRun(folder, settings), bound, **extra | changes)

    return make


def read_page(folder, runs=None):
    page, markdown, latex = write_page([folder / "runs"] if runs is None else runs, folder / "out")
    assert "| posterior |" in markdown.read_text(encoding="utf-8")
    assert r"\toprule" in latex.read_text(encoding="utf-8")
    return page.read_text(encoding="utf-8")


def test_a_difference_is_bold_only_where_seeds_show_it(make, tmp_path):
    for seed in range(3):
        make("none", seed, 100.0 + 0.1 * seed)
        make("planar", seed, 90.0 + 0.1 * seed)
        make("iaf", seed, 90.0 + 3.0 * (seed - 1))
    page = read_page(tmp_path)
    (row,) = re.findall(
        r"<tr><th scope=\"row\">iaf − planar</th>.*?</tr>|<tr><th scope=\"row\">planar − iaf</th>.*?</tr>", page
    )
    assert "<strong>" not in row
    (row,) = re.findall(r"<tr><th scope=\"row\">none − planar</th>.*?</tr>", page)
    assert "<strong>10.00</strong>" in row


def test_one_seed_allows_no_claim(make, tmp_path):
    make("none", 0, 100.0)
    make("planar", 0, 50.0)
    page = read_page(tmp_path)
    assert "One seed does not allow" in page
    assert "<strong>" not in page


def test_nothing_from_a_folder_is_markup(make, tmp_path):
    make("none", 0, 100.0, commit=HOSTILE, versions={HOSTILE: HOSTILE}, unit=HOSTILE)
    make("planar", 0, None)
    write_json(tmp_path / "runs/planar-0" / FAILURE, {"error": HOSTILE, HOSTILE: 1})
    page = read_page(tmp_path)
    assert page.count("<script") == 1
    assert "<svg" not in page
    assert page.count("alert(1)") >= 5  # shown, not run


def test_damage_is_told_and_the_rest_stands(make, tmp_path):
    make("none", 0, 100.0)
    make("planar", 0, 100.0, nats_per_unit=float("nan"))
    make("iaf", 0, 100.0)
    (tmp_path / "runs/iaf-0" / METRICS).write_text("{", encoding="utf-8")
    make("radial", 0, None)
    (tmp_path / "runs/radial-0" / SETTINGS).write_text("[]", encoding="utf-8")
    make("none", 1, 100.0, versions=["torch 2.6"])
    make("none", 2, 100.0, hardware=None)
    page = read_page(tmp_path, [tmp_path / "runs", tmp_path / "gone"])
    assert page.count("<strong>damaged</strong>") == 5
    assert page.count("<strong>no runs</strong>") == 1
    assert '<th scope="row">none</th>' in page


def test_runs_of_mixed_versions_are_marked(make, tmp_path):
    make("none", 0, 100.0)
    make("none", 1, 100.0, versions={"torch": "2.9"})
    assert "2.6 (1); 2.9 (1)" in read_page(tmp_path)


def test_nothing_is_fetched(make, tmp_path):
    make("none", 0, 100.0)
    assert not re.search(r"(src|href)=\"(?!data:|#)", read_page(tmp_path))


def test_no_readable_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="at least one that can be read"):
        write_page([tmp_path], tmp_path)
    with pytest.raises(InvalidInputError, match="several folders"):
        write_page(str(tmp_path), tmp_path)
