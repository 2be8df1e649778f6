"""The grid runs what is not finished, goes on after failures, and leaves nothing running."""

import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from vae_flows.benchmark import grid
from vae_flows.benchmark.engine import RunExit
from vae_flows.benchmark.grid import GridRun, RunOutcome, plan_grid, run_grid
from vae_flows.benchmark.presets import PRESETS
from vae_flows.errors import FileError, InvalidInputError, UnknownNameError
from vae_flows.persistence.files import exclusive
from vae_flows.persistence.json_files import read_json, write_json
from vae_flows.runs.folder import FAILURE, SETTINGS, load_settings

SMOKE = PRESETS["smoke"]
SECONDS = 60.0  # for a thread to come up or leave on a busy machine


class StubHandle:
    """A run that ends at its second poll."""

    def __init__(self, folder: Path, end: Callable[[Path], RunExit]) -> None:
        self.folder, self.end, self.polls, self.stopped = folder, end, 0, False
        self.begun = True

    def poll(self) -> RunExit | None:
        self.polls += 1
        return self.end(self.folder) if self.polls > 1 else None

    def stop(self) -> None:
        self.stopped = True


class StubRunner:
    """Runs nothing; remembers what was started, and how many runs were under way at most."""

    def __init__(self, end: Callable[[Path], RunExit], workers: int = 2) -> None:
        self.end, self.workers = end, workers
        self.handles: list[StubHandle] = []

    def start(self, folder: Path) -> StubHandle:
        self.handles.append(StubHandle(folder, self.end))
        return self.handles[-1]

    @property
    def started(self) -> list[str]:
        return [handle.folder.parent.name for handle in self.handles]


class RecordingMonitor:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.outcomes: list[RunOutcome] = []
        self.begun: list[GridRun] = []
        self.met: list[GridRun] = []
        self.most_at_once = 0

    def started(self, run: GridRun) -> None:
        self.begun.append(run)

    def ended(self, outcome: RunOutcome) -> None:
        self.outcomes.append(outcome)

    def elsewhere(self, run: GridRun) -> None:
        self.met.append(run)

    def running(self, runs: Sequence[GridRun]) -> None:
        self.most_at_once = max(self.most_at_once, len(runs))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(grid, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(grid, "LOOK_SECONDS", 0.0)


def make_runs(root: Path, *posteriors: str) -> tuple[GridRun, ...]:
    return plan_grid(SMOKE, root, posteriors=posteriors)


def test_a_plan_is_posteriors_by_data_by_seeds(tmp_path):
    runs = plan_grid(SMOKE, tmp_path, posteriors=["none", "iaf"], data=["omniglot", "frey-faces"], seeds=[0, 3])
    assert [str(run.folder.relative_to(tmp_path)) for run in runs] == [
        "omniglot/none/seed-0",
        "omniglot/none/seed-3",
        "omniglot/iaf/seed-0",
        "omniglot/iaf/seed-3",
        "frey-faces/none/seed-0",
        "frey-faces/none/seed-3",
        "frey-faces/iaf/seed-0",
        "frey-faces/iaf/seed-3",
    ]
    assert runs[1].settings.training.seed == 3
    assert runs[1].label == "omniglot none seed 3"


def test_a_plan_takes_overrides_and_drops_repeats(tmp_path):
    (run,) = plan_grid(SMOKE, tmp_path, posteriors=["none", "none"], changes={"training.max_epochs": 9})
    assert run.settings == replace(run.settings, training=replace(SMOKE.training, max_epochs=9))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"posteriors": ["plannar"]}, "flow: .*got 'plannar'. Did you mean 'planar'"),
        ({"data": ["omniglott"]}, "data set: .*got 'omniglott'. Did you mean 'omniglot"),
    ],
)
def test_unknown_names_are_refused_before_anything_is_written(tmp_path, names, message):
    with pytest.raises(UnknownNameError, match=message):
        plan_grid(SMOKE, tmp_path, **names)
    assert list(tmp_path.iterdir()) == []


def test_finished_runs_are_skipped_and_the_others_run(tmp_path, finish):
    runs = make_runs(tmp_path, "none", "planar", "iaf")
    finish(runs[1])
    by_folder = {run.folder: run for run in runs}

    def end(folder: Path) -> RunExit:
        finish(by_folder[folder])
        return RunExit()

    runner, monitor = StubRunner(end), RecordingMonitor()
    outcomes = run_grid(runs, runner, monitor)
    assert {outcome.run.settings.posterior: outcome.status for outcome in outcomes} == {
        "none": "finished",
        "planar": "skipped",
        "iaf": "finished",
    }
    assert runner.started == ["none", "iaf"]
    assert tuple(monitor.outcomes) == outcomes
    again = StubRunner(end)
    assert {outcome.status for outcome in run_grid(runs, again, RecordingMonitor())} == {"skipped"}
    assert again.handles == []


def test_no_more_runs_are_under_way_than_the_runner_takes(tmp_path, finish):
    runs = make_runs(tmp_path)
    by_folder = {run.folder: run for run in runs}

    def end(folder: Path) -> RunExit:
        finish(by_folder[folder])
        return RunExit()

    monitor = RecordingMonitor()
    assert len(run_grid(runs, StubRunner(end, workers=3), monitor)) == 7
    assert monitor.most_at_once == 3


def test_a_run_that_waits_for_a_place_is_told_of_when_it_begins(tmp_path, finish):
    """An engine takes more than it has places for: those that wait are not shown as running."""
    runs = make_runs(tmp_path, "none", "planar")
    runner, monitor = StubRunner(lambda _: RunExit("stopped")), RecordingMonitor()
    real = runner.start

    def start(folder: Path) -> StubHandle:
        handle = real(folder)
        handle.begun = folder != runs[1].folder
        return handle

    runner.start = start
    outcomes = run_grid(runs, runner, monitor)
    assert monitor.most_at_once == 1
    assert monitor.begun == list(runs)  # the second ended without having been seen to run
    assert all(outcome.seconds is not None and outcome.seconds < 60 for outcome in outcomes)


class Other:
    """Another process that works on a run: a thread that holds its folder."""

    def __init__(self, folder: Path) -> None:
        self._held, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, args=(folder,), daemon=True)
        self._thread.start()
        assert self._held.wait(SECONDS)

    def _hold(self, folder: Path) -> None:
        with exclusive(folder):
            self._held.set()
            self._leave.wait(SECONDS)

    def leave(self) -> None:
        self._leave.set()
        self._thread.join()


@pytest.mark.parametrize("finishes", [True, False])
def test_a_run_that_another_process_works_on_is_waited_for_while_others_run(tmp_path, finish, finishes):
    runs = make_runs(tmp_path, "none", "planar", "iaf")
    by_folder = {run.folder: run for run in runs}
    other = Other(runs[0].folder)
    working = True

    def end(folder: Path) -> RunExit:
        if folder == runs[0].folder and working:
            return RunExit(in_use=True)
        finish(by_folder[folder])
        return RunExit()

    class Monitor(RecordingMonitor):
        def running(self, runs: Sequence[GridRun]) -> None:
            nonlocal working
            if working and len(self.outcomes) == 2:  # its place was free for the others
                if finishes:
                    finish(by_folder[waited.folder])
                other.leave()
                working = False

    waited = runs[0]
    runner, monitor = StubRunner(end, workers=1), Monitor()
    outcomes = run_grid(runs, runner, monitor)
    assert monitor.met == [waited]
    assert [outcome.run for outcome in outcomes] == [*runs[1:], waited]
    assert {outcome.status for outcome in outcomes} == {"finished"}
    # It is not started while the other process works, and never where that one finished it.
    assert runner.started == ["none", "planar", "iaf", *([] if finishes else ["none"])]
    assert (outcomes[-1].seconds is None) == finishes
    assert not any((run.folder / FAILURE).exists() for run in runs)


def test_an_interrupt_ends_the_waiting_for_another_process(tmp_path):
    class Interrupting(RecordingMonitor):
        def running(self, runs: Sequence[GridRun]) -> None:
            if self.met:
                raise KeyboardInterrupt

    (run,) = make_runs(tmp_path, "none")
    other = Other(run.folder)
    with pytest.raises(KeyboardInterrupt):
        run_grid([run], StubRunner(lambda _: RunExit(in_use=True)), Interrupting())
    other.leave()
    assert not (run.folder / FAILURE).exists()


def test_a_run_that_another_process_finished_is_finished(tmp_path, finish):
    (run,) = make_runs(tmp_path, "none")

    def end(_folder: Path) -> RunExit:
        finish(run)
        return RunExit("ended by signal SIGKILL")

    (outcome,) = run_grid([run], StubRunner(end), RecordingMonitor())
    assert outcome.status == "finished"
    assert not (run.folder / FAILURE).exists()


def test_a_run_that_cannot_be_started_does_not_stop_the_others(tmp_path, finish):
    runs = make_runs(tmp_path, "none", "planar")

    def end(_folder: Path) -> RunExit:
        finish(runs[1])
        return RunExit()

    class Runner(StubRunner):
        def start(self, folder: Path) -> StubHandle:
            if folder == runs[0].folder:
                raise FileError("log.txt: no room")
            return super().start(folder)

    outcomes = run_grid(runs, Runner(end), RecordingMonitor())
    assert [outcome.status for outcome in outcomes] == ["failed", "finished"]
    assert outcomes[0].error == "could not be started: log.txt: no room"


def test_a_failed_run_is_told_of_and_does_not_stop_the_others(tmp_path, finish):
    runs = make_runs(tmp_path, "none", "planar")
    by_folder = {run.folder: run for run in runs}

    def end(folder: Path) -> RunExit:
        if "none" in folder.parts:
            return RunExit("ended with status 1\nerror: no memory")
        finish(by_folder[folder])
        return RunExit()

    outcomes = run_grid(runs, StubRunner(end, workers=1), RecordingMonitor())
    assert [outcome.status for outcome in outcomes] == ["failed", "finished"]
    assert outcomes[0].error == "ended with status 1\nerror: no memory"
    assert "no memory" in read_json(runs[0].folder / FAILURE)["error"]


def test_a_run_that_leaves_no_metrics_has_failed(tmp_path):
    (outcome,) = run_grid(make_runs(tmp_path, "none"), StubRunner(lambda _: RunExit()), RecordingMonitor())
    assert (outcome.status, outcome.error) == ("failed", "ended well but left no metrics.json")


def test_other_settings_in_a_folder_are_refused_before_anything_starts(tmp_path, finish):
    runs = make_runs(tmp_path, "none", "planar")
    run_grid(runs[1:], StubRunner(lambda _: RunExit("stopped")), RecordingMonitor())
    changed = plan_grid(SMOKE, tmp_path, posteriors=["none", "planar"], changes={"latent_dim": 7})
    runner = StubRunner(lambda _: RunExit())
    with pytest.raises(InvalidInputError, match=r"planar/seed-0: .*latent_dim = 4 \(asked for: 7\).*--folder"):
        run_grid(changed, runner, RecordingMonitor())
    assert runner.handles == []
    assert load_settings(runs[1].folder) == runs[1].settings


def test_damaged_settings_are_not_written_over(tmp_path):
    (run,) = make_runs(tmp_path, "none")
    write_json(run.folder / SETTINGS, {"data": "omniglot", "surprise": 1})
    with pytest.raises(InvalidInputError, match="got surprise"):
        run_grid([run], StubRunner(lambda _: RunExit()), RecordingMonitor())
    assert read_json(run.folder / SETTINGS)["surprise"] == 1


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_whatever_ends_the_grid_ends_its_runs(tmp_path, interruption):
    class Interrupting(RecordingMonitor):
        def running(self, runs: Sequence[GridRun]) -> None:
            raise interruption

    runner = StubRunner(lambda _: RunExit())
    with pytest.raises(interruption):
        run_grid(make_runs(tmp_path, "none", "planar", "iaf"), runner, Interrupting())
    assert [handle.stopped for handle in runner.handles] == [True, True]


@pytest.mark.parametrize("trouble", ["further interrupts", "one that cannot be stopped"])
def test_all_runs_are_stopped_even_when(tmp_path, monkeypatch, trouble):
    """With fewer threads than runs, so that most of them are still to be stopped when the trouble comes."""
    monkeypatch.setattr(grid, "STOPS_AT_ONCE", 2)
    interrupts = trouble == "further interrupts"

    class Slow(StubHandle):
        def stop(self) -> None:
            if interrupts and not any(handle.stopped for handle in runner.handles):
                signal.raise_signal(signal.SIGINT)
            time.sleep(0.02)
            self.stopped = True
            if not interrupts and self is runner.handles[0]:
                raise OSError("no scancel")

    class Runner(StubRunner):
        def start(self, folder: Path) -> StubHandle:
            self.handles.append(Slow(folder, self.end))
            return self.handles[-1]

    class Interrupting(RecordingMonitor):
        def running(self, runs: Sequence[GridRun]) -> None:
            raise SystemExit

    runs = plan_grid(SMOKE, tmp_path, posteriors=["none"], seeds=range(12))
    runner = Runner(lambda _: RunExit(), workers=len(runs))
    with pytest.raises(KeyboardInterrupt if interrupts else OSError):
        run_grid(runs, runner, Interrupting())
    assert [handle.stopped for handle in runner.handles] == [True] * len(runs)


def test_data_of_ones_own_are_given_by_path(tmp_path):
    (tmp_path / "mine.npz").touch()
    (run,) = plan_grid(SMOKE, tmp_path / "grid", posteriors=["none"], data=[str(tmp_path / "mine.npz")])
    assert run.folder == tmp_path / "grid" / "mine" / "none" / "seed-0"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.csv").touch()
    paths = [str(tmp_path / "mine.npz"), str(tmp_path / "other" / "mine.csv")]
    with pytest.raises(InvalidInputError, match="a name of its own"):
        plan_grid(SMOKE, tmp_path / "grid", data=paths)
    with pytest.raises(UnknownNameError, match="Did you mean 'caltech101-silhouettes'"):
        plan_grid(SMOKE, tmp_path / "grid", data=["caltech"])
