"""Progress is told in lines, or live in a terminal."""

import io

import pytest
from rich.console import Console

from vae_flows.benchmark.grid import RunOutcome, plan_grid
from vae_flows.benchmark.monitor import EpochGlance, LinesMonitor, LiveMonitor, glance, open_monitor
from vae_flows.benchmark.presets import PRESETS
from vae_flows.runs.folder import EPOCHS

HEADER = "epoch,beta,validation_negative_elbo,evaluations_per_solve\n"


@pytest.fixture
def cell(tmp_path):
    (cell,) = plan_grid(PRESETS["smoke"], tmp_path, posteriors=["none"])
    cell.folder.mkdir(parents=True)
    return cell


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        (HEADER, None),
        (HEADER + "1,0.1,150.5,\n2,0.2,140.25,\n", EpochGlance(2, 140.25)),
        (HEADER + "1,0.1,150.5,\n2,0.", EpochGlance(1, 150.5)),
        ("something else\n1\n", None),
    ],
)
def test_a_glance_reads_the_last_whole_line(cell, text, expected):
    (cell.folder / EPOCHS).write_text(text)
    assert glance(cell.folder) == expected


def test_a_glance_at_a_folder_without_a_log(tmp_path):
    assert glance(tmp_path) is None


def test_lines_tell_starts_and_ends(cell):
    output = io.StringIO()
    console = Console(file=output, width=30)
    monitor = LinesMonitor(console)
    (cell.folder / EPOCHS).write_text(HEADER + "2,0.2,140.25,\n")
    monitor.started(cell)
    monitor.running([cell])
    monitor.ended(RunOutcome(cell, "finished", 3.2))
    monitor.ended(RunOutcome(cell, "skipped"))
    monitor.ended(RunOutcome(cell, "failed", 1.0, "ended by signal SIGKILL\n[last] line"))
    assert output.getvalue().splitlines() == [
        "caltech101-silhouettes none seed 0: started",
        "caltech101-silhouettes none seed 0: finished in 3 s, validation −ELBO 140.25 after 2 epochs",
        "caltech101-silhouettes none seed 0: finished before",
        "caltech101-silhouettes none seed 0: failed after 1 s, ended by signal SIGKILL",
        "[last] line",
    ]


def test_a_terminal_gets_a_live_table(cell):
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100)
    (cell.folder / EPOCHS).write_text(HEADER + "1,0.2,140.25,\n")
    with open_monitor(console, total=3) as monitor:
        assert isinstance(monitor, LiveMonitor)
        monitor.started(cell)
        monitor.running([cell])
        monitor.ended(RunOutcome(cell, "finished", 3.2))
    text = output.getvalue()
    assert "1 / 2" in text
    assert "140.25" in text
    assert "0/3" in text


def test_a_pipe_gets_lines():
    with open_monitor(Console(file=io.StringIO()), total=1) as monitor:
        assert type(monitor) is LinesMonitor
