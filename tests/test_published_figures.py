"""Figures that the README and the documentation tell are those of the published results."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

import vae_flows as vf
from experiments.ablations.questions import QUESTIONS
from experiments.speed.speed_records import Comparison
from vae_flows.benchmark.published import PUBLISHED
from vae_flows.evaluation import paired_difference
from vae_flows.persistence.records import differences, from_plain

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def runs_of(name: str) -> list[dict[str, Any]]:
    """Return the runs in a published file, `name` under `experiments/results`."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))["runs"]


def test_toy_densities_by_ffjord_and_like_glow() -> None:
    runs = runs_of("density-glow/density-glow.json")
    flows = {"FFJORD": runs[::2], "like Glow": runs[1::2]}
    ends, parameters = {}, {}
    for name, found in flows.items():
        excess = [run["test"]["excess"] for run in found]
        ends[name] = f"{min(excess):.3f} to {max(excess):.3f}"
        (parameters[name],) = {f"{run['parameters']:,}" for run in found}
    assert (
        f"FFJORD's {parameters['FFJORD']} parameters end {ends['FFJORD']} nats above the true densities, the other's "
        f"{parameters['like Glow']} end {ends['like Glow']} above"
    ) in README
    for ffjord, glow in zip(*flows.values(), strict=True):
        assert ffjord["settings"]["data"] == glow["settings"]["data"]
        assert glow["processor_seconds"] >= ffjord["processor_seconds"]


def test_times_beside_torchdiffeq_torchode_and_the_published_formulations() -> None:
    plain = json.loads((RESULTS / "speed" / "speed.json").read_text(encoding="utf-8"))
    sizes = from_plain(Comparison, {name: value for name, value in plain.items() if name != "targets"}).sizes

    def span(competitor: str, baseline: str) -> str:
        ratios = [ratio for size in sizes if (ratio := size.ratio(competitor, baseline)) is not None]
        return f"{min(ratios):.1f} to {max(ratios):.1f}"

    told = f"{span('backprop, torchdiffeq', 'backprop')} times as fast with backpropagation and"
    assert f"{told} {span('adjoint, torchdiffeq', 'adjoint')} times with the continuous adjoint" in README
    assert f"torchode's takes {span('torchode', 'backprop')} times as long" in README
    by_name = {size.size: size for size in sizes}
    compiled = [by_name[name] for name in ("512-512 rank 20", "512-512 bias")]
    shares = [f"{size.ratio('backprop, compiled', 'backprop'):.2f}" for size in compiled]
    firsts = [f"{size.find('backprop, compiled').first_seconds:.0f}" for size in compiled]
    assert f"takes {shares[0]} of the time at 512-512 rank 20 and {shares[1]} at 512-512 bias" in README
    assert f"first step of {firsts[0]} and {firsts[1]} s" in README
    names = ("sylvester-orthogonal", "sylvester-householder", "sylvester-triangular", "planar", "iaf")
    ratios = [by_name[f"{name}, 64 latents"].ratio("published formulation", "backprop") or 0 for name in names]
    times = [f"{ratio:.2f}" for ratio in ratios]
    assert (
        f"{times[0]} (orthogonal), {times[1]} (Householder) and {times[2]} (triangular) times as long as here" in README
    )
    assert f"the planar flow {times[3]} and IAF {times[4]} times: there the published one is the faster" in README
    assert max(ratios[3:]) < 1
    rank, bias = compiled
    exact = f"{bias.ratio('backprop, exact trace', 'backprop'):.2f} times"
    seconds = [rank.find(name).median or 0 for name in ("adjoint", "adjoint, torchdiffeq")]
    held = [(rank.find(name).step_bytes or 0) / 1e9 for name in ("recompute", "backprop")]
    others = [rank.ratio(name, "backprop") for name in ("recompute", "adjoint")]
    methods = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    for figure in (
        f"a step takes {exact} that with the estimate, 512-512 bias",
        f"the fastest: {others[0]:.2f} and {others[1]:.2f} times its time for the next two, 512-512 rank 20",
        f"{held[0]:.2f} GB beside {held[1]:.2f}, 512-512 rank 20",
        f"a step takes {seconds[0]:.3f} s, torchdiffeq's {seconds[1]:.2f} s, 512-512 rank 20",
        f"{shares[0]} of the time at 512-512 rank 20, {shares[1]} at 512-512 bias, on a CPU",
    ):
        assert figure in methods, figure
    assert f"the exact trace takes [{exact}]" in (ROOT / "docs" / "which-posterior.md").read_text(encoding="utf-8")


def test_flows_of_zuko_and_pyro_in_the_quick_comparison() -> None:
    with (RESULTS / "quick-all" / "table.csv").open(encoding="utf-8") as file:
        rows = {row["posterior"]: row for row in csv.DictReader(file)}
    others = "zuko:NSF", "pyro:spline_autoregressive", "zuko:NAF"
    bounds = [f"{float(rows[name]['negative_elbo_mean']):.2f} of `{name}`" for name in others]
    assert f"test −ELBO {', '.join(bounds[:-1])} and {bounds[-1]}" in README


CALTECH = "caltech101-silhouettes"
PAPER_RUNS = {run["posterior"]: run for run in runs_of("paper/results.json") if run["data"] == CALTECH}
BY_BIAS = {"posterior_options.amortization", "posterior_options.rank", "posterior_options.divergence"}


def paper_folder(posterior: str) -> Path:
    return RESULTS / "paper" / "runs" / CALTECH / posterior / "seed-0"


def spent(posterior: str) -> str:
    run = PAPER_RUNS[posterior]
    return f"{len(run['history']['epoch'])} epochs and {run['training_seconds'] / 60:.0f} minutes"


def above_the_paper(posterior: str) -> float:
    return PAPER_RUNS[posterior]["test"]["negative_elbo"] - PUBLISHED[CALTECH].reference.negative_elbo[posterior].mean


def gain_over_none(posterior: str) -> str:
    """Return by how much the −ELBO is lower than without a flow, with the standard error of paired images."""
    own, none = (vf.Run(paper_folder(name)).scores for name in (posterior, "none"))
    assert own is not None
    assert none is not None
    gain = paired_difference(none.negative_elbo, own.negative_elbo)
    return f"{gain.value:.2f} ± {gain.standard_error:.2f}"


def test_the_table_with_the_published_settings() -> None:
    shown = re.search(
        r"<!-- paper:begin -->\n(.*?)\n<!-- paper:end -->", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL
    )
    assert shown is not None
    assert shown.group(1) == (RESULTS / "paper" / "table.md").read_text(encoding="utf-8").rstrip("\n")
    theirs = PUBLISHED[CALTECH].reference.negative_elbo
    assert f"The {theirs['none'].mean - theirs['ffjord'].mean:.1f} nats that the paper's FFJORD gains" in README


@pytest.mark.parametrize("posterior", PAPER_RUNS)
def test_rows_with_the_published_settings(posterior: str) -> None:
    run = PAPER_RUNS[posterior]
    theirs = PUBLISHED[CALTECH].preset.settings(CALTECH, posterior, 0)
    differing = set(differences(vf.Run(paper_folder(posterior)).settings, theirs))
    of_posterior = BY_BIAS if posterior == "ffjord" else set()
    assert differing == {"compute.precision", "evaluation.importance_samples"} | of_posterior
    assert run["stopped_early"]
    assert not run["dirty"]
    assert spent(posterior) in README
    if posterior in ("none", "planar"):
        assert abs(above_the_paper(posterior)) < 1
    if posterior.startswith("sylvester"):  # beside the best of three variants
        side = "above" if above_the_paper(posterior) > 0 else "below"
        assert f"{abs(above_the_paper(posterior)):.2f} nats {side}" in README
    if posterior != "none":
        assert f"{gain_over_none(posterior)} nats better" in README
    assert run["test"]["importance_samples"] == 100


@pytest.mark.parametrize(
    "posterior", [name for name in PAPER_RUNS if (paper_folder(name) / "tightening.json").exists()]
)
def test_what_more_draws_gain_with_the_published_settings(posterior: str) -> None:
    plain = json.loads((paper_folder(posterior) / "tightening.json").read_text(encoding="utf-8"))
    gain = f"{plain['gain']:.2f} ± {plain['gain_standard_error']:.2f}"
    assert (
        f"{plain['with_many_draws']:.2f} by {plain['many_draws']:,} draws per image for `{posterior}`, which gain "
        f"{gain} on the {plain['some_images']} images that they were drawn for"
    ) in README
    assert plain["with_few_draws"] == pytest.approx(PAPER_RUNS[posterior]["test"]["negative_log_likelihood"])


def test_densities_of_images_at_one_scale_and_at_three() -> None:
    cells = [(data, scales) for data in ("frey-faces", "omniglot") for scales in (3, 1)]
    first, second = (
        {(run["settings"]["data"], run["settings"]["num_scales"]): run for run in runs_of(f"images/{name}")}
        for name in ("images.json", "again/images.json")
    )
    bits = [f"{first[cell]['test']['bits_per_dim']:.2f}" for cell in cells]
    told = f"three scales reach {bits[0]} bits/dim where one scale reaches {bits[1]}"
    assert f"{told}, on grey OMNIGLOT {bits[2]} where one reaches {bits[3]}" in README
    bits = [f"{second[cell]['test']['bits_per_dim']:.2f}" for cell in cells]
    fewer = [1 - second[cell]["training"]["steps"] / first[cell]["training"]["steps"] for cell in cells]
    told = f"made {100 * min(fewer):.0f} to {100 * max(fewer):.0f} % fewer steps in that time"
    assert f"{told}, reached [{', '.join(bits[:-1])} and {bits[-1]}]" in README


PAGE = (ROOT / "docs" / "which-posterior.md").read_text(encoding="utf-8")
ABLATIONS = RESULTS / "ablations"


def test_the_page_of_settings_quotes_the_answer_to_every_question() -> None:
    answered = re.findall(
        r"^\*\*(.+?\?) (.+)\*\*$", (ABLATIONS / "ablations.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    parts = dict(part.split("\n", 1) for part in PAGE.split("\n### ")[1:])
    assert list(parts) == [question.text for question in QUESTIONS]
    for question in QUESTIONS:
        quoted = [line[1:].strip() for line in parts[question.text].splitlines() if line.startswith(">")]
        told = [" ".join(group.split()) for group in "\n".join(quoted).split("\n\n")]
        assert told == [answer for text, answer in answered if text == question.text]


def test_the_page_of_settings_shows_the_quick_comparison() -> None:
    with (RESULTS / "quick-all" / "table.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            mean, std, seconds = (
                float(row[name]) for name in ("negative_elbo_mean", "negative_elbo_std", "seconds_per_epoch_mean")
            )
            assert f"| `{row['posterior']}` | {mean:.2f} ± {std:.2f} | {seconds:.2f} |" in PAGE


def found(name: str) -> dict[str, Any]:
    """Return what a setting of the ablations came to."""
    findings = json.loads((ABLATIONS / "ablations.json").read_text(encoding="utf-8"))["findings"]
    return next(one for one in findings if one.get("setting", {}).get("name") == name and "negative_elbo" in one)


def test_figures_of_the_advice_are_those_of_the_ablations() -> None:
    times = {
        name: found(name)["step_time"]["mean"]
        for name in ("trained at tolerance 0.001", "exact trace", "rank 20", "path gradients")
    }
    evaluations = [found(name)["evaluations"]["mean"] for name in ("128 latents", "4 latents")]
    parameters = found("rank 20")["parameters"] / found("default")["parameters"]
    text = " ".join(PAGE.split())
    gain = -found("rank 20")["difference"]["value"]
    epochs, more_epochs = (len(found(name)["by_epoch"][0]) for name in ("path gradients", "22 epochs"))
    more = [-found(name)["difference"]["value"] for name in ("22 epochs", "path gradients")]
    for told in (
        f"{times['trained at tolerance 0.001']:.2f} times the time of a step",
        f"no noise, takes {times['exact trace']:.2f} times the time",
        f"ahead by {gain:.1f} nats on average, for {times['rank 20']:.1f} times the time",
        f"times the time and {parameters:.0f} times the posterior's parameters",
        f"at {times['path gradients']:.2f} times the time: {epochs} epochs with them take "
        f"about as long as {more_epochs} without",
        f"Four epochs more gain {more[0]:.2f} nats where path gradients gain {more[1]:.2f}",
        f"there are {evaluations[0] / evaluations[1]:.1f} times the evaluations",
    ):
        assert told in text, told
    assert round(epochs * times["path gradients"]) == more_epochs == epochs + 4


def test_the_readme_sums_the_ablations_up() -> None:
    runs = runs_of("ablations/runs.json")
    assert f"by {len(runs)} trainings" in README
    told = f"by {len(runs)} trainings that can be resumed: some seventy minutes on two cores"
    assert told in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert 50 < sum(run["seconds"] for run in runs) / 2 / 60 < 70
    gain = -found("path gradients")["difference"]["value"]
    assert f"by {gain:.2f} nats after {runs[0]['settings']['training']['max_epochs']} epochs" in README
    assert f"spent on four epochs more, gains {-found('22 epochs')['difference']['value']:.2f}" in README
    loose, tight = (found(name)["evaluations"]["mean"] for name in ("trained at tolerance 0.001", "default"))
    assert f"takes {loose:.0f} evaluations for {tight:.0f}" in README
    findings = json.loads((ABLATIONS / "ablations.json").read_text(encoding="utf-8"))["findings"]
    better = {
        one["setting"]["name"]
        for one in findings
        if (one.get("difference") or {}).get("upper", 0) < 0 and "negative_elbo" in one
    }
    assert better == {"path gradients", "22 epochs"}


def test_tables_and_other_bounds() -> None:
    gaussian, continuous, spline = (
        f"{run['test']['negative_log_likelihood']:.2f} ± {run['test']['standard_error']:.2f}"
        for run in runs_of("tabular/tabular.json")
    )
    assert f"{continuous} nats, the spline flow's {spline} and the Gaussian's {gaussian}" in README
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    found = {}
    for name in ("objectives/importance_weighted", "objectives/renyi", "quick"):
        with (RESULTS / name / "table.csv").open(encoding="utf-8") as file:
            (planar,) = (row for row in csv.DictReader(file) if row["posterior"] == "planar")
        found[name] = f"{float(planar['negative_log_likelihood_mean']):.2f}"
    for name in ("objectives/importance_weighted", "objectives/renyi"):
        assert f"−log p(x) {found[name]} of a planar posterior trained with 5 draws" in page
    assert page.count(f"{found['quick']} with the ELBO") == 2
