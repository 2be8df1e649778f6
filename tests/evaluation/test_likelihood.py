"""−log p(x) of data sets: right, in constant memory, told as it goes, and taken up again after a kill."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from tests.evaluation.linear_gaussian import LinearGaussianVAE, diagonal, exact, weight
from tests.seeds import reseed
from vae_flows.data import Images
from vae_flows.errors import BiasedBoundWarning, CheckpointError, InvalidInputError
from vae_flows.evaluation import estimate_likelihood
from vae_flows.evaluation.estimates import MeanEstimate
from vae_flows.evaluation.likelihood import FILE
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder
from vae_flows.ode import ODESolver
from vae_flows.posterior import AmortizedPosterior
from vae_flows.vae import VAE

ERRORS = 5  # standard errors allowed: a false alarm in 1.7 million comparisons
SHAPE = (1, 4, 4)


def linear(make=None, orthogonal=True):
    return LinearGaussianVAE(make or diagonal(widen=1.2), weight(orthogonal=orthogonal))


def image_vae(flow="planar", **options):
    reseed()
    posterior = AmortizedPosterior(2, 6, flow=flow, **options)
    return VAE(MLPEncoder(SHAPE, (8,), 6), MLPDecoder(2, SHAPE, (8,)), posterior, BernoulliLikelihood())


def images(count=50, dynamic=False):
    reseed(1)
    levels = torch.randint(256, (count, 16 if dynamic else 2), dtype=torch.uint8)
    return Images(levels, SHAPE, packed=not dynamic, dynamic_binarization=dynamic)


def test_the_estimates_are_those_of_the_closed_form():
    vae = linear()
    x = vae.data(200)
    result = estimate_likelihood(vae, x, importance_samples=2000, particles=(10,))
    log_p, gap = vae.marginal.log_prob(x), vae.gap(x)
    assert result.particles == (1, 10, 2000)
    assert result.log_bounds.shape == (200, 3)
    error = result.monte_carlo_error
    assert result.negative_log_likelihood.nats == pytest.approx(
        float(-log_p.mean()) + result.monte_carlo_bias, abs=ERRORS * error
    )
    # log w of Gaussians has a standard deviation of about √(2 KL) at least; a generous bound of that over all draws
    elbo_error = float(result.log_bounds[:, 0].sub(log_p - gap).std()) / 200**0.5
    assert result.negative_elbo.nats == pytest.approx(float((gap - log_p).mean()), abs=ERRORS * elbo_error)
    torch.testing.assert_close(result.rate + result.distortion, -result.log_bounds[:, 0])
    assert result.bounds[0].nats > result.bounds[1].nats > result.bounds[2].nats
    assert result.negative_elbo.bits_per_dim == pytest.approx(result.negative_elbo.nats / 6 / math.log(2))
    bound = result.negative_log_likelihood
    assert bound.bits_per_dim_standard_error == pytest.approx(bound.standard_error / 6 / math.log(2))
    assert result.samples_per_second == pytest.approx(200 * 2000 / result.seconds)


def test_a_posterior_that_is_exact_leaves_no_error():
    vae = linear(exact, orthogonal=False)
    x = vae.data(7)
    result = estimate_likelihood(vae, x, importance_samples=30)
    for column in result.log_bounds.T:
        torch.testing.assert_close(column, vae.marginal.log_prob(x), rtol=1e-8, atol=1e-8)
    assert result.monte_carlo_error < 1e-4
    assert result.monte_carlo_bias < 1e-8


def test_intervals_over_images_cover_at_their_rate():
    vae = linear()
    sets, size = 400, 50
    result = estimate_likelihood(vae, vae.data(sets * size), importance_samples=200, batch_size=1000, chunk_size=10**5)
    truth = float(vae.marginal.entropy())
    pairs = [MeanEstimate.of(-values) for values in result.log_bounds[:, -1].split(size)]
    covered = sum(abs(mean - truth) < 1.96 * error for mean, error in pairs) / sets
    # Binomial error 0.011; normal quantiles for 50 images cover 0.945, the bias of 200 draws is 0.1 of an error.
    assert covered == pytest.approx(0.945, abs=ERRORS * 0.011)


def test_chunks_hold_no_more_than_they_should(monkeypatch):
    vae, sizes = image_vae(), []
    decoder_output = vae._decoder_output

    def recorded(z: Tensor) -> Tensor:
        sizes.append(z.shape[:-1].numel())
        return decoder_output(z)

    monkeypatch.setattr(vae, "_decoder_output", recorded)
    estimate_likelihood(vae, images(), importance_samples=500, batch_size=10, chunk_size=300)
    assert max(sizes) == 300
    assert sum(sizes) == 50 * 500


def test_large_layers_make_small_chunks():
    from vae_flows.evaluation.likelihood import FASTEST_ROWS, LIVE_OUTPUTS, MEMORY, _rows_at_once

    vae, x = image_vae(), images().batch([0])
    assert _rows_at_once(vae, x) == FASTEST_ROWS
    vae.decoder = MLPDecoder(2, SHAPE, (2**17,))
    assert _rows_at_once(vae, x) == MEMORY // (LIVE_OUTPUTS * 2 * 2**17 * 4)  # a gated layer is twice as wide


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_same_seed_gives_the_same_result(dynamic):
    vae, data = image_vae(), images(dynamic=dynamic)
    vae.train()
    state = torch.random.get_rng_state()
    first = estimate_likelihood(vae, data, importance_samples=20, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(module.training for module in vae.modules())
    torch.rand(3)
    assert torch.equal(estimate_likelihood(vae, data, importance_samples=20, seed=1).log_bounds, first.log_bounds)
    assert not torch.equal(estimate_likelihood(vae, data, importance_samples=20, seed=2).log_bounds, first.log_bounds)


def test_continuous_flows_have_the_exact_trace():
    options = {"hidden_dims": (8,), "amortization": "bias"}
    estimating, exact_trace = image_vae("ffjord", **options), image_vae("ffjord", divergence="exact", **options)
    exact_trace.load_state_dict(estimating.state_dict())
    first, second = (estimate_likelihood(vae, images(), importance_samples=9) for vae in (estimating, exact_trace))
    assert torch.equal(first.log_bounds, second.log_bounds)


def test_a_trace_that_stays_an_estimate_is_told():
    vae = image_vae("ffjord", hidden_dims=(8,), amortization="low_rank", rank=1, eval_divergence="hutchinson")
    with pytest.warns(BiasedBoundWarning, match="log q"):
        estimate_likelihood(vae, images(5), importance_samples=3)


def test_progress_tells_the_time_left():
    told = []
    estimate_likelihood(image_vae(), images(), importance_samples=20, batch_size=20, progress=told.append)
    assert [(step.images_done, step.num_images) for step in told] == [(20, 50), (40, 50), (50, 50)]
    assert told[-1].seconds_left == 0
    assert told[0].seconds_left > 0
    assert all(step.samples_per_second > 0 for step in told)


class Killed(Exception):  # noqa: N818 - stands for a signal
    pass


def kill_after(batches):
    def progress(step):
        if step.images_done >= batches * 20:
            raise Killed

    return progress


def test_a_killed_evaluation_goes_on(tmp_path):
    vae, data = image_vae(), images(60)
    options = {"importance_samples": 20, "batch_size": 20, "folder": tmp_path / "evaluation"}
    whole = estimate_likelihood(vae, data, **{**options, "folder": None})
    with pytest.raises(Killed):
        estimate_likelihood(vae, data, progress=kill_after(2), **options)
    told = []
    resumed = estimate_likelihood(vae, data, progress=told.append, **options)
    assert [step.images_done for step in told] == [60]  # only the last batch was left
    assert torch.equal(resumed.log_bounds, whole.log_bounds)
    assert torch.equal(resumed.rate, whole.rate)
    again = estimate_likelihood(vae, data, progress=told.append, **options)
    assert len(told) == 1
    assert again.seconds == resumed.seconds
    assert [entry.name for entry in (tmp_path / "evaluation").iterdir()] == [FILE]


def test_values_of_something_else_are_not_taken(tmp_path):
    vae, data = image_vae(), images(40)
    options = {"importance_samples": 5, "folder": tmp_path}
    estimate_likelihood(vae, data, **options)
    with pytest.raises(CheckpointError, match="the same examples"):
        estimate_likelihood(vae, Images(data.storage.flip(0), SHAPE, packed=True), **options)
    with pytest.raises(CheckpointError, match="those of others"):
        estimate_likelihood(vae, data, seed=1, **options)
    with torch.no_grad():
        vae.decoder.body[-1].bias.add_(1)
    with pytest.raises(CheckpointError, match="same model"):
        estimate_likelihood(vae, data, **options)


def normal(scale):
    return Independent(Normal(torch.zeros(2), torch.full((2,), scale)), 1)


@pytest.mark.parametrize(
    "change",
    [
        {"prior": 5.0},
        {"eval_solver": ODESolver(rtol=1e-3)},
        {"solver": ODESolver("bosh3")},
        {"eval_divergence": "brute_force"},
        {"activation": "tanh"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_values_of_other_settings_of_the_model_are_not_taken(tmp_path, change):
    """Which are neither weights nor printed."""

    def made(prior=1.0, **flow):
        vae = image_vae("ffjord", hidden_dims=(4,), **flow)
        return VAE(vae.encoder, vae.decoder, vae.posterior, vae.likelihood, normal(prior))

    data, options = images(10), {"importance_samples": 3, "folder": tmp_path}
    first = estimate_likelihood(made(), data, **options)
    assert estimate_likelihood(made(), data, **options).negative_elbo == first.negative_elbo
    with pytest.raises(CheckpointError, match="same model"):
        estimate_likelihood(made(**change), data, **options)


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_damaged_file_is_told(tmp_path, damage):
    (tmp_path / FILE).write_bytes(damage)
    with pytest.raises(CheckpointError, match="values of an evaluation, got damage"):
        estimate_likelihood(image_vae(), images(5), importance_samples=5, folder=tmp_path)


def test_a_single_image_and_a_single_draw_have_no_errors():
    assert math.isnan(estimate_likelihood(image_vae(), images(1), importance_samples=3).negative_elbo.standard_error)
    assert math.isinf(estimate_likelihood(image_vae(), images(2), importance_samples=1).monte_carlo_error)


def test_wrong_sizes_are_refused():
    for wrong in (
        {"importance_samples": 0},
        {"particles": (0,)},
        {"particles": (9999,)},
        {"batch_size": -1},
        {"batch_size": 0},
        {"chunk_size": 0},
    ):
        with pytest.raises(InvalidInputError, match="estimate_likelihood"):
            estimate_likelihood(image_vae(), images(), **wrong)
