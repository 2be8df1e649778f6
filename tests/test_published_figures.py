"""Figures that the README and the documentation tell are those of the published results."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def runs_of(name: str) -> list[dict[str, Any]]:
    """Return the runs in a published file, `name` under `experiments/results`."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))["runs"]


def test_toy_densities_by_ffjord_and_like_glow() -> None:
    runs = runs_of("density-glow/density-glow.json")
    flows = {"FFJORD": runs[::2], "like Glow": runs[1::2]}
    ends, parameters = {}, {}
    for name, found in flows.items():
        excess = [run["test"]["excess"] for run in found]
        ends[name] = f"{min(excess):.3f} to {max(excess):.3f}"
        (parameters[name],) = {f"{run['parameters']:,}" for run in found}
    assert (
        f"FFJORD's {parameters['FFJORD']} parameters end {ends['FFJORD']} nats above the true densities, the other's "
        f"{parameters['like Glow']} end {ends['like Glow']} above"
    ) in README
    for ffjord, glow in zip(*flows.values(), strict=True):
        assert ffjord["settings"]["data"] == glow["settings"]["data"]
        assert glow["processor_seconds"] >= ffjord["processor_seconds"]


def test_flows_of_zuko_and_pyro_in_the_quick_comparison() -> None:
    with (RESULTS / "quick-all" / "table.csv").open(encoding="utf-8") as file:
        rows = {row["posterior"]: row for row in csv.DictReader(file)}
    others = "zuko:NSF", "pyro:spline_autoregressive", "zuko:NAF"
    bounds = [f"{float(rows[name]['negative_elbo_mean']):.2f} of `{name}`" for name in others]
    assert f"test −ELBO {', '.join(bounds[:-1])} and {bounds[-1]}" in README
    seconds = {name: float(row["seconds_per_epoch_mean"]) for name, row in rows.items()}
    ratios = [seconds[name] / seconds["iaf"] for name in others]
    assert 2 < min(ratios) < max(ratios) < 5
    assert "at two to five times IAF's time" in README


def test_densities_of_images_at_one_scale_and_at_three() -> None:
    bits = {
        (run["settings"]["data"], run["settings"]["num_scales"]): f"{run['test']['bits_per_dim']:.2f}"
        for run in runs_of("images/images.json")
    }
    frey, omniglot = ((bits[name, 3], bits[name, 1]) for name in ("frey-faces", "omniglot"))
    told = f"three scales reach {frey[0]} bits/dim where one scale reaches {frey[1]}"
    assert f"{told}, on grey OMNIGLOT {omniglot[0]} where one reaches {omniglot[1]}" in README
