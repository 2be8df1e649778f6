"""Intervals of paired differences cover at their rate, and a best posterior is named only where it is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.seeds import numpy_generator
from vae_flows.errors import InvalidInputError
from vae_flows.evaluation import paired_difference, rank_posteriors

ERRORS = 5  # standard errors allowed: a false alarm in 1.7 million comparisons
IMAGES = 40


def scores(generator, mean, seeds, images=None, of_seeds=0.3, of_posterior=0.5, rest=0.5, num_images=IMAGES):
    """Scores with effects of images, shared and under this posterior, of seeds, and noise."""
    shared = generator.normal(size=num_images) * 5 if images is None else images
    own = of_posterior * generator.normal(size=num_images)
    training = of_seeds * generator.normal(size=(seeds, 1))
    return mean + shared + own + training + rest * generator.normal(size=(seeds, num_images))


@pytest.mark.parametrize(("of_seeds", "seeds"), [(0.3, (3, 3)), (0.0, (3, 3)), (0.3, (2, 5))])
def test_intervals_over_seeds_and_images_cover_at_their_rate(of_seeds, seeds):
    generator, trials = numpy_generator(), 1500
    covered, widths = 0, []
    for _ in range(trials):
        shared = 5 * generator.normal(size=IMAGES)
        pair = [scores(generator, 1.0 * (side == 0), count, shared, of_seeds) for side, count in enumerate(seeds)]
        found = paired_difference(*pair, confidence=0.9)
        covered += found.lower <= 1 <= found.upper
        widths.append(found.upper - found.lower)
    assert found.generalizes_over_seeds
    # At least at its rate: where seeds have no effect of their own, the interaction is counted twice.
    error = ERRORS * (0.09 / trials) ** 0.5
    assert covered / trials > 0.9 - error
    assert covered / trials < 0.96 + error
    assert np.median(widths) < 3  # of shared images, whose standard deviation is 5, nothing is left


def test_intervals_of_given_models_cover_at_their_rate():
    generator, trials = numpy_generator(), 400
    covered = 0
    for _ in range(trials):
        shared = 5 * generator.normal(size=IMAGES)
        pair = [scores(generator, mean, 1, shared, of_seeds=0.0) for mean in (1.0, 0.0)]
        found = paired_difference(*pair, confidence=0.9, num_resamples=500)
        covered += found.lower <= 1 <= found.upper
    assert not found.generalizes_over_seeds
    # The bootstrap of 40 images is short by one or two per cent.
    assert covered / trials == pytest.approx(0.9, abs=ERRORS * 0.015 + 0.02)


def test_false_alarms_of_the_p_value_are_as_rare_as_they_should_be():
    generator, trials = numpy_generator(), 1500
    found = []
    for _ in range(trials):
        shared = 5 * generator.normal(size=IMAGES)
        found.append(paired_difference(*(scores(generator, 0.0, 3, shared) for _ in range(2))).p_value)
    rate = (np.array(found) < 0.05).mean()
    assert rate < 0.05 + ERRORS * 0.0056
    assert rate > 0.01


def test_pairing_finds_what_averages_hide():
    generator = numpy_generator()
    shared = 50 * generator.normal(size=500)
    first, second = (scores(generator, mean, 3, shared, of_seeds=0.02, num_images=500) for mean in (1.0, 0.0))
    found = paired_difference(first, second)
    assert found.is_real
    assert found.p_value < 1e-3
    assert found.standard_error < 0.1 < 50 / 500**0.5
    assert (found.num_images, found.num_seeds) == (500, (3, 3))
    opposite = paired_difference(second, first)
    assert (opposite.value, opposite.lower, opposite.upper) == pytest.approx((-found.value, -found.upper, -found.lower))


def test_one_lucky_seed_is_no_better_posterior():
    """Two posteriors alike, each image's score moved by 1 by the seeds: over images alone the difference seems real."""
    generator = numpy_generator()
    shared = 5 * generator.normal(size=2000)
    first = scores(generator, 0.0, 3, shared, of_seeds=0.0, rest=0.1, num_images=2000, of_posterior=0.1)
    second = scores(generator, 0.0, 3, shared, of_seeds=0.0, rest=0.1, num_images=2000, of_posterior=0.1)
    first += np.array([[1.0], [-1.0], [0.0]])
    second += np.array([[-1.0], [0.5], [0.5]])
    assert paired_difference(first[0], second[0]).is_real
    assert not paired_difference(first[0], second[0]).generalizes_over_seeds
    assert not paired_difference(first, second).is_real


def test_equal_scores_do_not_differ():
    values = np.arange(10.0)
    for given in (values, np.stack([values, values]), torch.arange(10.0), values.tolist()):
        found = paired_difference(given, given)
        assert (found.value, found.lower, found.upper, found.p_value) == (0, 0, 0, 1)
        assert not found.is_real
    assert paired_difference(values + 1, values).is_real


def test_ranks_are_within_their_bounds_at_their_rate():
    generator, trials = numpy_generator(), 400
    means = {"a": 0.0, "b": 0.3, "c": 0.6, "d": 3.0}
    right = 0
    for _ in range(trials):
        shared = 5 * generator.normal(size=IMAGES)
        given = {name: scores(generator, mean, 3, shared) for name, mean in means.items()}
        found = rank_posteriors(given, confidence=0.9)
        bounds = dict(zip(found.names, zip(found.lowest_ranks, found.highest_ranks, strict=True), strict=True))
        right += all(low <= rank <= high for rank, (low, high) in enumerate((bounds[name] for name in means), 1))
    assert right / trials > 0.9 - ERRORS * 0.015
    assert found.lowest_ranks[-1] >= 2  # so that the bounds say something


def test_a_best_posterior_is_named_only_where_it_is_one():
    generator = numpy_generator()
    shared = 5 * generator.normal(size=300)
    means = {"none": 4.0, "planar": 2.0, "ffjord": 0.0}
    given = {name: scores(generator, mean, 3, shared, 0.1, num_images=300) for name, mean in means.items()}
    found = rank_posteriors(given)
    assert (found.names, found.best) == (("ffjord", "planar", "none"), "ffjord")
    assert found.lowest_ranks == found.highest_ranks == (1, 2, 3)
    assert found.generalizes_over_seeds
    given["twin"] = given["ffjord"] + 0.1 * generator.normal(size=(3, 300))
    twins = rank_posteriors(given)
    assert twins.best is None
    assert set(twins.possibly_best) == {"ffjord", "twin"}
    assert twins.highest_ranks[:2] == (2, 2)
    single = rank_posteriors({name: values[0] for name, values in given.items()})
    assert not single.generalizes_over_seeds


def test_one_posterior_is_the_best_of_one():
    assert rank_posteriors({"only": np.arange(5.0)}).best == "only"


@pytest.mark.parametrize(
    "wrong",
    [np.array([1.0, np.nan]), np.zeros((2, 1)), np.zeros((2, 2, 2)), np.zeros(0), "text", None, [[1.0], [1, 2]]],
)
def test_scores_that_cannot_be_compared_are_told(wrong):
    with pytest.raises(InvalidInputError, match="finite scores"):
        paired_difference(wrong, np.zeros(2))
    with pytest.raises(InvalidInputError, match="scores of 'planar'"):
        rank_posteriors({"planar": wrong})


def test_wrong_use_is_told():
    with pytest.raises(InvalidInputError, match="the same 3 images"):
        paired_difference(np.arange(3.0), np.arange(4.0))
    with pytest.raises(InvalidInputError, match="the same images"):
        rank_posteriors({"a": np.arange(3.0), "b": np.arange(4.0)})
    with pytest.raises(InvalidInputError, match="one posterior"):
        rank_posteriors({})
    for wrong in (0.0, 1.0):
        with pytest.raises(InvalidInputError, match="confidence"):
            paired_difference(np.arange(3.0), np.arange(3.0), confidence=wrong)
