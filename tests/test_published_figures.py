"""Figures that the README and the documentation tell are those of the published results."""

from __future__ import annotations

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
