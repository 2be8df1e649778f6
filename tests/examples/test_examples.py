"""The examples run as typed, at toy size; one is compared with NUTS at its real size."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pyro
import pytest
import torch
import tyro
from pyro.infer import Trace_ELBO

from examples import conditional_vae, hierarchical_autoguide, learned_prior, plain_torch_vae, pyro_vae_tutorial
from examples.plain_torch_vae import FFJORDVAE, GaussianVAE
from tests.seeds import reseed

README = (Path(__file__).parents[2] / "examples" / "README.md").read_text(encoding="utf-8")
ROUNDING = 1e-5  # of sums over pixels in single precision
COMPARISONS = {
    plain_torch_vae: ["Gaussian", "FFJORD"],
    pyro_vae_tutorial: ["Gaussian", "FFJORD"],
    conditional_vae: ["Gaussian", "FFJORD"],
    learned_prior: [
        "Gaussian, standard prior",
        "FFJORD, standard prior",
        "Gaussian, CNF prior",
        "FFJORD, CNF prior",
    ],
}


@pytest.fixture(autouse=True)
def param_store():
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


def check_comparison(comparison, names, printed):
    assert list(comparison.bounds) == names
    assert len({bounds.shape for bounds in comparison.bounds.values()}) == 1
    assert all(bool(bounds.isfinite().all()) for bounds in comparison.bounds.values())
    assert all(math.isfinite(number) for gain in comparison.gains.values() for number in gain)
    assert str(comparison) in printed


@pytest.mark.parametrize("example", COMPARISONS, ids=lambda example: example.__name__.removeprefix("examples."))
def test_bounds_of_every_posterior_are_compared(example, capsys):
    comparison = tyro.cli(example.main, args=["--quick", "--seed", "1"])
    check_comparison(comparison, COMPARISONS[example], capsys.readouterr().out)


@pytest.mark.parametrize("name", ["guide", "flow"])
def test_the_bounds_of_single_images_sum_to_the_loss_of_svi(name):
    vae, x = pyro_vae_tutorial.TutorialVAE(latent_dim=3), torch.rand(5, pyro_vae_tutorial.PIXELS).round()
    guide = vae.guide if name == "guide" else pyro_vae_tutorial.flow_guide(latent_dim=3).eval()
    reseed()
    bounds = pyro_vae_tutorial.elbo(vae.model, guide, x)
    reseed()
    loss = Trace_ELBO().loss(vae.model, guide, x)
    assert bounds.shape == (5,)
    assert bounds.sum().item() == pytest.approx(-loss, rel=ROUNDING)


def test_the_posterior_of_the_plain_vae_is_swapped_and_nothing_else():
    gaussian, ffjord = (kind(num_pixels=20, latent_dim=3) for kind in (GaussianVAE, FFJORDVAE))
    parts = [{name for name, _ in vae.named_children()} for vae in (gaussian, ffjord)]
    assert parts == [{"encoder", "decoder", "moments"}, {"encoder", "decoder", "posterior"}]


def test_an_image_is_split_into_lower_and_upper_half():
    image = torch.arange(8.0).reshape(1, 1, 4, 2)
    x, y = conditional_vae.halves(image)
    assert (x.tolist(), y.tolist()) == ([[4.0, 5.0, 6.0, 7.0]], [[0.0, 1.0, 2.0, 3.0]])


def test_runs_with_one_seed_agree():
    first, second = (plain_torch_vae.main(seed=seed, quick=True).bounds["FFJORD"] for seed in (3, 3))
    assert bool((first == second).all())


def test_the_autoguide_is_compared_with_nuts(capsys):
    result = tyro.cli(hierarchical_autoguide.main, args=["--quick"])
    printed = capsys.readouterr().out
    check_comparison(result.comparison, ["Gaussian", "FFJORD"], printed)
    assert list(result.differences) == ["Gaussian", "FFJORD"]
    for difference in result.differences.values():
        assert bool(torch.cat(difference).isfinite().all())
        assert bool((difference.root_mean_square > 0).all())
    assert list(result.global_draws) == ["NUTS", "Gaussian", "FFJORD"]
    assert "difference from NUTS" in printed


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_means_spreads_and_skews_of_local_latents_agree_with_nuts():
    result = hierarchical_autoguide.main()
    gaussian, ffjord = (result.differences[name].beyond_noise for name in ("Gaussian", "FFJORD"))
    assert bool((ffjord <= hierarchical_autoguide.ALLOWED).all())
    assert bool((gaussian > hierarchical_autoguide.ALLOWED).all())
    gain = result.comparison.gains["FFJORD"]
    assert gain.mean > 5 * gain.standard_error


def test_the_script_of_the_readme_has_fifteen_lines_and_runs():
    (script,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert sum(1 for line in script.splitlines() if line.strip()) == 15
    namespace = {}
    exec(compile(script, "README of the examples", "exec"), namespace)
    assert all(math.isfinite(loss) for loss in namespace["losses"])
