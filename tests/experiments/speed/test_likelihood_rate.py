from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import vae_flows as vf
from experiments.speed.likelihood_rate import (
    RESULTS,
    evaluate_whole,
    measure_rates,
    published_log_likelihood,
    write_rates,
)
from tests.seeds import reseed
from vae_flows.data import Images
from vae_flows.evaluation import estimate_likelihood
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder

ERRORS = 5  # standard errors allowed: a false alarm in 1.7 million comparisons
SHAPE = (1, 4, 4)


def small():
    reseed()
    posterior = vf.AmortizedPosterior(2, 6, flow="planar")
    vae = vf.VAE(MLPEncoder(SHAPE, (8,), 6), MLPDecoder(2, SHAPE, (8,)), posterior, BernoulliLikelihood())
    return vae, Images(torch.randint(256, (12, 2), dtype=torch.uint8), SHAPE, packed=True)


def test_both_schemes_estimate_the_same():
    vae, images = small()
    vae.eval()
    published = torch.stack([published_log_likelihood(vae, image, 1200) for image in images.batch()])
    ours = estimate_likelihood(vae, images, importance_samples=1200)
    error = 2**0.5 * ours.monte_carlo_error  # of the difference of two such averages
    assert float((published - ours.log_bounds[:, -1]).mean()) == pytest.approx(0, abs=ERRORS * error)


def test_rates_are_measured_of_both():
    vae, images = small()
    rates = measure_rates(vae, images, importance_samples=20, images=4, rounds=3)
    assert min(*rates.library, *rates.published) > 0
    assert abs(rates.difference) < 1
    assert vae.training


def test_a_whole_test_set_is_written_beside_both_rates(tmp_path):
    vae, images = small()
    whole = evaluate_whole(vae, images, importance_samples=20)
    assert (whole.images, whole.importance_samples) == (12, 20)
    assert min(whole.seconds, whole.processor_seconds, whole.standard_error) > 0
    assert 0.05 < whole.gigabytes < 100
    rates = measure_rates(vae, images, importance_samples=20, images=4, rounds=1)
    written = json.loads(write_rates(whole, rates, tmp_path / "results").read_text())
    assert written["whole"]["negative_log_likelihood"] == whole.negative_log_likelihood
    assert written["rates"]["published"]["per_second"] == rates.published.per_second
    assert {"threads", "versions", "hardware", "commit"} <= written.keys()


def test_the_recorded_rates_are_within_the_limits_and_what_the_readme_says():
    recorded = json.loads((RESULTS / "rate.json").read_text())
    whole, rates = recorded["whole"], recorded["rates"]
    assert whole["seconds"] <= 5 * 60
    assert whole["gigabytes"] <= 1
    page = " ".join((Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8").split())
    told = re.search(
        r"took ([\d.]+) minutes and ([\d.]+) GB on two cores; in turn with it, ([\d,]+) .*? and ([\d,]+) by", page
    )
    assert told is not None
    found = (
        whole["seconds"] / 60,
        whole["gigabytes"],
        *(rates[name]["per_second"] for name in ("library", "published")),
    )
    assert told.groups() == tuple(
        form.format(value) for form, value in zip(("{:.1f}", "{:.2f}", "{:,.0f}", "{:,.0f}"), found, strict=True)
    )
