from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from tests.seeds import torch_generator
from vae_flows.errors import InvalidInputError
from vae_flows.likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    GreyLevels,
    Likelihood,
    NegativeBinomialLikelihood,
)

ROUNDING = 1e-11  # float64, a sum over at most a few hundred pixels
MONTE_CARLO_ERRORS = 4.5  # standard errors; with some 50 comparisons a false alarm once in 3,000 seeds

SHAPE = (2, 3, 5)


def parameters_for(likelihood: Likelihood, *batch: int, scale: float = 2.0) -> torch.Tensor:
    generator = torch_generator(1)
    channels = SHAPE[0] * likelihood.parameters_per_pixel
    return scale * torch.randn(*batch, channels, *SHAPE[1:], dtype=torch.float64, generator=generator)


def images(*batch: int, levels: int = 2) -> torch.Tensor:
    generator = torch_generator(2)
    return torch.randint(levels, (*batch, *SHAPE), generator=generator).double() / (levels - 1)


LIKELIHOODS = [BernoulliLikelihood(), CategoricalLikelihood(levels=4)]


def test_bernoulli_scores_binary_images_like_torch():
    logits, x = parameters_for(LIKELIHOODS[0], 4), images(4)
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(x).sum((-3, -2, -1))
    torch.testing.assert_close(BernoulliLikelihood().log_prob(logits, x), expected, rtol=ROUNDING, atol=ROUNDING)


def test_bernoulli_scores_soft_targets_by_the_cross_entropy():
    logits, x = parameters_for(LIKELIHOODS[0], 4), images(4, levels=11)
    p = torch.sigmoid(logits)
    expected = (x * p.log() + (1 - x) * (1 - p).log()).sum((-3, -2, -1))
    torch.testing.assert_close(BernoulliLikelihood().log_prob(logits, x), expected, rtol=ROUNDING, atol=ROUNDING)


def test_bernoulli_is_stable_for_large_logits():
    logits = torch.tensor([-1e4, 1e4, -1e4, 1e4], requires_grad=True)
    value = BernoulliLikelihood(event_dim=1).log_prob(logits, torch.tensor([0.0, 1.0, 1.0, 0.0]))
    assert value.item() == -2e4
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.tolist() == [0, 0, 1, -1]


def test_categorical_scores_the_nearest_level():
    likelihood = CategoricalLikelihood(levels=4)
    logits, levels = parameters_for(likelihood, 6), (3 * images(6, levels=4)).round().long()
    expected = torch.distributions.Categorical(logits=logits.unflatten(1, (SHAPE[0], 4)).movedim(2, -1))
    expected = expected.log_prob(levels).sum((-3, -2, -1))
    x = levels.double() / 3
    torch.testing.assert_close(likelihood.log_prob(logits, x), expected, rtol=ROUNDING, atol=ROUNDING)
    near = (x + 0.16 * torch.where(x > 0.5, -1, 1)).clamp(0, 1)
    torch.testing.assert_close(likelihood.log_prob(logits, near), expected, rtol=ROUNDING, atol=ROUNDING)


def test_every_eight_bit_level_survives_the_trip_through_float32():
    levels = torch.arange(256)
    logits = torch.arange(256.0).reshape(256, 1, 1).expand(256, 1, 256)
    per_pixel = GreyLevels(logits[None].movedim(-1, 0)[..., None], event_dim=3)
    scores = per_pixel.log_prob((levels.float() / 255).reshape(256, 1, 1, 1))
    torch.testing.assert_close(scores - scores[0], levels.float())


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda value: type(value).__name__)
def test_images_broadcast_against_samples_of_parameters(likelihood: Likelihood):
    parameters, x = parameters_for(likelihood, 5, 4), images(4)
    value = likelihood.log_prob(parameters, x)
    assert value.shape == (5, 4)
    one = torch.stack([likelihood.log_prob(sample, x) for sample in parameters])
    torch.testing.assert_close(value, one, rtol=ROUNDING, atol=ROUNDING)
    many = likelihood.log_prob(parameters[0], images(3, 4))
    assert many.shape == (3, 4)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda value: type(value).__name__)
def test_the_distribution_has_image_events_and_keeps_the_dtype(likelihood: Likelihood):
    distribution = likelihood(parameters_for(likelihood, 4))
    assert (distribution.batch_shape, distribution.event_shape) == ((4,), SHAPE)
    assert distribution.mean.shape == (4, *SHAPE)
    assert distribution.mean.dtype == torch.float64
    assert distribution.mean.min() >= 0
    assert distribution.mean.max() <= 1
    draw = distribution.sample(torch.Size([3]))
    assert (draw.shape, draw.dtype) == ((3, 4, *SHAPE), torch.float64)
    likelihood.check(draw)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda value: type(value).__name__)
def test_expanding_repeats_the_distribution(likelihood: Likelihood):
    distribution, x = likelihood(parameters_for(likelihood, 4)), images(4)
    expanded = distribution.expand((3, 4))
    assert expanded.batch_shape == (3, 4)
    assert expanded.event_shape == SHAPE
    expected = distribution.log_prob(x).expand(3, 4)
    torch.testing.assert_close(expanded.log_prob(x), expected, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda value: type(value).__name__)
def test_samples_have_the_mean(likelihood: Likelihood):
    distribution = likelihood(parameters_for(likelihood))
    draws = distribution.sample(torch.Size([4000]))
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - distribution.mean).abs() < MONTE_CARLO_ERRORS * error).all()


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda value: type(value).__name__)
def test_pyro_observes_and_draws_images(likelihood: Likelihood):
    parameters, x = parameters_for(likelihood, 4), images(4, levels=4)

    def model(observed: torch.Tensor | None) -> torch.Tensor:
        scale = pyro.sample("scale", dist.Delta(torch.ones((), dtype=torch.float64)))
        with pyro.plate("images", 4):
            return pyro.sample("x", likelihood(parameters * scale), obs=observed)

    trace = poutine.trace(model).get_trace(x)
    trace.compute_log_prob()
    scored = trace.nodes["x"].get("log_prob")
    torch.testing.assert_close(scored, likelihood.log_prob(parameters, x), rtol=ROUNDING, atol=ROUNDING)
    assert model(None).shape == (4, *SHAPE)


def test_half_precision_logits_do_not_cost_the_sum_its_digits():
    likelihood = CategoricalLikelihood(levels=4)
    logits, x = parameters_for(likelihood, 4).bfloat16(), images(4, levels=4).bfloat16()
    value = likelihood.log_prob(logits, x)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, likelihood.log_prob(logits.float(), x.float()))


def test_gradients_reach_the_parameters():
    for likelihood in LIKELIHOODS:
        parameters = parameters_for(likelihood, 2).requires_grad_()
        assert torch.autograd.gradcheck(likelihood.log_prob, (parameters, images(2)))


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1, 1.1])
def test_values_outside_the_unit_interval_are_refused(likelihood: Likelihood, bad: float):
    x = images(2)
    x[1, 0, 2, 1] = bad
    with pytest.raises(InvalidInputError, match=r"Likelihood values: expected finite values in \[0, 1\]"):
        likelihood.check(x)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda value: type(value).__name__)
def test_integer_images_are_refused_and_good_ones_pass(likelihood: Likelihood):
    with pytest.raises(InvalidInputError, match=r"expected a floating-point tensor .* got a torch.uint8 tensor.*/ 255"):
        likelihood.check(torch.zeros(2, *SHAPE, dtype=torch.uint8))
    likelihood.check(images(2, levels=256))
    likelihood.check(images(0))


def test_wrong_parameters_are_refused():
    with pytest.raises(InvalidInputError, match="parameters: expected a size divisible by 4 in dimension -3"):
        CategoricalLikelihood(levels=4)(torch.zeros(2, 6, 3, 5))
    with pytest.raises(InvalidInputError, match="CategoricalLikelihood levels: expected an integer above 1, got 1"):
        CategoricalLikelihood(levels=1)
    with pytest.raises(InvalidInputError, match="BernoulliLikelihood event_dim: expected a positive integer"):
        BernoulliLikelihood(event_dim=0)
    with pytest.raises(InvalidInputError, match=r"expected shape \(\*batch, 1, 3, 5\) with .*, got shape \(2, 2,"):
        BernoulliLikelihood().log_prob(torch.zeros(2, 1, 3, 5), images(2))


def test_grey_levels_validate_where_that_is_asked_for():
    logits, value = torch.zeros(2, 1, 4, 3, 3), torch.full((2, 1, 3, 3), torch.nan)
    for batch in ((2,), (5, 2)):
        with pytest.raises(InvalidInputError, match=r"GreyLevels value: expected values within .*, got nan"):
            GreyLevels(logits, 3, validate_args=True).expand(batch).log_prob(value)
    with pytest.raises(InvalidInputError, match=r"GreyLevels logits: expected values within Real\(\), got nan"):
        GreyLevels(logits * torch.nan, 3, validate_args=True)
    assert GreyLevels(logits, 3, validate_args=False).log_prob(torch.full((2, 1, 3, 3), 1 + 1e-3)).isfinite().all()
    with pytest.raises(InvalidInputError, match="got nan"):  # which has no level, whatever was asked for
        CategoricalLikelihood(levels=4).log_prob(torch.zeros(2, 4, 3, 3), value)


def test_grey_levels_are_drawn_where_there_are_probabilities():
    logits = torch.zeros(2, 1, 4, 3, 3)
    assert GreyLevels(logits, 3).sample((0,)).shape == (0, 2, 1, 3, 3)
    assert GreyLevels(logits[:0], 3).sample((5,)).shape == (5, 0, 1, 3, 3)
    logits[:, :, 1:] = -torch.inf  # a level that cannot be
    assert not GreyLevels(logits, 3).sample((5,)).any()
    for bad in (torch.inf, torch.nan):
        with pytest.raises(InvalidInputError, match="probabilities of GreyLevels: expected finite numbers"):
            GreyLevels(torch.full_like(logits, bad), 3, validate_args=False).sample()


@pytest.mark.parametrize("theta", [1e3, 9e5, 1.1e6, 1e9, 1e13, 1e15])
def test_negative_binomials_of_large_concentration_are_nearly_poisson(theta):
    """With variance μ + μ²/θ; their logarithms of Gamma would leave no digits."""
    raw, counts = torch.full((400,), 30.0, dtype=torch.float64), torch.arange(400, dtype=torch.float64)
    likelihood = NegativeBinomialLikelihood(concentration=theta, event_dim=1)
    probabilities = likelihood(raw.unsqueeze(-1)).log_prob(counts.unsqueeze(-1)).exp()
    mean = (counts * probabilities).sum()
    variance = ((counts - mean) ** 2 * probabilities).sum()
    rounding = 1e-8  # below 1e6 it is that of logarithms of Gamma, some 1e7 units in the last place of double precision
    assert float(probabilities.sum()) == pytest.approx(1, abs=rounding)
    assert float(mean) == pytest.approx(30, rel=1e-6)
    assert float(variance) == pytest.approx(30 + 900 / theta, rel=1e-6)
