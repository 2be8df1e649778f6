"""Ratios, targets, tables and files of a comparison made by hand."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.speed.competitors.roster import BASELINE, DIFFRAX, EXACT, PUBLISHED, ZUKO
from experiments.speed.speed_plot import plot_comparison
from experiments.speed.speed_records import Comparison, ScalingPoint, SizeResult, StepsPoint
from experiments.speed.speed_report import make_tables, write_comparison
from experiments.speed.targets import Target, judge
from vae_flows.persistence.json_files import read_json
from vae_flows.persistence.records import from_plain

PUBLISHED_RESULTS = Path(__file__).parents[3] / "experiments" / "results" / "speed"


def test_published_results_are_read_and_give_the_published_files_again(tmp_path):
    plain = read_json(PUBLISHED_RESULTS / "speed.json")
    del plain["targets"]
    write_comparison(from_plain(Comparison, plain), tmp_path)
    for name in ("speed.json", "speed.md"):
        assert (tmp_path / name).read_bytes() == (PUBLISHED_RESULTS / name).read_bytes()


def test_ratios_are_medians_of_the_rounds_ratios(comparison):
    result = comparison.sizes[0]
    assert result.ratio(PUBLISHED, BASELINE) == pytest.approx((50 + 40) / 2)
    assert result.ratio(ZUKO, BASELINE) == pytest.approx(3)
    assert result.ratio(DIFFRAX, BASELINE) is None
    assert result.ratio("nobody", BASELINE) is None
    assert result.memory_ratio(BASELINE, PUBLISHED) == pytest.approx(0.2)
    assert result.memory_ratio(BASELINE, ZUKO) is None
    assert result.floor_ratio(BASELINE) == pytest.approx(2)
    assert result.floor_seconds == pytest.approx(0.05)
    assert SizeResult("other", ()).floor_ratio(BASELINE) is None


def test_errors_of_values_and_gradients_are_apart(comparison):
    measured = comparison.sizes[0].find(BASELINE)
    assert (measured.value_error, measured.gradient_error) == (2e-6, 4e-6)


@pytest.mark.parametrize(
    ("at_least", "measured", "verdict"),
    [
        (True, 1.5, "met"),
        (True, 1.4, "short"),
        (False, 1.5, "met"),
        (False, 1.6, "short"),
        (True, None, "not measured"),
    ],
)
def test_verdicts(at_least, measured, verdict):
    assert Target("", 1.5, at_least, measured).verdict == verdict


def test_targets_are_judged_by_what_was_measured(comparison):
    found = {target.text: (target.verdict, target.measured) for target in judge(comparison)}
    assert found["times faster than the published formulation, 512-512 rank 20"] == ("met", pytest.approx(45))
    assert found["share of its memory, 512-512 rank 20"] == ("met", pytest.approx(0.2))
    assert found["times faster than diffrax, 512-512 bias"] == ("not measured", None)
    assert found["times faster than zuko, 512-512 concat"] == ("met", pytest.approx(3))
    assert found["time over the matrix products alone, 512-512 bias"] == ("short", pytest.approx(2))
    assert found["exact trace over Hutchinson, 512-512 bias"] == ("met", pytest.approx(1.1))
    assert found["GB of the process, 1024-1024 rank 64, 2 blocks"] == ("met", pytest.approx(0.9))
    assert found["largest relative error of a gradient, all with equal dynamics"] == ("met", 4e-6)


def test_nothing_measured_is_no_target_met(comparison):
    empty = replace(comparison, sizes=())
    assert {target.verdict for target in judge(empty)} == {"not measured"}


def test_a_missing_peer_stays_in_the_table(comparison):
    table = next(table for table in make_tables(comparison) if table.title == "512-512 bias")
    row = next(row for row in table.rows if row[0].text == DIFFRAX)
    assert row[1].text == "not installed"
    assert "diffrax not installed: jax, diffrax" in table.notes
    assert next(row for row in table.rows if row[0].text == EXACT)[2].text == "1.10"


def test_an_exponent_needs_two_large_dimensions(comparison):
    points = tuple(ScalingPoint("a", dim, 0.0, dim**1.5) for dim in (16, 128, 256))
    assert replace(comparison, scaling=points[:2]).exponent("a") is None
    assert replace(comparison, scaling=points).exponent("a") == pytest.approx(1.5)


def test_memory_grows_by_a_step(comparison):
    points = tuple(StepsPoint("a", steps, 1.0, 100 + 7 * steps) for steps in (64, 4, 16))
    assert replace(comparison, steps=points).growth("a") == 7
    assert replace(comparison, steps=points[:1]).growth("a") is None


def test_exponents_are_in_the_table(comparison):
    table = next(table for table in make_tables(comparison) if "log-density" in table.title)
    assert {row[0].text: row[-2].text for row in table.rows}["closed form"] == "3.00"


def test_memory_by_steps_is_in_the_table(comparison):
    table = next(table for table in make_tables(comparison) if "number of steps" in table.title)
    assert [row[-1].text for row in table.rows] == ["0", "0.500", "1.00", "1.50"]
    assert [cell.text for cell in table.rows[1]][1:5] == ["4.00", "64.0", "12.0", "42.0"]


def test_files_hold_everything(comparison, tmp_path):
    tables, paths = write_comparison(comparison, tmp_path / "speed")
    assert [path.name for path in paths] == ["speed.json", "speed.md", "speed.png"]
    stored = json.loads(paths[0].read_text())
    assert stored["commit"] == {"commit": "abc", "dirty": False}
    assert stored["sizes"][0]["measurements"][0]["seconds"] == [0.1, 0.2, 0.1]
    assert [target["verdict"] for target in stored["targets"]] == [target.verdict for target in judge(comparison)]
    text = paths[1].read_text()
    assert all(f"**{table.title}**" in text for table in tables)
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_a_size_at_which_all_failed_can_be_drawn(comparison, tmp_path):
    failed = tuple(replace(entry, seconds=(), absent="failed: x") for entry in comparison.sizes[0].measurements)
    broken = replace(comparison, sizes=(SizeResult("512-512 bias", failed), *comparison.sizes[1:]))
    assert write_comparison(broken, tmp_path)[1][2].exists()


def test_the_plot_is_sorted_and_tells_who_has_dynamics_of_its_own(comparison):
    figure = plot_comparison(comparison)
    panels = [
        axes for axes in figure.axes if axes.get_title(loc="left") in {result.size for result in comparison.sizes}
    ]
    assert len(panels) == len(comparison.sizes)
    for axes, result in zip(panels, comparison.sizes, strict=True):
        names = [tick.get_text() for tick in axes.get_yticklabels()]
        assert names == [BASELINE, EXACT, f"{ZUKO} (own dynamics)", PUBLISHED]
        points = [line for line in axes.lines if line.get_marker() == "o"]
        medians = [float(line.get_xdata()[0]) for line in points]
        assert medians == sorted(medians)
        assert medians == [result.find(name.removesuffix(" (own dynamics)")).median for name in names]
        assert not axes.patches  # a bar on a logarithmic axis has no beginning
        assert axes.get_xscale() == "log"
        assert [line.get_markerfacecolor() == "white" for line in points] == [False, False, True, False]
        (floor,) = [line for line in axes.lines if line.get_linestyle() == ":"]
        assert floor.get_xdata()[0] == result.floor_seconds
