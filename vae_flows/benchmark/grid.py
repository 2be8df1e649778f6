"""The grid: plan its runs, run those that are not finished, and go on when one fails."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vae_flows.benchmark.engine import Engine, RunExit, RunHandle
from vae_flows.benchmark.presets import Preset
from vae_flows.checks import checked
from vae_flows.data import available_data_sets
from vae_flows.errors import FileError, FolderInUseError, InvalidInputError, UnknownNameError, complaint, did_you_mean
from vae_flows.flows import find_flow
from vae_flows.persistence.files import exclusive
from vae_flows.persistence.json_files import write_json
from vae_flows.runs.build import build_data
from vae_flows.runs.folder import FAILURE, METRICS, folder_of, name_of_data, prepare
from vae_flows.runs.scores import digests_of, require_tested
from vae_flows.runs.settings import RunSettings, with_changes

__all__ = ["GridMonitor", "GridRun", "RunOutcome", "grid_settings", "plan_grid", "run_grid"]

POLL_SECONDS = 0.2
STOPS_AT_ONCE = 64
LOOK_SECONDS = 5.0
"""Pause between two looks at a run that another process works on."""


@checked
@dataclass(frozen=True, eq=False)
class GridRun:
    """One run of the grid and its folder."""

    folder: Path
    settings: RunSettings

    @property
    def label(self) -> str:
        """Data set, posterior and seed, for people."""
        return f"{self.settings.data} {self.settings.posterior} seed {self.settings.seed}"


@dataclass(frozen=True)
class RunOutcome:
    """What became of a run in this pass over the grid.

    Arguments:
        run: The run.
        status: Finished in this pass, by whichever process; skipped, as finished before; or failed.
        seconds: How long it was under way here; `None` where it was not.
        error: What went wrong.
    """

    run: GridRun
    status: Literal["finished", "skipped", "failed"]
    seconds: float | None = None
    error: str | None = None


@dataclass
class _UnderWay:
    """A run that an engine has, and when it was seen to have begun."""

    handle: RunHandle
    start: float | None = None


class GridMonitor(Protocol):
    """What is told of a grid's progress."""

    def started(self, run: GridRun) -> None:
        """A run has begun."""
        ...

    def ended(self, outcome: RunOutcome) -> None:
        """A run finished, failed, or was skipped because it is finished."""
        ...

    def elsewhere(self, run: GridRun) -> None:
        """A run waits, because another process works on it."""
        ...

    def running(self, runs: Sequence[GridRun]) -> None:
        """These runs run; told again and again."""
        ...


@checked
def plan_grid(
    source: Preset | Sequence[RunSettings],
    root: Path,
    *,
    posteriors: Sequence[str] = (),
    data: Sequence[str] = (),
    seeds: Sequence[int] = (),
    changes: Mapping[str, Any] | None = None,
    flow_options: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[GridRun, ...]:
    """Return the runs of a grid, those of one data set together, the seeds of one posterior together.

    Arguments:
        source: Where settings come from: a preset, or settings of runs.
        root: Folder of the grid.
        posteriors: Instead of the source's.
        data: Instead of the source's: names, or paths of files and folders.
        seeds: Instead of the source's.
        changes: Settings to change in every run, by dotted name.
        flow_options: Options to change by posterior, by dotted name.

    Raises:
        UnknownNameError: A posterior, a data set or a setting is not known.
        InvalidInputError: A posterior's flow is in a package that is not installed.

    Example:
        >>> from vae_flows.benchmark.presets import PRESETS
        >>> (run,) = plan_grid(PRESETS["smoke"], Path("runs"), posteriors=["planar"], changes={"latent_dim": 3})
        >>> run.label, run.settings.latent_dim
        ('caltech101-silhouettes planar seed 0', 3)
    """
    runs: dict[Path, GridRun] = {}
    for settings in grid_settings(source, posteriors=posteriors, data=data, seeds=seeds):
        changed = with_changes(settings, changes or {}, flow_options)
        run = GridRun(folder_of(root, changed), changed)
        if runs.setdefault(run.folder, run).settings != changed:
            expected, remedy = "one run for each data set, posterior and seed", "Compare them in folders of their own."
            raise InvalidInputError(complaint(f"settings for {run.label}", expected, "two that differ", remedy))
    return tuple(runs.values())


@checked
def grid_settings(
    source: Preset | Sequence[RunSettings],
    *,
    posteriors: Sequence[str] = (),
    data: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> tuple[RunSettings, ...]:
    """Return the settings of each run of a grid before any changes; the arguments are those of `plan_grid`."""
    if isinstance(source, Preset):
        chosen = (data or source.data, posteriors or source.posteriors, seeds or source.seeds)
        runs = [source.settings(*names) for names in itertools.product(*chosen)]
    else:
        axes = {"data": data, "posterior": posteriors, "training.seed": seeds}
        given = {name: values for name, values in axes.items() if values}
        runs = [
            with_changes(settings, dict(zip(given, values, strict=True)))
            for settings in source
            for values in itertools.product(*given.values())
        ]
    _check_data([settings.data for settings in runs])
    for posterior in dict.fromkeys(settings.posterior for settings in runs):
        find_flow(posterior)
    return tuple(runs)


def _check_data(names: Sequence[str]) -> None:
    """Check that data sets are there, and that their runs get folders of their own."""
    for name in names:
        if name not in available_data_sets() and not Path(name).exists():
            known = available_data_sets()
            expected = f"the path of a file or a folder, or one of {', '.join(known)}"
            raise UnknownNameError(complaint("data set", expected, repr(name), did_you_mean(name, known)))
    owners = {name_of_data(name): name for name in reversed(names)}
    for name in names:
        if (other := owners[name_of_data(name)]) != name:
            expected, remedy = "a name of its own", "Rename one: folders and tables are named after them."
            raise InvalidInputError(complaint(f"data set {name!r}", expected, f"that of {other!r}", remedy))


@checked
def run_grid(runs: Sequence[GridRun], runner: Engine, monitor: GridMonitor) -> tuple[RunOutcome, ...]:
    """Run the runs that are not finished, as many at once as the runner takes.

    A run that another process works on is waited for while others run: it counts as finished when that process
    finishes it, and is taken over from its last checkpoint when that process ends without.

    Whatever ends this function, an interrupt too, ends the runs under way; a later call takes their checkpoints up.

    Raises:
        InvalidInputError: A run's folder holds a run with other settings. Nothing was started then.
        DataError: A run is finished, but its data, a file or folder, have changed since; likewise.
        FileError: A run's folder cannot be made or written to; likewise.
    """
    for run in runs:
        prepare(run.folder, run.settings)
    _check_finished(runs)
    outcomes: list[RunOutcome] = []
    waiting = deque(runs)
    under_way: dict[GridRun, _UnderWay] = {}
    elsewhere: dict[GridRun, float] = {}  # and when to look at them again
    told: set[GridRun] = set()  # of that

    def end(outcome: RunOutcome) -> None:
        outcomes.append(outcome)
        monitor.ended(outcome)

    def wait_for(run: GridRun) -> None:
        elsewhere[run] = time.monotonic() + LOOK_SECONDS
        if run not in told:
            told.add(run)
            monitor.elsewhere(run)

    try:
        while waiting or under_way or elsewhere:
            for run in _take_left(elsewhere):
                if (run.folder / METRICS).exists():
                    end(RunOutcome(run, "finished"))
                else:
                    waiting.append(run)
            while waiting and len(under_way) < runner.workers:
                run = waiting.popleft()
                if (run.folder / METRICS).exists():
                    end(RunOutcome(run, "skipped"))
                    continue
                try:
                    handle = runner.start(run.folder)
                except FolderInUseError:
                    wait_for(run)
                    continue
                except FileError as error:
                    end(_conclude(run, RunExit(f"could not be started: {error}"), 0.0))
                    continue
                under_way[run] = _UnderWay(handle)
            for run, job in list(under_way.items()):
                exited = job.handle.poll()
                if job.start is None and (job.handle.begun or exited is not None):
                    job.start = time.monotonic()
                    monitor.started(run)
                if exited is not None:
                    del under_way[run]
                    if exited.in_use and not (run.folder / METRICS).exists():
                        wait_for(run)
                        continue
                    end(_conclude(run, exited, time.monotonic() - (job.start or 0.0)))
            monitor.running([run for run, job in under_way.items() if job.start is not None])
            if under_way or elsewhere:
                time.sleep(POLL_SECONDS)
    finally:
        _stop_all([job.handle for job in under_way.values()])
    return tuple(outcomes)


def _check_finished(runs: Sequence[GridRun]) -> None:
    """Check that files and folders are still what finished runs were tested on; other data do not change."""
    found: dict[tuple[object, ...], NDArray[np.int64]] = {}
    known = set(available_data_sets())
    for run in runs:
        own = run.settings
        if own.data in known or not (run.folder / METRICS).exists():
            continue
        key = (own.data, own.data_path, own.pixels, own.split_seed, own.max_images, own.standardize, own.label_column)
        if key not in found:
            found[key] = digests_of(build_data(own).test)
        require_tested(found[key], run.folder, own.data)


def _stop_all(handles: Sequence[RunHandle]) -> None:
    """Stop runs all at once, each of them even when one cannot be stopped or the user grows impatient."""
    if not handles:
        return
    interrupted: BaseException | None = None
    left, stops = deque(handles), list[Future[None]]()
    with ThreadPoolExecutor(min(len(handles), STOPS_AT_ONCE)) as pool:
        while left or not all(stop.done() for stop in stops):
            try:
                while left:
                    stops.append(pool.submit(left[0].stop))
                    left.popleft()
                wait(stops)
            except BaseException as error:  # a further interrupt, which is raised when all are stopped
                interrupted = error
    if interrupted is not None:
        raise interrupted
    for stop in stops:
        stop.result()


def _take_left(elsewhere: dict[GridRun, float]) -> list[GridRun]:
    """Take out the runs that other processes have finished or left, of those that are to be looked at now."""
    left = []
    for run in [run for run, due in elsewhere.items() if time.monotonic() >= due]:
        if (run.folder / METRICS).exists() or _is_free(run.folder):
            del elsewhere[run]
            left.append(run)
        else:
            elsewhere[run] = time.monotonic() + LOOK_SECONDS
    return left


def _is_free(folder: Path) -> bool:
    """Tell whether no process works in a folder."""
    try:
        with exclusive(folder):
            return True
    except FolderInUseError:
        return False
    except FileError:  # of which its start will tell
        return True


def _conclude(run: GridRun, exited: RunExit, seconds: float) -> RunOutcome:
    """Tell what became of a run; a run that has its results is finished, whichever process made them."""
    if (run.folder / METRICS).exists():
        return RunOutcome(run, "finished", seconds)
    error = exited.error or f"ended well but left no {METRICS}"
    try:
        write_json(run.folder / FAILURE, {"error": error})
    except FileError as also:
        error = f"{error}\n{also}"
    return RunOutcome(run, "failed", seconds, error)
