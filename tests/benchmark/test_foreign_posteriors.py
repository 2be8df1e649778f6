"""Flows of Pyro and zuko are rows of the benchmark by name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from vae_flows.benchmark.grid import plan_grid
from vae_flows.benchmark.presets import PRESETS
from vae_flows.benchmark.report import collect_results, render_tables, write_report
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import METRICS, load_settings, prepare

SMOKE = PRESETS["smoke"]
TINY = {"max_images": 40, "training.batch_size": 20, "training.max_epochs": 1, "evaluation.importance_samples": 2}
ZUKO = pytest.param("zuko:NSF", marks=pytest.mark.skipif(find_spec("zuko") is None, reason="zuko is not installed"))


@pytest.mark.parametrize("posterior", ["pyro:spline_autoregressive", ZUKO])
def test_a_run_goes_from_settings_to_report(posterior: str, tmp_path: Path) -> None:
    (run,) = plan_grid(SMOKE, tmp_path, posteriors=[posterior], changes={**TINY, "compute.accelerator": "cpu"})
    assert run.folder == tmp_path / "caltech101-silhouettes" / posterior.replace(":", "-") / "seed-0"
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
