"""Posteriors stand as paired differences over images and seeds say, by −ELBO and by −log p(x)."""

import pytest

from tests.runs.recorded import TEST, score
from tests.seeds import shifted
from vae_flows.benchmark.grid import GridRun
from vae_flows.benchmark.presets import PRESETS
from vae_flows.runs import find_runs
from vae_flows.runs.folder import SCORES, prepare
from vae_flows.runs.groups import group_runs
from vae_flows.runs.standing import BOTH, ELBO, IMAGES, LIKELIHOOD, NOTHING, SEEDS, standings


@pytest.fixture
def make(tmp_path, finish):
    def make(posterior, seed, bound, **scored):
        folder = tmp_path / f"{posterior}-{seed}"
        settings = PRESETS["smoke"].settings("caltech101-silhouettes", posterior, seed)
        prepare(folder, settings)
        history = {"best_epoch": 2, "stopped_early": False, "training_seconds": 4.0, "posterior_parameters": 10}
        history |= {"versions": {}, "hardware": {}}
        finish(GridRun(folder, settings), bound, **history, test=TEST | {"negative_elbo": bound})
        score(folder, bound, shifted(10 * seed + len(posterior)), **scored)
        return folder

    return make


def stand(folder):
    return {entry.measure: entry for entry in standings(group_runs(find_runs(folder)))}


def test_pairs_of_images_show_what_averages_of_few_seeds_hide(make, tmp_path):
    for seed in range(2):
        make("none", seed, 100.0 + 0.02 * seed)
        make("planar", seed, 99.0 + 0.02 * seed)
    found = stand(tmp_path)
    assert set(found) == {ELBO, LIKELIHOOD}
    (difference,) = found[ELBO].differences
    assert difference.over == BOTH
    assert difference.value == pytest.approx(1.0, abs=1e-9)  # sums of 60 numbers
    # The spread of an image is 8 nats, and 0.7 / √60 that of a difference.
    assert difference.lower is not None
    assert 0 < difference.lower < 1.0
    assert found[ELBO].best == found[LIKELIHOOD].best == "planar"
    assert found[LIKELIHOOD].draws == 4


def test_seeds_that_vary_leave_the_best_open(make, tmp_path):
    for seed, shift in enumerate((-3.0, 3.0)):
        make("none", seed, 100.0 + shift)
        make("planar", seed, 99.0 - shift)
    found = stand(tmp_path)[ELBO]
    assert found.best is None
    assert found.ranking is not None
    assert set(found.ranking.possibly_best) == {"none", "planar"}


def test_one_seed_says_nothing_of_other_trainings(make, tmp_path):
    make("none", 0, 100.0)
    make("planar", 0, 50.0)
    found = stand(tmp_path)[ELBO]
    (difference,) = found.differences
    assert difference.over == IMAGES
    assert not difference.is_real
    assert found.best is None


def test_runs_without_scores_are_compared_over_seeds(make, tmp_path):
    for seed in range(3):
        (make("none", seed, 100.0 + 0.1 * seed) / SCORES).unlink()
        make("planar", seed, 90.0 + 0.1 * seed)
    found = stand(tmp_path)
    (difference,) = found[ELBO].differences
    assert difference.over == SEEDS
    assert difference.is_real
    assert found[ELBO].ranking is None
    assert found[ELBO].notes == ("No ranks: no scores of each image for none.",)
    assert LIKELIHOOD not in found


def test_one_seed_without_scores_has_no_interval(make, tmp_path):
    (make("none", 0, 100.0) / SCORES).unlink()
    make("planar", 0, 90.0)
    (difference,) = stand(tmp_path)[ELBO].differences
    assert (difference.over, difference.lower, difference.is_real) == (NOTHING, None, False)


def test_likelihoods_of_different_draws_are_not_compared(make, tmp_path):
    for seed in range(2):
        make("none", seed, 100.0 + seed, draws=4)
        make("planar", seed, 90.0 + seed, draws=8)
    assert set(stand(tmp_path)) == {ELBO}


def test_seeds_tested_on_other_images_are_not_stacked(make, tmp_path):
    for seed in range(2):
        make("none", seed, 100.0 + seed, first=seed)
        make("planar", seed, 90.0 + seed, first=seed)
    found = stand(tmp_path)[ELBO]
    assert found.differences[0].over == SEEDS
    assert found.ranking is None
