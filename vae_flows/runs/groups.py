"""Runs of one posterior with the same settings: in a group only seeds differ."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vae_flows.data.load import LOADERS
from vae_flows.errors import DataError
from vae_flows.persistence.records import flatten, to_plain
from vae_flows.runs.folder import SCORES, data_name
from vae_flows.runs.run import Run, RunMetrics
from vae_flows.runs.scores import read_scores
from vae_flows.runs.settings import RunSettings
from vae_flows.training.told import TrainingDescription

__all__ = ["NOT_COMPARED", "RunGroup", "group_runs"]

_PLACE = ("compute.accelerator", "compute.devices", "compute.strategy")
NOT_COMPARED = ("posterior", "data", "training.seed", "split_seed", "data_path", *_PLACE, "evaluation.")
"""Settings that say what is compared, or where and how often it took place; the precision of a training is none."""

Settings = Mapping[str, Any]


class RunGroup:
    """Runs that differ in their seeds alone, with a label that sets them apart from others on the same data.

    Data of one's own are told by their path where others have the same name.
    """

    def __init__(self, data: str, label: str, runs: Sequence[Run]) -> None:
        self.data, self.label, self.runs = data, label, runs
        self.metrics: list[RunMetrics] = [metrics for run in runs if (metrics := run.metrics) is not None]


def group_runs(runs: Sequence[Run]) -> list[RunGroup]:
    """Group runs by their settings, and name each group by what sets it apart from others of its posterior."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    settings: dict[tuple[str, str, str], Settings] = {}
    names = _names_of_data(runs)
    for run, name in zip(runs, names, strict=True):
        own = run.settings
        kept = {name: value for name, value in flatten(to_plain(own)) if not name.startswith(NOT_COMPARED)}
        kept |= {f"posterior_options.{name}": value for name, value in flatten(to_plain(own.posterior_options))}
        key = (name, own.posterior, repr(sorted(kept.items())))
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


def _names_of_data(runs: Sequence[Run]) -> list[str]:
    """Return the name of the data of each run: a path where data of one name differ.

    They are the same where their path is, or where runs were tested on the same examples.
    """
    owners: dict[str, str] = {}  # by path and by digest, the path by which data are told
    told: list[str] = []
    for run in runs:
        marks = [_path_of(run.settings), *_digest_of_test(run)]
        owner = next((owners[mark] for mark in marks if mark in owners), marks[0])
        owners |= {mark: owners.get(mark, owner) for mark in marks}
        told.append(owner)
    by_name: dict[str, set[str]] = {}
    for run, owner in zip(runs, told, strict=True):
        by_name.setdefault(data_name(run.settings), set()).add(owner)
    return [
        data_name(run.settings) if len(by_name[data_name(run.settings)]) == 1 else owner
        for run, owner in zip(runs, told, strict=True)
    ]


def _path_of(settings: RunSettings | TrainingDescription) -> str:
    """Return what tells data apart: the name of a data set, or where the file or folder lies."""
    own = settings.data
    return own if isinstance(settings, TrainingDescription) or own in LOADERS else str(Path(own).absolute())


def _digest_of_test(run: Run) -> list[str]:
    path = run.folder / SCORES
    if run.status != "finished" or not path.exists():
        return []
    try:
        return [hashlib.blake2b(read_scores(path).images.tobytes(), digest_size=16).hexdigest()]
    except DataError:  # which is told where scores are compared
        return []
