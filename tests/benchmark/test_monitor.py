"""Progress is told in lines, or live in a terminal, with the time left."""

import io
import os
import sys
import time

import pytest
from rich.console import Console

from vae_flows.benchmark.forecast import EpochGlance, GridForecast, glance
from vae_flows.benchmark.grid import RunOutcome, plan_grid
from vae_flows.benchmark.monitor import LINE_SECONDS, LinesMonitor, LiveMonitor, describe_standing, open_monitor
from vae_flows.benchmark.presets import PRESETS
from vae_flows.runs.folder import EPOCHS

HEADER = "epoch,beta,validation_negative_elbo,evaluations_per_solve,seconds\n"


@pytest.fixture
def runs(tmp_path):
    found = plan_grid(PRESETS["smoke"], tmp_path, posteriors=["none", "planar"], seeds=[0, 1, 2])
    for run in found:
        run.folder.mkdir(parents=True)
    return found


@pytest.fixture
def run(runs):
    return runs[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        (HEADER, None),
        (HEADER + "1,0.1,150.5,,3.0\n2,0.2,160.25,,5.0\n", (2, 160.25, 150.5, 4.0)),
        (HEADER + "1,0.1,150.5,,3.0\n2,0.", (1, 150.5, 150.5, 3.0)),
        (HEADER + "1,0.1,150.5,,\n", (1, 150.5, 150.5, None)),
        (HEADER + "1,0.1,nan,,2.0\n2,0.1,150.5,,2.0\n", (2, 150.5, 150.5, 2.0)),
        ("something else\n1\n", None),
    ],
)
def test_a_glance_reads_the_lines_that_are_whole(run, text, expected):
    (run.folder / EPOCHS).write_text(text)
    found = glance(run.folder)
    told = None if found is None else (found.epochs, found.negative_elbo, found.lowest, found.seconds_per_epoch)
    assert told == expected


def test_a_glance_tells_how_old_the_log_is(run):
    (run.folder / EPOCHS).write_text(HEADER + "1,0.1,150.5,,3.0\n")
    os.utime(run.folder / EPOCHS, (time.time() - 100,) * 2)
    found = glance(run.folder)
    assert found is not None
    assert 100 <= found.age < 160


@pytest.mark.parametrize("workers", [6, 100, sys.maxsize])
def test_a_cluster_that_takes_all_runs_at_once_tells_the_time_left(runs, workers):
    forecast = GridForecast(runs, workers)
    forecast.end(RunOutcome(runs[0], "finished", 5.0))
    running = [(run, EpochGlance(1, 150.0, 150.0, 3.0)) for run in runs[1:3]]
    assert forecast.seconds_left(running) == 5.0  # three wait, and take as long as the one that ended


def test_a_glance_at_a_folder_without_a_log(tmp_path):
    assert glance(tmp_path) is None


def test_nothing_tells_the_time_left_at_first(runs):
    forecast = GridForecast(runs, 2)
    assert forecast.seconds_left([]) is None
    assert forecast.seconds_left([(runs[0], None)]) is None


def test_the_time_left_of_a_run_is_that_of_its_epochs(run):
    forecast = GridForecast([run], 1)
    epochs = run.settings.training.max_epochs
    assert epochs == 2
    assert forecast.seconds_of(run, EpochGlance(1, 9.0, 9.0, 10.0, age=4.0)) == 6.0
    # An epoch that takes longer than those before it is about to end.
    assert forecast.seconds_of(run, EpochGlance(1, 9.0, 9.0, 10.0, age=400.0)) == 0.0
    assert forecast.seconds_of(run, EpochGlance(2, 9.0, 9.0, 10.0)) == 0.0


def test_waiting_runs_take_as_long_as_those_like_them_and_are_dealt_out(runs):
    none, planar = runs[:3], runs[3:]
    forecast = GridForecast(runs, 2)
    forecast.end(RunOutcome(none[0], "finished", 10.0))
    forecast.end(RunOutcome(none[1], "skipped"))
    forecast.end(RunOutcome(planar[0], "finished", 100.0))
    running = [(none[2], EpochGlance(1, 9.0, 9.0, 4.0))]
    # none: 4 s. planar: twice 100 s, one after it and one by the worker that is free.
    assert forecast.seconds_left(running) == 104.0
    assert GridForecast(runs, 1).seconds_left(running) == 4.0 + 5 * 8.0  # by the pace of the one under way
    one = GridForecast(runs, 1)
    one.ended = forecast.ended
    assert one.seconds_left(running) == 204.0


def test_what_failed_says_nothing_of_durations(runs):
    forecast = GridForecast(runs[:2], 1)
    forecast.end(RunOutcome(runs[0], "failed", 1.0, "no"))
    assert forecast.seconds_left([]) is None
    assert describe_standing(forecast, []) == "0 done, 1 failed, 0 running, 1 waiting of 2; time left unknown"


def test_nothing_is_left_when_all_ended(run):
    forecast = GridForecast([run], 3)
    forecast.end(RunOutcome(run, "finished", 5.0))
    assert forecast.seconds_left([]) == 0.0


def test_lines_tell_starts_and_ends(run):
    output = io.StringIO()
    console = Console(file=output, width=30)
    monitor = LinesMonitor(console, GridForecast([run], 1))
    (run.folder / EPOCHS).write_text(HEADER + "2,0.2,140.25,,1.0\n")
    monitor.started(run)
    monitor.running([run])
    monitor.ended(RunOutcome(run, "finished", 3.2))
    monitor.ended(RunOutcome(run, "skipped"))
    monitor.ended(RunOutcome(run, "failed", 1.0, "ended by signal SIGKILL\n[last] line"))
    assert output.getvalue().splitlines() == [
        "caltech101-silhouettes none seed 0: started",
        "caltech101-silhouettes none seed 0: finished in 3 s, validation −ELBO 140.25 at epoch 2",
        "caltech101-silhouettes none seed 0: finished before",
        "caltech101-silhouettes none seed 0: failed after 1 s, ended by signal SIGKILL",
        "[last] line",
    ]


def test_a_run_that_waits_for_another_process_is_told_of_once_and_counted(runs):
    output = io.StringIO()
    forecast = GridForecast(runs[:2], 1)
    monitor = LinesMonitor(Console(file=output, width=30), forecast)
    monitor.elsewhere(runs[0])
    assert describe_standing(forecast, []).startswith("0 done, 0 failed, 1 elsewhere, 0 running, 1 waiting of 2;")
    assert describe_standing(forecast, [(runs[0], None)]).startswith("0 done, 0 failed, 1 running, 1 waiting of 2;")
    monitor.ended(RunOutcome(runs[0], "finished"))
    assert output.getvalue().splitlines() == [
        "caltech101-silhouettes none seed 0: at work elsewhere, waiting for the process that works on it",
        "caltech101-silhouettes none seed 0: finished by another process",
    ]
    assert forecast.seconds_left([]) is None  # what ran elsewhere says nothing of durations here
    assert describe_standing(forecast, []).startswith("1 done, 0 failed, 0 running, 1 waiting of 2;")


def test_now_and_then_a_line_tells_where_the_grid_stands(runs):
    output, now = io.StringIO(), [0.0]
    monitor = LinesMonitor(Console(file=output, width=30), GridForecast(runs, 1), clock=lambda: now[0])
    monitor.ended(RunOutcome(runs[0], "finished", 30.0))
    (runs[1].folder / EPOCHS).write_text(HEADER + "2,0.2,140.25,,1.0\n")
    for seconds in (1.0, LINE_SECONDS / 2, LINE_SECONDS, LINE_SECONDS + 1):
        now[0] = seconds
        monitor.running([runs[1]])
    assert output.getvalue().splitlines()[1:] == [
        "1 done, 0 failed, 1 running, 4 waiting of 6; time left 2 min; "
        "caltech101-silhouettes none seed 1 epoch 2 / 2, validation −ELBO 140.25"
    ]


def test_a_terminal_gets_a_live_table(runs):
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120)
    (runs[2].folder / EPOCHS).write_text(HEADER + "1,0.2,140.25,,50.0\n")
    with open_monitor(console, runs, 1) as monitor:
        assert isinstance(monitor, LiveMonitor)
        monitor.ended(RunOutcome(runs[0], "finished", 100.0))
        monitor.ended(RunOutcome(runs[1], "failed", 3.0, "no memory"))
        monitor.started(runs[2])
        monitor.running([runs[2]])
    text = output.getvalue()
    for told in ("1 / 2", "140.25", "2/6", "1 done, 1 failed, 1 running, 3 waiting of 6; time left 6 min", "no memory"):
        assert told in text


def test_a_pipe_gets_lines(runs):
    with open_monitor(Console(file=io.StringIO()), runs, 1) as monitor:
        assert type(monitor) is LinesMonitor
