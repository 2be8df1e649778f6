"""Presets hold the benchmark's settings."""

import pytest

from vae_flows.benchmark.presets import PAPER, POSTERIORS, PRESETS, find_preset
from vae_flows.benchmark.published import PAPER_RESULTS
from vae_flows.data import available_data_sets
from vae_flows.errors import UnknownNameError
from vae_flows.flows import available_flows
from vae_flows.reporting import Estimate
from vae_flows.training import TrainingSettings


def test_presets_name_what_exists():
    for preset in PRESETS.values():
        assert set(preset.posteriors) <= set(available_flows())
        assert set(preset.data) <= set(available_data_sets())
    assert len(POSTERIORS) == 7


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("mnist-static", ("softplus", (1024, 1024), 2, 64)),
        ("omniglot", ("softplus", (512, 512), 5, 20)),
        ("omniglot-iwae", ("softplus", (512, 512), 5, 20)),
        ("frey-faces", ("softplus", (512, 512), 2, 20)),
        ("caltech101-silhouettes", ("tanh", (2048,), 1, 20)),
    ],
)
def test_the_paper_preset_has_the_published_ffjord(data, expected):
    options = PAPER.settings(data, "ffjord", 0).posterior_options
    assert tuple(options[name] for name in ("activation", "hidden_dims", "num_blocks", "rank")) == expected
    assert options["amortization"] == "low_rank"


def test_the_paper_preset_has_the_published_training():
    preset = PAPER
    settings = preset.settings("mnist-static", "planar", 2)
    assert settings.training == TrainingSettings(
        max_epochs=2000,
        batch_size=100,
        learning_rate=5e-4,
        optimizer_epsilon=1e-7,
        warmup_epochs=100,
        patience=35,
        max_gradient_norm=None,
        num_particles=1,
        seed=2,
    )
    assert (settings.latent_dim, settings.network.kind, settings.network.context_dim) == (64, "conv", 256)
    assert (preset.seeds, len(preset.data)) == ((0, 1, 2), 4)


@pytest.mark.parametrize("preset", PRESETS.values())
def test_frey_faces_have_variance_bounds_and_a_split_for_each_seed(preset):
    runs = [preset.settings("frey-faces", "none", seed) for seed in range(3)]
    assert [run.split_seed for run in runs] == [123, 321, 231]
    assert {run.variance_bounds for run in runs} == {(0.01, 7.0)}
    other = preset.settings("mnist-static", "none", 0)
    assert (other.split_seed, other.variance_bounds) == (None, None)


def test_an_unknown_preset_is_named_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"preset: expected one of .*paper.*, got 'quik'.*'quick'"):
        find_preset("quik")


def test_published_numbers_are_at_their_places():
    assert PAPER_RESULTS["mnist-static"].negative_elbo["ffjord"] == Estimate(82.82, 0.01, 3)
    assert PAPER_RESULTS["omniglot"].negative_elbo["none"] == Estimate(104.28, 0.39, 3)
    assert PAPER_RESULTS["frey-faces"].negative_elbo["planar"] == Estimate(4.40, 0.06, 3)
    caltech = PAPER_RESULTS["caltech101-silhouettes"].negative_elbo
    assert caltech["iaf"] == Estimate(111.58, 0.38, 3)
    assert {caltech[name] for name in POSTERIORS if name.startswith("sylvester")} == {Estimate(104.62, 0.29, 3)}
    assert set(caltech) == set(POSTERIORS)


def test_the_own_split_of_omniglot_is_said_to_be_so():
    assert any("own reduction and split" in note for note in PAPER_RESULTS["omniglot"].notes)
    assert not any("own reduction" in note for note in PAPER_RESULTS["omniglot-iwae"].notes)
