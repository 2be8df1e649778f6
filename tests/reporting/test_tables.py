"""Tables show known numbers: means, spreads, the best in bold, failures, and the paper's column."""

import csv
import io

import pytest
from rich.console import Console

from vae_flows.errors import InvalidInputError
from vae_flows.reporting import Estimate, Reference, RunResult, results_table, summaries_to_csv, summarize

RUNS = (
    RunResult(
        "mnist", "none", 0, negative_elbo=86.0, negative_log_likelihood=82.0, seconds_per_epoch=1.0, parameters=1000
    ),
    RunResult(
        "mnist", "none", 1, negative_elbo=87.0, negative_log_likelihood=83.0, seconds_per_epoch=2.0, parameters=1000
    ),
    RunResult("mnist", "iaf", 0, negative_elbo=84.0, seconds_per_epoch=2.0, parameters=2500),
    RunResult("mnist", "iaf", 1, negative_elbo=84.5, seconds_per_epoch=2.0, parameters=2500),
    RunResult("mnist", "ffjord", 0, negative_elbo=84.252, evaluations_per_solve=20.25, parameters=3000),
    RunResult("mnist", "ffjord", 1, "failed"),
    RunResult("mnist", "planar", 0, "failed"),
    RunResult("mnist", "my-flow", 0, "unfinished"),
)
PAPER = Reference("Some paper", {"none": Estimate(86.55, 0.06, 3)}, ("A note of the paper.",))


def test_markdown_of_known_runs():
    table = results_table(summarize(RUNS)["mnist"], PAPER, ["A note of ours."], best_elbo="iaf", best_likelihood="none")
    assert table.to_markdown() == (
        "**mnist: mean ± sample standard deviation over 2 seeds, lower is better**\n"
        "\n"
        "| posterior | test −ELBO (nats) | −log p(x) (nats) | evaluations / solve | s / epoch | parameters "
        "| Some paper, −ELBO |\n"
        "|:---|---:|---:|---:|---:|---:|---:|\n"
        "| none | 86.50 ± 0.71 | **82.50 ± 0.71** | – | 1.50 | 1,000 | 86.55 ± 0.06 |\n"
        "| iaf | **84.25 ± 0.35** | – | – | 2.00 | 2,500 | – |\n"
        "| ffjord | 84.25 (n = 1), 1 failed | – | 20.2 | – | 3,000 | – |\n"
        "| planar | failed | failed | – | – | – | – |\n"
        "| my-flow | unfinished | unfinished | – | – | – | – |\n"
        "\n"
        "A note of ours.\n"
        "\n"
        "A note of the paper.\n"
    )


def test_averages_alone_are_no_reason_for_bold():
    rows = results_table(summarize(RUNS)["mnist"]).rows
    assert not any(entry.bold for row in rows for entry in row)


def test_the_title_states_the_number_of_seeds():
    assert results_table(summarize(RUNS[:1])["mnist"]).title == "mnist: one seed, lower is better"
    assert results_table(summarize(RUNS[-1:])["mnist"]).title == "mnist: no finished run"


def test_bits_per_dimension_are_named():
    runs = [RunResult("frey", "none", 0, negative_elbo=4.53, unit="bits/dim")]
    assert results_table(summarize(runs)["frey"]).columns[1] == "test −ELBO (bits/dim)"


def test_terminal_table_has_every_row_and_note_verbatim():
    console = Console(width=150, file=io.StringIO(), record=True)
    console.print(results_table(summarize(RUNS)["mnist"], PAPER, ["variance in [0.01, 7]"]).to_rich())
    text = console.export_text()
    for part in ("none", "84.25 ± 0.35", "failed", "variance in [0.01, 7]", "A note of the paper."):
        assert part in text


def test_csv_holds_full_precision_and_empty_fields():
    summaries = summarize(RUNS)["mnist"]
    rows = list(csv.DictReader(io.StringIO(summaries_to_csv(summaries, {"mnist": PAPER}))))
    assert [row["posterior"] for row in rows] == ["none", "iaf", "ffjord", "planar", "my-flow"]
    none, _, ffjord, planar, _ = rows
    assert float(none["negative_elbo_std"]) == pytest.approx(0.5**0.5, abs=1e-15)
    assert (none["reference_negative_elbo_mean"], none["finished"]) == ("86.55", "2")
    assert (ffjord["negative_elbo_mean"], ffjord["negative_elbo_std"], ffjord["failed"]) == ("84.252", "", "1")
    assert (planar["negative_elbo_mean"], planar["parameters"]) == ("", "")


def test_a_table_is_of_one_data_set():
    summaries = summarize([RunResult("mnist", "none", 0), RunResult("frey", "none", 0)])
    with pytest.raises(InvalidInputError, match=r"one data set, got \['frey', 'mnist'\]"):
        results_table([summaries["mnist"][0], summaries["frey"][0]])
    with pytest.raises(InvalidInputError, match="got none"):
        results_table([])
