"""FFJORD and a flow like Glow beside each other: what is learned, written, kept and refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from scipy.stats import norm

from experiments.cli import main
from experiments.density import GlowSettings, run_glow
from experiments.density.budgeted import BudgetedTraining
from experiments.density.densities import glow_density, spline_density
from experiments.density.glow import METRICS, read_glow_density
from experiments.density.plots import Comparison, plot_comparisons
from tests.seeds import numpy_generator, reseed
from vae_flows.data import toy_density
from vae_flows.errors import InvalidInputError, NonFiniteLossError, UnknownNameError
from vae_flows.flows.adapters.zuko import zuko_is_installed

pytestmark = pytest.mark.skipif(not zuko_is_installed(), reason="needs zuko")

TINY = GlowSettings("moons", 0.1, num_steps=2, hidden_dims=(8,), batch_size=16, test_size=50)
OPTIONS = [
    *("--hidden-dims", "8", "--steps", "4", "--batch-size", "16"),
    *("--glow-steps", "2", "--glow-learning-rate", "1e-3"),
    *("--test-size", "50", "--tolerance", "1e-2", "--test-tolerance", "1e-3"),
]
ROUNDING = 1e-8  # of double precision, in a few layers


@pytest.fixture
def small_picture(monkeypatch):
    for name, value in {"POINTS": 20, "PARTICLES": 5, "FINE": 8, "COARSE": 4, "STEPS": 5}.items():
        monkeypatch.setattr(f"experiments.density.picture.{name}", value)


def shaken(density):
    """A density whose parameters are moved from where they start, as zuko's maps start near the identity."""
    reseed()
    with torch.no_grad():
        for parameter in density.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return density.double()


@pytest.mark.parametrize(
    ("build", "options"), [(glow_density, {"num_steps": 3}), (spline_density, {"num_transforms": 2})]
)
def test_densities_of_zuko_follow_the_change_of_variables(build, options):
    density = shaken(build(2, hidden_dims=(8,), seed=0, **options))
    for point in torch.from_numpy(numpy_generator().normal(size=(5, 2))):
        z = density.transform()(point[None])[0].detach().numpy()
        jacobian = torch.autograd.functional.jacobian(lambda x: density.transform()(x[None])[0], point)
        expected = norm.logpdf(z).sum() + np.linalg.slogdet(jacobian.numpy())[1]
        assert density(point[None]).item() == pytest.approx(expected, rel=ROUNDING, abs=ROUNDING)


def test_weights_follow_from_the_seed_alone():
    def weights(seed):
        torch.rand(1)
        return torch.cat([w.flatten() for w in glow_density(3, num_steps=2, hidden_dims=(4,), seed=seed).parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_every_coordinate_is_moved_as_the_other_says():
    density = shaken(glow_density(2, num_steps=2, hidden_dims=(8,), seed=0))
    x = torch.from_numpy(numpy_generator().normal(size=(1, 2)))
    jacobian = torch.autograd.functional.jacobian(lambda x: density.transform()(x[None])[0], x[0])
    assert bool((jacobian.abs() > 0).all())
    log_det = density.transform().call_and_ladj(x)[1]
    torch.testing.assert_close(jacobian.det().abs().log(), log_det[0], rtol=1e-9, atol=1e-9)  # rounding alone


@pytest.mark.parametrize("least_scale", [0.1, 0.5])
def test_scales_of_a_coupling_are_bounded(least_scale):
    density = glow_density(2, num_steps=1, hidden_dims=(8,), least_scale=least_scale, seed=0).double()
    coupling = density.transform.transforms[-1]
    with torch.no_grad():
        for parameter in coupling.parameters():
            parameter *= 1000
    log_scale = coupling().call_and_ladj(torch.from_numpy(numpy_generator().normal(size=(50, 2))))[1]
    bound = -math.log(least_scale)
    assert bool((log_scale.abs() < bound).all())
    assert log_scale.max() > 0.9 * bound or log_scale.min() < -0.9 * bound  # they come near it


def test_a_training_goes_on_from_its_state_as_if_it_had_not_stopped():
    toy = toy_density("moons")

    def training():
        density = glow_density(2, num_steps=2, hidden_dims=(8,), seed=0)
        # A budget so long that the learning rate, which follows the clock, stays the same to double precision.
        return BudgetedTraining(density, lambda _step, generator: toy.sample(16, generator), 1e-2, 1e12, 0)

    whole, stopped, gone_on = training(), training(), training()
    for _ in range(4):
        whole.advance()
    for _ in range(2):
        stopped.advance()
    gone_on.restore(stopped.state())
    losses = [gone_on.advance() for _ in range(2)]
    assert gone_on.step == 4
    assert all(map(math.isfinite, losses))
    for one, other in zip(whole.density.parameters(), gone_on.density.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)  # sums of single precision


def test_a_loss_that_is_not_finite_ends_training():
    density = glow_density(2, num_steps=1, hidden_dims=(4,), seed=0)
    training = BudgetedTraining(density, lambda *_: torch.full((4, 2), 1e30), 1e-2, 1.0, 0)
    with pytest.raises(NonFiniteLossError, match="loss or gradient in step 1"):
        training.advance()


@pytest.mark.parametrize("least_scale", [0.0, 1.0])
def test_a_bound_of_scales_lies_between_0_and_1(least_scale):
    with pytest.raises(InvalidInputError, match="least_scale"):
        replace(TINY, least_scale=least_scale)


def test_a_run_learns_uses_its_time_and_is_kept(small_picture, tmp_path, monkeypatch):
    settings = replace(TINY, seconds=1.0, test_size=2000, batch_size=128)
    before = run_glow(tmp_path / "none", replace(settings, seconds=1e-9))
    found = run_glow(tmp_path, settings)
    assert before["training"]["steps"] == 1
    assert found["training"]["processor_seconds"] >= 1.0
    assert found["test"]["excess"] < before["test"]["excess"]
    assert found["test"]["evaluations_per_solve"] is None
    assert read_glow_density(tmp_path).shape == (8, 8)
    assert {"versions", "hardware", "commit", "parameters"} <= found.keys()
    assert found["versions"]["zuko"]

    def unexpected(*_arguments, **_options):
        raise AssertionError

    monkeypatch.setattr("experiments.density.glow._train", unexpected)
    assert run_glow(tmp_path, settings) == found
    with pytest.raises(AssertionError):
        run_glow(tmp_path, replace(settings, num_steps=1))
    assert not (tmp_path / METRICS).exists()


def test_the_command_learns_both_and_publishes_them(small_picture, no_colour, capsys):
    assert main(["density-glow", "--data", "moons", "--publish", "published", *OPTIONS]) == 0
    assert "density-glow.json, density-glow.md, density-glow.png" in capsys.readouterr().out
    ffjord, glow = json.loads(Path("published/density-glow.json").read_text())["runs"]
    assert ffjord["settings"]["steps"] == 4
    assert (glow["settings"]["num_steps"], glow["settings"]["learning_rate"]) == (2, 1e-3)
    assert glow["settings"]["seconds"] == ffjord["processor_seconds"]
    assert glow["training"]["processor_seconds"] >= ffjord["processor_seconds"]
    assert glow["test"]["true_negative_log_likelihood"] == ffjord["test"]["true_negative_log_likelihood"]
    table = Path("published/density-glow.md").read_text()
    for record, flow in ((ffjord, "FFJORD"), (glow, "like Glow")):
        row = f"| moons | {flow} | {record['test']['excess']:.3f} ± "
        assert row in table
        assert f"| {record['parameters']:,} |" in table
        assert record["commit"] is not None
    assert imread("published/density-glow.png").shape[:2] == (480, 150)
    stored = json.loads(Path("runs/density/moons/glow-seed-0", METRICS).read_text())
    assert stored["test"] == glow["test"]


def test_the_picture_has_a_row_for_data_and_each_model():
    points, cells = np.zeros((3, 2)), np.eye(4)
    panel = Comparison(2.0, points, {"one": cells, "other": 3 * cells}, {"one": 0.5, "other": -0.25})
    figure = plot_comparisons({"moons": panel, "rings": panel})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["moons", "rings", *[""] * 4]
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["data", "one", "other"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "+0.500 nats", "+0.500 nats", *["-0.250 nats"] * 2]
    assert {image.get_clim() for axes in figure.axes for image in axes.images} == {(0.0, 1.0)}  # equal shades


@pytest.mark.parametrize("name", ["seconds", "num_steps", "batch_size", "learning_rate", "test_size"])
def test_settings_are_checked(name):
    with pytest.raises(InvalidInputError, match=f"GlowSettings {name}: expected a (positive integer|finite number)"):
        replace(TINY, **{name: 0})
    with pytest.raises(UnknownNameError, match="Did you mean 'moons'"):
        replace(TINY, data="moon")
