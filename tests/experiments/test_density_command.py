"""Learning toy densities from the command line: what is computed, written and refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from experiments import commands
from experiments.cli import main
from experiments.density import DensitySettings, run_density
from experiments.density.fit import evaluate, fit, log_density
from experiments.density.picture import STEPS, Picture, read_picture, take_picture, write_picture
from experiments.density.plots import plot_densities, plot_density
from experiments.density.run import ARRAYS, METRICS, PICTURE, WEIGHTS
from experiments.density.settings import build_flow
from vae_flows.data import ToyDensity, available_toys, toy_density
from vae_flows.errors import DataError, InvalidInputError, NonFiniteLossError
from vae_flows.training import load_weights

TINY = DensitySettings(hidden_dims=(8,), steps=4, batch_size=16, test_size=50, tolerance=1e-2, test_tolerance=1e-3)
OPTIONS = [
    *("--hidden-dims", "8", "--steps", "4", "--batch-size", "16"),
    *("--test-size", "50", "--tolerance", "1e-2", "--test-tolerance", "1e-3"),
]
SOLVER = 1e-2  # solves at tolerance 1e-3


@pytest.fixture
def small_picture(monkeypatch):
    for name, value in {"POINTS": 20, "PARTICLES": 5, "FINE": 8, "COARSE": 4, "STEPS": 5}.items():
        monkeypatch.setattr(f"experiments.density.picture.{name}", value)


def test_the_command_learns_tests_and_draws(small_picture, no_colour, capsys):
    assert main(["density", "--data", "moons", "--seed", "3", *OPTIONS]) == 0
    folder = Path("runs/density/moons/seed-3")
    out = capsys.readouterr().out
    for text in ("−log p(x)", "true density", "excess", "4 steps in", str(folder)):
        assert text in out
    assert {path.name for path in folder.iterdir()} == {METRICS, PICTURE, ARRAYS, WEIGHTS}
    metrics = json.loads((folder / METRICS).read_text())
    assert metrics["settings"]["data"] == "moons"
    assert metrics["test"]["points"] == 50
    assert len(metrics["training"]["negative_log_likelihood"]) == 4
    assert {
        "versions",
        "hardware",
        "commit",
        "parameters",
        "seconds",
        "processor_seconds",
        "mass_in_picture",
    } <= metrics.keys()
    assert imread(folder / PICTURE).shape[:2] == (840, 1800)
    settings = replace(TINY, data="moons", seed=3)
    flow = build_flow(settings)
    load_weights(flow, folder / WEIGHTS)
    score = evaluate(flow, toy_density("moons"), settings)
    assert score.negative_log_likelihood == metrics["test"]["negative_log_likelihood"]


def test_a_run_replaces_an_earlier_one_and_depends_on_its_seed_alone(small_picture, tmp_path):
    def run(seed):
        torch.rand(1)
        return run_density(tmp_path, replace(TINY, seed=seed, data="pinwheel"))

    first = run(0)
    assert run(1)["test"] != first["test"]
    assert run(0)["test"] == first["test"]
    assert json.loads((tmp_path / METRICS).read_text())["test"] == first["test"]


def test_a_finished_run_is_kept_and_one_of_other_settings_replaced(small_picture, tmp_path, monkeypatch):
    first = run_density(tmp_path, TINY, draw=False)
    assert not (tmp_path / ARRAYS).exists()
    drawn = run_density(tmp_path, TINY)  # what was not drawn is not finished
    assert drawn["test"] == first["test"]
    assert "mass_in_picture" in drawn

    def unexpected(*_arguments, **_options):
        raise AssertionError

    monkeypatch.setattr("experiments.density.run.fit", unexpected)
    assert run_density(tmp_path, TINY) == drawn
    with pytest.raises(AssertionError):
        run_density(tmp_path, replace(TINY, steps=5))


def test_an_interrupted_run_leaves_no_metrics_of_an_earlier_one(small_picture, tmp_path, monkeypatch):
    run_density(tmp_path, TINY)

    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.density.run.fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_density(tmp_path, replace(TINY, seed=1))
    assert not (tmp_path / METRICS).exists()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "moons" else pytest.mark.slow) for name in available_toys()]
)
def test_a_few_steps_improve_on_the_gaussian(name):
    settings = replace(TINY, data=name, steps=40, batch_size=64, hidden_dims=(16,), test_size=500)
    flow, toy = build_flow(settings), toy_density(name)
    before = evaluate(flow, toy, settings)
    losses = fit(flow, toy, settings)
    after = evaluate(flow, toy, settings)
    assert after.negative_log_likelihood < before.negative_log_likelihood
    assert after.true_negative_log_likelihood == before.true_negative_log_likelihood
    assert len(losses.negative_log_likelihood) == len(losses.evaluations_per_solve) == 40
    assert losses.forward_evaluations == sum(losses.evaluations_per_solve)
    gap = after.negative_log_likelihood - after.true_negative_log_likelihood
    assert after.excess == pytest.approx(gap, abs=1e-9)
    assert after.excess > 5 * after.excess_standard_error


def test_the_score_of_a_known_model():
    """An untrained flow without motion is the Gaussian, whose entropy and standard error are known."""
    settings = replace(TINY, test_size=4000)
    flow = build_flow(settings)
    torch.nn.init.zeros_(flow.dynamics[0].layers[-1].weight)
    torch.nn.init.zeros_(flow.dynamics[0].layers[-1].bias)
    torch.nn.init.zeros_(flow.dynamics[0].layers[-1].time_weight)

    def log_density(x):
        return -0.5 * (x**2).sum(-1) - math.log(2 * math.pi)

    gaussian = ToyDensity("gaussian", lambda count, generator: torch.randn(count, 2, generator=generator), log_density)
    score = evaluate(flow, gaussian, settings)
    assert score.excess == pytest.approx(0.0, abs=1e-9)
    assert score.standard_error == pytest.approx(1 / math.sqrt(4000), rel=0.1)  # −log p is χ²/2 of two degrees
    assert abs(score.negative_log_likelihood - math.log(2 * math.pi * math.e)) < 5 * score.standard_error


def test_regularisers_are_in_the_loss():
    plain, settings = replace(TINY, steps=2), replace(TINY, steps=2, kinetic_energy=10.0, jacobian_norm=10.0)
    flows = [build_flow(plain), build_flow(settings)]
    fits = [fit(flow, toy_density("moons"), chosen) for flow, chosen in zip(flows, (plain, settings), strict=True)]
    assert fits[0].negative_log_likelihood[0] == pytest.approx(fits[1].negative_log_likelihood[0], abs=SOLVER)
    weights = [flow.dynamics[0].layers[-1].weight for flow in flows]
    assert not torch.allclose(*weights)


def test_a_loss_that_is_not_finite_ends_training():
    broken = ToyDensity("broken", lambda count, _generator: torch.full((count, 2), 1e30), lambda x: x.sum(-1))
    with pytest.raises(NonFiniteLossError, match="loss in step 1: expected a finite number"):
        fit(build_flow(TINY), broken, TINY)


def test_steps_are_reported():
    told = []
    fit(build_flow(TINY), toy_density("rings"), TINY, lambda *report: told.append(report))
    assert [step for step, _, _ in told] == [1, 2, 3, 4]
    assert all(math.isfinite(loss) and evaluations > 0 for _, loss, evaluations in told)


def test_chunks_give_the_density_of_each_point(monkeypatch):
    flow, x = build_flow(TINY).eval(), torch.randn(10, 2)
    with torch.no_grad():
        whole = log_density(flow().log_prob, x)
        monkeypatch.setattr("experiments.density.fit.CHUNK", 3)
        torch.testing.assert_close(log_density(flow().log_prob, x), whole, rtol=0, atol=SOLVER)


def test_the_picture_is_of_the_flow(monkeypatch):
    monkeypatch.setattr("experiments.density.picture.PARTICLES", 4)
    monkeypatch.setattr("experiments.density.picture.POINTS", 200)
    monkeypatch.setattr("experiments.density.picture.FINE", 60)
    flow = build_flow(replace(TINY, num_blocks=2, test_tolerance=1e-5))
    picture = take_picture(flow, toy_density("8gaussians"), seed=0)
    assert list(picture.frames) == pytest.approx([0.0, 0.4, 0.8, 1.2, 1.6, 2.0])
    assert picture.paths.shape == (STEPS + 1, 4, 2)
    assert np.abs(np.diff(picture.paths, axis=0)).max() < 0.3  # no jumps, at the seam of both blocks neither
    assert flow.training
    flow.eval()
    with torch.no_grad():
        ends = flow.transform()(torch.from_numpy(picture.paths[0]))
        right_below = picture.limit * torch.tensor([[21.0, -19.0]]) / 60
        there = flow().log_prob(right_below).exp()
    np.testing.assert_allclose(picture.paths[-1], ends.numpy(), atol=1e-4)
    assert picture.density[20, 40] == pytest.approx(there.item(), rel=SOLVER)
    assert picture.mass == pytest.approx(1.0, abs=0.01)


def test_a_picture_is_read_as_it_was_written(small_picture, tmp_path):
    picture = take_picture(build_flow(TINY), toy_density("moons"), seed=0)
    path = tmp_path / "picture.npz"
    write_picture(path, picture)
    found = read_picture(path)
    assert (found.limit, list(found.frames)) == (picture.limit, list(picture.frames))
    for name in ("data", "samples", "density", "paths"):
        np.testing.assert_array_equal(getattr(found, name), getattr(picture, name))
    for frame, expected in zip(found.frames.values(), picture.frames.values(), strict=True):
        np.testing.assert_array_equal(frame, expected)
    path.write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"expected an \.npz file of plain arrays"):
        read_picture(path)


def test_all_densities_are_published_together(small_picture, no_colour, capsys, monkeypatch):
    monkeypatch.setattr(commands, "available_toys", lambda: ("moons", "rings"))
    arguments = ["density", "--data", "all", "--folder", "mine", "--publish", "published", *OPTIONS]
    assert main(arguments) == 0
    assert "Written to published: density.json, density.md, density.png" in capsys.readouterr().out
    runs = json.loads(Path("published/density.json").read_text())["runs"]
    assert [run["settings"]["data"] for run in runs] == ["moons", "rings"]
    for run in runs:
        assert {"versions", "hardware", "commit"} <= run.keys()
        assert run["training"].keys() == {"forward_evaluations", "seconds"}
        stored = json.loads(Path("mine", run["settings"]["data"], "seed-0", METRICS).read_text())
        assert run["test"] == stored["test"]
        row = f"| {run['settings']['data']} | {run['test']['negative_log_likelihood']:.3f} ± "
        assert row in Path("published/density.md").read_text()
    assert imread("published/density.png").shape[:2] == (600, 300)


def test_several_densities_have_a_column_each():
    points = np.zeros((3, 2))
    picture = Picture(2.0, points, points, np.eye(5), {}, np.zeros((4, 3, 2)))
    figure = plot_densities({"moons": picture, "rings": replace(picture, limit=3.0)})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["moons", "rings", *[""] * 6]
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["data", "density", "samples", "trajectories"]
    assert [axes.get_xlim()[1] for axes in figure.axes] == [2.0, 3.0] * 4


def test_the_figure_has_a_panel_for_everything():
    frames = {0.25 * index: np.eye(4) for index in range(6)}
    points = np.zeros((3, 2))
    picture = Picture(2.0, points, points, np.eye(5), frames, np.zeros((4, 3, 2)))
    figure = plot_density(picture, title="moons")
    names = [axes.get_title(loc="left") for axes in figure.axes]
    assert names == ["data", "density", "samples", "trajectories", *(f"t = {time:.2f}" for time in frames)]
    assert figure.get_suptitle() == "moons"
    (shades,) = figure.axes[1].images
    assert shades.get_extent() == [-2.0, 2.0, -2.0, 2.0]
    assert picture.mass == pytest.approx(np.eye(5).mean() * 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "8gausians"], "Did you mean '8gaussians'"),
        (["--activation", "tan"], "Did you mean 'tanh'"),
        (["--divergence", "exakt"], "Did you mean 'exact'"),
        (["--tolerance", "0"], "tolerance: expected a finite number above 0"),
        (["--steps", "-1"], "steps: expected a positive integer"),
        (["--seed", "-1"], "seed: expected an integer from 0"),
        (["--kinetic-energy", "nan"], "--kinetic-energy: expected a finite number of at least 0"),
    ],
)
def test_wrong_settings_are_one_line_and_write_nothing(arguments, message, capsys, no_colour):
    assert main(["density", *arguments]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert list(no_colour.iterdir()) == []


@pytest.mark.parametrize("name", ["num_blocks", "steps", "batch_size", "test_size", "learning_rate"])
def test_settings_are_checked(name):
    with pytest.raises(InvalidInputError, match=f"DensitySettings {name}: expected a (positive integer|finite number)"):
        DensitySettings(**{name: 0})
