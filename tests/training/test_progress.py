from __future__ import annotations

import io
from functools import partial

import pytest
from rich.console import Console

from vae_flows.training import progress
from vae_flows.training.progress import TrainingProgress
from vae_flows.training.records import EpochRecord


def show(*, enabled: bool) -> None:
    record = EpochRecord(3, 0.25, 90.0, 10.0, 88.125, 20.0, 40, 1000.0, 1.0)
    with TrainingProgress(5, 2, show=enabled) as bars:
        bars.start_epoch(2)
        bars.step(91.0, 11.5, 20, 999.0)
        bars.step(90.5, 12.25, None, 1001.0)
        bars.end_epoch(record, record)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    output = io.StringIO()
    monkeypatch.setattr(progress, "Console", partial(Console, file=output, force_terminal=True, width=160))
    return output


def test_bars_show_bound_kl_and_speed_in_a_terminal(terminal: io.StringIO):
    show(enabled=True)
    text = terminal.getvalue()
    for part in ("−ELBO 90.50", "KL 12.25", "1001 examples/s", "2/2", "3/5", "validation −ELBO 88.12", "β 0.25"):
        assert part in text


def test_evaluations_are_shown_where_there_are_solves(terminal: io.StringIO):
    with TrainingProgress(5, 0, show=True) as bars:
        bars.start_epoch(2)
        bars.step(91.0, 11.5, 20, 999.0)
    assert "20 evaluations/solve" in terminal.getvalue()


def test_nothing_is_shown_on_request(terminal: io.StringIO):
    show(enabled=False)
    assert terminal.getvalue() == ""


def test_nothing_is_shown_outside_a_terminal(capsys: pytest.CaptureFixture[str]):
    show(enabled=True)
    assert capsys.readouterr() == ("", "")
