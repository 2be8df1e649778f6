"""Any runs make one page of HTML, in which damage is told and nothing from a folder is markup."""

import re

import pytest
import torch

from tests.runs.recorded import TEST, score
from vae_flows.benchmark.grid import GridRun
from vae_flows.benchmark.presets import PRESETS
from vae_flows.benchmark.published import PUBLISHED
from vae_flows.errors import DataError, InvalidInputError
from vae_flows.evaluation.finished import finished_values
from vae_flows.persistence.json_files import write_json
from vae_flows.persistence.records import to_plain
from vae_flows.runs.diagnosis import RunDiagnostics
from vae_flows.runs.folder import FAILURE, METRICS, SCORES, SETTINGS, prepare
from vae_flows.runs.page import write_page

HOSTILE = "</td><script>alert(1)</script><svg onload=alert(2)>\"'"


@pytest.fixture
def make(tmp_path, finish):
    def make(posterior: str, seed: int, bound: float | None, *, scored: bool = True, **changes: object) -> None:
        folder = tmp_path / "runs" / f"{posterior}-{seed}"
        settings = PRESETS["smoke"].settings("caltech101-silhouettes", posterior, seed)
        prepare(folder, settings)
        if bound is not None:
            history = {"best_epoch": 2, "stopped_early": False, "training_seconds": 4.0, "posterior_parameters": 10}
            extra = {"versions": {"torch": "2.6"}, "hardware": {}, **history, "test": TEST | {"negative_elbo": bound}}
            finish(GridRun(folder, settings), bound, **extra | changes)
            if scored:
                score(folder, bound, 10 * seed + len(posterior))

    return make


def read_page(folder, runs=None):
    page, markdown, latex = write_page([folder / "runs"] if runs is None else runs, folder / "out")
    assert "| posterior |" in markdown.read_text(encoding="utf-8")
    assert r"\toprule" in latex.read_text(encoding="utf-8")
    return page.read_text(encoding="utf-8")


def row_of(page, name):
    (row,) = re.findall(rf"<tr><th scope=\"row\">(?:<strong>)?{re.escape(name)}(?:</strong>)?</th>.*?</tr>", page)[:1]
    return row


@pytest.mark.parametrize("scored", [True, False])
def test_a_difference_is_bold_only_where_it_is_real(make, tmp_path, scored):
    for seed in range(3):
        make("none", seed, 100.0 + 0.1 * seed, scored=scored)
        make("planar", seed, 90.0 + 0.1 * seed, scored=scored)
        make("iaf", seed, 90.0 + 3.0 * (seed - 1), scored=scored)
    page = read_page(tmp_path)
    (row,) = re.findall(
        r"<tr><th scope=\"row\">iaf − planar</th>.*?</tr>|<tr><th scope=\"row\">planar − iaf</th>.*?</tr>", page
    )[:1]
    assert "<strong>" not in row
    assert "<strong>10.00</strong>" in row_of(page, "none − planar")
    assert ("images and seeds" in row) == scored
    assert ("No ranks: no scores of each image" in page) != scored
    results = row_of(page, "planar")
    assert "<strong>" not in results  # iaf may be as good
    if scored:
        assert "May be the best: planar, iaf" in page or "May be the best: iaf, planar" in page


def test_the_best_is_bold_in_all_tables_where_it_is_the_best(make, tmp_path):
    for seed in range(3):
        make("none", seed, 100.0 + 0.1 * seed)
        make("planar", seed, 90.0 + 0.1 * seed)
    page = read_page(tmp_path)
    assert "<strong>90.10 ± 0.10</strong>" in page
    assert "<strong>85.10 ± 0.10</strong>" not in page  # −log p(x) of the metrics is 95 for all: another test's
    assert "May be the best: planar." in page
    assert "ranks by test −ELBO" in page
    assert "ranks by −log p(x), 4 draws" in page
    assert r"\textbf{90.10 $\pm$ 0.10}" in (tmp_path / "out/report.tex").read_text(encoding="utf-8")
    assert "**90.10 ± 0.10**" in (tmp_path / "out/report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("scored", [True, False])
def test_one_seed_allows_no_claim_about_posteriors(make, tmp_path, scored):
    make("none", 0, 100.0, scored=scored)
    make("planar", 0, 50.0, scored=scored)
    page = read_page(tmp_path)
    assert ("images, for these models alone" in page) == scored
    assert ("Without an interval" in page) != scored
    assert not re.search(r"<td><strong>|scope=\"row\"><strong>", page)


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


def test_without_a_readable_run_the_page_says_so_and_the_call_fails(make, tmp_path):
    with pytest.raises(DataError, match="at least one that can be read"):
        write_page([tmp_path / "gone"], tmp_path / "out")
    make("none", 0, 100.0)
    (tmp_path / "runs/none-0" / SETTINGS).write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="at least one that can be read"):
        read_page(tmp_path, [tmp_path / "runs", tmp_path / "gone"])
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "<strong>damaged</strong>" in page
    assert "<strong>no runs</strong>" in page
    assert "There are no runs to show" in page
    with pytest.raises(InvalidInputError, match="several folders"):
        write_page(str(tmp_path), tmp_path)


def test_parts_that_are_damaged_leave_the_run_in_the_tables(make, tmp_path):
    for seed in range(2):
        make("none", seed, 100.0)
        make("planar", seed, 90.0)
    (tmp_path / "runs/none-0" / SCORES).write_bytes(b"nonsense")
    (tmp_path / "runs/none-1/evaluation-8-samples.json").write_text("{", encoding="utf-8")
    (tmp_path / "runs/planar-0/diagnostics.json").write_text('{"rate": "high"}', encoding="utf-8")
    (tmp_path / "runs/planar-1/diagnostics.npz").write_bytes(b"nonsense")
    page = read_page(tmp_path)
    assert page.count("<strong>damaged in part</strong>") == 4
    assert "100.00" in row_of(page, "none")
    assert "No ranks: no scores of each image for none" in page


def test_runs_of_other_images_are_not_paired(make, tmp_path):
    for seed in range(2):
        make("none", seed, 100.0 + seed)
        make("planar", seed, 90.0 + seed)
        score(tmp_path / f"runs/planar-{seed}", 90.0 + seed, first=1)
    page = read_page(tmp_path)
    assert "runs were tested on other images" in page
    assert "the interval is Welch&#39;s" in page


def test_an_interrupted_test_is_told_in_its_place(make, tmp_path):
    make("none", 0, 100.0)
    folder = tmp_path / "runs/none-0/evaluation-20-samples"
    with finished_values(folder / "likelihood.safetensors", 5, {"rate": ()}, "key") as values:
        values.put(torch.arange(2), torch.zeros(2, dtype=torch.int64), {"rate": torch.ones(2)})
    page = read_page(tmp_path)
    assert "<strong>unfinished test</strong>" in page
    assert "evaluation-20-samples: 2 of 5 images so far" in page


def test_the_papers_numbers_stand_beside_any_runs_on_its_data(make, tmp_path):
    make("none", 0, 100.0)
    make("radial", 0, 99.0)
    page, *_ = write_page([tmp_path / "runs"], tmp_path / "out", PUBLISHED)
    text = page.read_text(encoding="utf-8")
    assert "FFJORD paper, Table 3, −ELBO" in text
    assert "110.80 ± 0.46" in row_of(text, "none")
    assert "network.kind mlp (conv)" in text  # what differs from the paper's settings
    assert "<td>99.00</td><td>–</td>" in row_of(text, "radial")


def test_hostile_names_in_diagnostics_and_tests_are_shown(make, tmp_path):
    make("none", 0, 100.0)
    found = RunDiagnostics(1.0, latent_dim=4, rate=3.0, problems=(HOSTILE,))
    write_json(tmp_path / "runs/none-0/diagnostics.json", to_plain(found))
    (tmp_path / "runs/none-0/evaluation-8-samples.json").write_text(f'{{"{"<script>"}": 1}}', encoding="utf-8")
    page = read_page(tmp_path)
    assert page.count("<script") == 1
    assert "<svg" not in page
    assert "alert(1)" in page


def test_diagnostics_have_a_plain_word_and_absent_ones_are_told(make, tmp_path):
    make("none", 0, 100.0)
    make("planar", 0, 90.0)
    found = RunDiagnostics(1.0, latent_dim=4, rate=0.01, active_units=0, round_trip_log_density=1e-6)
    write_json(tmp_path / "runs/none-0/diagnostics.json", to_plain(found))
    page = read_page(tmp_path)
    assert "<td>0.01 (bad)</td>" in row_of(page, "rate (nats)")
    assert "<td>0 of 4 (bad)</td>" in row_of(page, "active units")
    assert "<td>1e-06 (good)</td>" in row_of(page, "round-trip error (nats)")
    assert "Not diagnosed: planar; `vae-flows evaluate FOLDER --diagnostics` does it." in page
