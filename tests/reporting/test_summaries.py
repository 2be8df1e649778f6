"""Seeds are summarised by mean and sample standard deviation, failures counted apart."""

import math

import pytest

from vae_flows.errors import InvalidInputError
from vae_flows.reporting import Estimate, RunResult, summarize

ROUNDING = 1e-12


def test_estimate_is_mean_and_sample_standard_deviation():
    estimate = Estimate.of([82.0, 83.5, 86.0])
    assert estimate.mean == pytest.approx(251.5 / 3, abs=ROUNDING)
    # Squared deviations 3.3611…, 0.1111…, 4.6944… sum to 49/6, over n − 1 = 2.
    assert estimate.std == pytest.approx(math.sqrt(49 / 12), abs=ROUNDING)
    assert estimate.count == 3


def test_a_single_value_has_no_spread():
    assert Estimate.of([3.0]) == Estimate(3.0, None, 1)
    assert Estimate.of([3.0]).text(1) == "3.0"


def test_estimate_of_nothing_is_an_error():
    with pytest.raises(InvalidInputError, match="at least one value"):
        Estimate.of([])


def test_runs_group_by_data_and_posterior_in_order_of_appearance():
    runs = [
        RunResult("mnist", "planar", 0, negative_elbo=2.0, parameters=7),
        RunResult("mnist", "none", 0, negative_elbo=5.0),
        RunResult("frey", "none", 0, negative_elbo=9.0),
        RunResult("mnist", "planar", 1, negative_elbo=4.0, parameters=7),
    ]
    summaries = summarize(runs)
    assert list(summaries) == ["mnist", "frey"]
    planar, none = summaries["mnist"]
    assert (planar.posterior, none.posterior) == ("planar", "none")
    assert planar.negative_elbo == Estimate(3.0, math.sqrt(2.0), 2)
    assert planar.parameters == 7
    assert planar.negative_log_likelihood is None


def test_failed_and_unfinished_runs_are_counted_not_averaged():
    runs = [
        RunResult("mnist", "iaf", 0, negative_elbo=84.0),
        RunResult("mnist", "iaf", 1, "failed"),
        RunResult("mnist", "iaf", 2, "unfinished"),
    ]
    (summary,) = summarize(runs)["mnist"]
    assert (summary.finished, summary.failed, summary.unfinished) == (1, 1, 1)
    assert summary.negative_elbo == Estimate(84.0, None, 1)


def test_nan_does_not_enter_a_mean():
    runs = [RunResult("mnist", "iaf", 0, negative_elbo=math.nan), RunResult("mnist", "iaf", 1, negative_elbo=84.0)]
    assert summarize(runs)["mnist"][0].negative_elbo == Estimate(84.0, None, 1)


def test_one_posterior_in_two_units_is_an_error():
    runs = [
        RunResult("frey", "iaf", 0, negative_elbo=4.5, unit="bits/dim"),
        RunResult("frey", "iaf", 1, negative_elbo=1700.0),
    ]
    with pytest.raises(InvalidInputError, match="one unit, got bits/dim, nats"):
        summarize(runs)
