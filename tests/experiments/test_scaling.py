"""The measurement of large grids measures grids that finish."""

import json

from experiments.scaling import measure


def test_a_grid_of_runs_of_no_work_is_finished_and_measured(capsys):
    measure(nodes=0, runs=3)
    figures = json.loads(capsys.readouterr().out)
    assert figures["finished"] == 3
    assert figures["errors"] == []
    times = ("seconds_to_plan", "seconds", "seconds_to_resume", "seconds_to_report", "driver_cpu_ms_per_run")
    assert all(figures[name] > 0 for name in times)
    assert figures["driver_mb_at_most"] > 100
