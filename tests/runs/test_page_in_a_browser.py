"""The page of runs, opened in a real browser without network: it works, fits a phone and is accessible."""

import os
import shutil
from pathlib import Path

import pytest

from tests.runs.recorded import TEST, score
from vae_flows.benchmark.grid import GridRun
from vae_flows.benchmark.presets import PRESETS
from vae_flows.benchmark.published import PUBLISHED
from vae_flows.persistence.json_files import write_json
from vae_flows.persistence.records import to_plain
from vae_flows.runs.diagnosis import DIAGNOSTICS_FILES, RunDiagnostics
from vae_flows.runs.folder import FAILURE, prepare
from vae_flows.runs.page import write_page

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
axe_playwright = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this system")
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture
def page_file(tmp_path, finish):
    bounds = {("none", 0): 110.0, ("none", 1): 110.5, ("planar", 0): 99.5, ("planar", 1): 100.0, ("iaf", 0): None}
    for (posterior, seed), bound in bounds.items():
        settings = PRESETS["smoke"].settings("caltech101-silhouettes", posterior, seed)
        folder = tmp_path / "runs" / f"{posterior}-{seed}"
        prepare(folder, settings)
        if bound is None:
            write_json(folder / FAILURE, {"error": "out of memory " + "x" * 300})
            continue
        told = {"best_epoch": 2, "stopped_early": False, "training_seconds": 4.0, "posterior_parameters": 10}
        told |= {"versions": {"torch": "2.6"}, "hardware": {"processor": "any"}}
        finish(GridRun(folder, settings), bound, **told, test=TEST | {"negative_elbo": bound})
        score(folder, bound, 10 * seed + len(posterior))
        found = RunDiagnostics(1.0, latent_dim=4, rate=0.01, active_units=4, aggregate_p_value=0.5)
        write_json(folder / DIAGNOSTICS_FILES[0], to_plain(found))
    return write_page([tmp_path / "runs", tmp_path / "gone"], tmp_path / "out", PUBLISHED)[0]


@pytest.fixture
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def column(page):
    return page.locator("table.sortable").first.locator("tbody th").all_inner_texts()


def test_the_page_works_in_a_browser(page_file, browser):
    told = []
    page = browser.new_page(viewport=DESKTOP, offline=True)
    page.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: told.append(str(error)))
    page.goto(page_file.as_uri())

    head = page.locator("table.sortable").first.locator("th[scope=col]").first
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    ascending = column(page)
    assert ascending == sorted(ascending)
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page) == ascending[::-1] != ascending

    images = page.locator("img")
    assert images.count() > 0
    assert all(images.evaluate_all("all => all.map(image => image.naturalWidth > 0 && image.alt !== '')"))

    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
            page.set_viewport_size(size)
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (scheme, name)
            violations = axe_playwright.Axe().run(page).response["violations"]
            assert [v["id"] for v in violations if v["impact"] in ("serious", "critical")] == [], (scheme, name)
            if "SCREENSHOTS" in os.environ:
                page.screenshot(path=Path(os.environ["SCREENSHOTS"]) / f"{scheme}-{name}.png", full_page=True)
    assert told == []
