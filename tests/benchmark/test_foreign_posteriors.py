"""Flows of Pyro and zuko are rows of the benchmark by name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from vae_flows.benchmark.forecast import GridForecast
from vae_flows.benchmark.grid import RunOutcome, plan_grid
from vae_flows.benchmark.presets import POSTERIORS, PRESETS
from vae_flows.benchmark.report import collect_results, render_tables, write_report
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.flows import make_flow
from vae_flows.networks import count_parameters
from vae_flows.runs.build import flow_options
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import METRICS, load_settings, prepare

SMOKE, ALL = PRESETS["smoke"], PRESETS["quick-all"]
TINY = {"max_images": 40, "training.batch_size": 20, "training.max_epochs": 1, "evaluation.importance_samples": 2}
NEEDS_ZUKO = pytest.mark.skipif(find_spec("zuko") is None, reason="zuko is not installed")
FOREIGN = [
    pytest.param(name, marks=NEEDS_ZUKO if name.startswith("zuko:") else ())
    for name in ALL.posteriors
    if name not in POSTERIORS
]


@NEEDS_ZUKO
def test_the_preset_of_all_adds_rows_of_about_as_many_parameters_as_iaf(tmp_path: Path) -> None:
    runs = plan_grid(ALL, tmp_path)
    assert list(dict.fromkeys(run.settings.posterior for run in runs)) == list(ALL.posteriors)
    assert len(ALL.posteriors) == len(POSTERIORS) + len(FOREIGN) == 10
    assert len(runs) == len(ALL.posteriors) * len(ALL.seeds)
    forecast = GridForecast(runs, workers=2)
    forecast.end(RunOutcome(runs[0], "finished", 30.0))
    assert forecast.seconds_left([]) == 30.0 * (len(runs) // 2)
    sizes = {}
    for name in ("iaf", *(name for name in ALL.posteriors if name not in POSTERIORS)):
        settings = ALL.settings("caltech101-silhouettes", name, 0)
        options = flow_options(name, settings.posterior_options)
        sizes[name] = count_parameters(make_flow(name, settings.latent_dim, settings.network.context_dim, **options))
    assert all(abs(size / sizes["iaf"] - 1) < 0.05 for size in sizes.values()), sizes


@pytest.mark.parametrize("posterior", FOREIGN)
def test_a_run_goes_from_settings_to_report(posterior: str, tmp_path: Path) -> None:
    changes = {**TINY, "training.warmup_epochs": 1, "compute.accelerator": "cpu"}
    (run,) = plan_grid(ALL, tmp_path, posteriors=[posterior], seeds=[0], changes=changes)
    assert run.folder == tmp_path / "caltech101-silhouettes" / posterior.replace(":", "-") / "seed-0"
    assert run.settings.posterior_options
    prepare(run.folder, run.settings)
    assert load_settings(run.folder).posterior == posterior
    execute(run.folder)
    assert (run.folder / METRICS).exists()
    results, files = write_report(tmp_path)
    assert all(file.exists() for file in files)
    (table,) = render_tables(results)
    assert table.rows[0][0].text == posterior
    assert collect_results(tmp_path).records[0]["status"] == "finished"


def test_options_reach_the_flow(tmp_path: Path) -> None:
    (run,) = plan_grid(
        SMOKE, tmp_path, posteriors=["pyro:planar"], changes={**TINY, "posterior_options.hidden_dims": (7,)}
    )
    assert run.settings.posterior_options == {"hidden_dims": (7,)}


def test_names_that_cannot_be_had_are_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'NSF'"):
        plan_grid(SMOKE, tmp_path, posteriors=["none", "zuko:NFS"])
    monkeypatch.setattr("vae_flows.flows.adapters.zuko.find_spec", lambda name: None)
    with pytest.raises(InvalidInputError, match=r"pip install 'vae-flows\[zuko\]'"):
        plan_grid(SMOKE, tmp_path, posteriors=["zuko:NSF"])
    assert list(tmp_path.iterdir()) == []
