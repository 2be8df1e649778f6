"""What figures of runs are made of: records, models, details of diagnostics and data, each read once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, cast

from vae_flows.checks import check_argument
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.reporting.summaries import RunResult
from vae_flows.runs.diagnosis import Details, read_details
from vae_flows.runs.folder import data_name
from vae_flows.runs.groups import RunGroup, group_runs
from vae_flows.runs.run import Run

if TYPE_CHECKING:
    from vae_flows.data import DataSet
    from vae_flows.vae import VAE

__all__ = ["RunSource", "checked_runs"]


def checked_runs(runs: object) -> tuple[Run, ...]:
    """Return runs as a tuple, or raise `InvalidInputError` where some are none."""
    # By hand: annotations of what returns a figure name a class of matplotlib's, which may be missing.
    check_argument("runs of figures", runs, Iterable[Run])
    found = tuple(cast(Iterable[Run], runs))
    check_argument("runs of figures", found, tuple[Run, ...])
    return found


class RunSource:
    """What figures are made of, read once: records, and models of those that finished.

    Arguments:
        runs: Runs on one data set.

    Raises:
        InvalidInputError: There are none, or they are on several data sets.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs = checked_runs(runs)
        names = dict.fromkeys(data_name(run.settings) for run in self.runs)
        if len(names) != 1:
            got = ", ".join(names) or "none"
            remedy = "draw_figures takes runs on several." if names else ""
            raise InvalidInputError(complaint("runs of a figure", "runs on one data set", got, remedy))
        (self.data_name,) = names

    @cached_property
    def groups(self) -> Sequence[RunGroup]:
        """The runs by posterior, and by settings that differ: in a group only seeds do."""
        return group_runs(self.runs)

    @cached_property
    def records(self) -> tuple[RunResult, ...]:
        """The numbers of all runs, in the unit of the finished ones, named as their groups are."""
        metrics = next((metrics for run in self.runs if (metrics := run.metrics) is not None), None)
        found = []
        for group in self.groups:
            for run in group.runs:
                record = replace(run.to_record(), posterior=group.label)
                if record.status != "finished" and metrics is not None:
                    curve = tuple(map(metrics.in_unit, record.curve))
                    record = replace(record, unit=metrics.unit, curve=curve)
                found.append(record)
        return tuple(found)

    @cached_property
    def models(self) -> Mapping[str, VAE]:
        """The model of the first finished run of each group, by the group's name."""
        return {label: run.load_model() for label, run in self._finished.items()}

    @cached_property
    def details(self) -> Mapping[str, Details]:
        """What diagnostics left for pictures, of the first diagnosed run of each group, by the group's name."""
        found: dict[str, Details] = {}
        for group in self.groups:
            for run in group.runs:
                if run.diagnostics is not None:
                    found.setdefault(group.label, read_details(run.folder))
        return found

    @cached_property
    def best(self) -> str | None:
        """The name of that model among them with the lowest test −ELBO, `None` where no run is finished."""
        bounds = {
            label: metrics.test.negative_elbo for label, run in self._finished.items() if (metrics := run.metrics)
        }
        return min(bounds, key=lambda label: bounds[label], default=None)

    @cached_property
    def data(self) -> DataSet | None:
        """The data set, `None` where no run is finished."""
        first = next(iter(self._finished.values()), None)
        return None if first is None else first.load_data()

    @cached_property
    def images(self) -> DataSet | None:
        """The data set if it is of images, or else `None`."""
        return self.data if self.data is not None and self.data.pixels is not None else None

    @cached_property
    def _finished(self) -> Mapping[str, Run]:
        found: dict[str, Run] = {}
        for group in self.groups:
            for run in group.runs:
                if run.status == "finished":
                    found.setdefault(group.label, run)
        return found
