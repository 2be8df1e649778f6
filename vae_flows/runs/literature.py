"""Numbers of the literature beside those of runs, and which settings they were had with."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from vae_flows.flows import find_flow
from vae_flows.persistence.records import differences
from vae_flows.reporting.summaries import Reference
from vae_flows.runs.groups import NOT_COMPARED, RunGroup
from vae_flows.runs.settings import RunSettings

__all__ = ["Literature", "deviation_notes", "literature_notes"]


class SettingsSource(Protocol):
    """What knows the settings of runs, such as a preset."""

    def settings(self, data: str, posterior: str, seed: int) -> RunSettings:
        """Return the settings of one run."""
        ...


class Literature(Protocol):
    """Results of the literature on one data set."""

    @property
    def reference(self) -> Reference:
        """The numbers."""
        ...

    @property
    def preset(self) -> SettingsSource:
        """The settings that they were had with."""
        ...


def literature_notes(data: str, literature: Literature, groups: Iterable[RunGroup]) -> list[str]:
    """Say what a reader must know to compare runs on one data set with the numbers of the literature."""
    settings = [group.runs[0].settings for group in groups if group.data == data and group.metrics]
    own = [each for each in settings if isinstance(each, RunSettings)]
    return [*deviation_notes(own, literature), *literature.reference.notes]


def deviation_notes(settings: Sequence[RunSettings], literature: Literature) -> list[str]:
    """Tell each setting of runs that is not the one of the literature, with that in brackets."""
    told = dict.fromkeys(note for own in settings for note in _deviations(own, literature))
    return [f"Settings that differ from the paper's, in brackets: {'; '.join(told)}."] if told else []


def _deviations(settings: RunSettings, literature: Literature) -> list[str]:
    if settings.posterior not in literature.reference.negative_elbo:
        return []
    theirs = literature.preset.settings(settings.data, settings.posterior, settings.seed)
    found = differences(_with_defaults(settings), _with_defaults(theirs))
    return [
        f"{name.replace('posterior_options', settings.posterior)} {_word(ours)} ({_word(theirs)})"
        for name, (ours, theirs) in found.items()
        # An option that is not set has no effect beside the others, as a rank without low-rank updates.
        if (ours is not None if name.startswith("posterior_options.") else not name.startswith(NOT_COMPARED))
    ]


def _with_defaults(settings: RunSettings) -> RunSettings:
    """Name the options of the flow that were left at their defaults, where those are plain values."""
    parameters = inspect.signature(find_flow(settings.posterior)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and isinstance(p.default, str | int)}
    return replace(settings, posterior_options={**defaults, **settings.posterior_options})


def _word(value: Any) -> str:
    if value is None or value == []:
        return "none"
    return "×".join(map(str, value)) if isinstance(value, list) else str(value)
