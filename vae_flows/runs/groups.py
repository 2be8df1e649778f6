"""Runs of one posterior with the same settings: in a group only seeds differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vae_flows.persistence.records import flatten, to_plain
from vae_flows.runs.folder import data_name
from vae_flows.runs.run import Run, RunMetrics

__all__ = ["NOT_COMPARED", "RunGroup", "group_runs"]

_PLACE = ("compute.accelerator", "compute.devices", "compute.strategy")
NOT_COMPARED = ("posterior", "data", "training.seed", "split_seed", "data_path", *_PLACE, "evaluation.")
"""Settings that say what is compared, or where and how often it took place; the precision of a training is none."""

Settings = Mapping[str, Any]


class RunGroup:
    """Runs that differ in their seeds alone, with a label that sets them apart from others on the same data."""

    def __init__(self, data: str, label: str, runs: Sequence[Run]) -> None:
        self.data, self.label, self.runs = data, label, runs
        self.metrics: list[RunMetrics] = [metrics for run in runs if (metrics := run.metrics) is not None]


def group_runs(runs: Sequence[Run]) -> list[RunGroup]:
    """Group runs by their settings, and name each group by what sets it apart from others of its posterior."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    settings: dict[tuple[str, str, str], Settings] = {}
    for run in runs:
        own = run.settings
        kept = {name: value for name, value in flatten(to_plain(own)) if not name.startswith(NOT_COMPARED)}
        kept |= {f"posterior_options.{name}": value for name, value in flatten(to_plain(own.posterior_options))}
        key = (data_name(own), own.posterior, repr(sorted(kept.items())))
        groups.setdefault(key, []).append(run)
        settings[key] = kept
    rows = []
    for key, members in groups.items():
        data, posterior, _ = key
        others = [settings[other] for other in groups if other[:2] == key[:2]]
        apart = [name for name in settings[key] if any(other.get(name) != settings[key][name] for other in others)]
        told = ", ".join(f"{name.rpartition('.')[2]} {settings[key][name]}" for name in apart)
        rows.append(RunGroup(data, f"{posterior} ({told})" if told else posterior, members))
    return rows
