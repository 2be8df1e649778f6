"""What every likelihood promises, one row each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyro
import pytest
import scipy.stats
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

import vae_flows as vf
from tests.seeds import reseed, torch_generator
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.likelihoods import Likelihood, available_likelihoods, make_likelihood
from vae_flows.networks import MLPDecoder, MLPEncoder
from vae_flows.persistence.configuration import build, describe

ROUNDING = 1e-10  # float64, sums over at most a few thousand values
QUADRATURE = 1e-6  # trapezoids between the points of `grid`, and tails left out
MONTE_CARLO_ERRORS = 5.0  # standard errors; with some 100 comparisons a false alarm once in 17,000 seeds


class Row(NamedTuple):
    name: str
    options: dict[str, Any]
    grid: Callable[[], Tensor]
    """Values over which probabilities are summed, or densities integrated."""
    bad: float
    reference: Callable[[np.ndarray, list[np.ndarray]], np.ndarray] | None = None
    """Log-density of values and raw parameters, from SciPy or a closed form of another kind."""


def unit(count: int) -> Callable[[], Tensor]:
    return lambda: torch.linspace(0, 1, count, dtype=torch.float64)


def real() -> Tensor:
    """Points that are dense at zero and reach far, for heavy tails."""
    return torch.sinh(torch.linspace(-14, 14, 200_001, dtype=torch.float64))


def counts() -> Tensor:
    return torch.arange(3000, dtype=torch.float64)


def positive(raw: np.ndarray) -> np.ndarray:
    return 1e-3 + np.logaddexp(0, raw)


def rate(raw: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, raw)


def normal(x: np.ndarray, raw: list[np.ndarray]) -> np.ndarray:
    return scipy.stats.norm.logpdf(x, raw[0], positive(raw[1]))


def laplace(x: np.ndarray, raw: list[np.ndarray]) -> np.ndarray:
    return scipy.stats.laplace.logpdf(x, raw[0], positive(raw[1]))


def student(x: np.ndarray, raw: list[np.ndarray]) -> np.ndarray:
    return scipy.stats.t.logpdf(x, 5, raw[0], positive(raw[1]))


def truncated_exponential(x: np.ndarray, raw: list[np.ndarray]) -> np.ndarray:
    size = np.abs(raw[0])  # a continuous Bernoulli is an exponential distribution, cut at one, and maybe mirrored
    return scipy.stats.truncexpon.logpdf(np.where(raw[0] > 0, 1 - x, x), b=size, scale=1 / size)


def negative_binomial(x: np.ndarray, mean: np.ndarray, theta: np.ndarray) -> np.ndarray:
    return scipy.stats.nbinom.logpmf(x, theta, theta / (theta + mean))


def logistic_bins(x: np.ndarray, raw: list[np.ndarray]) -> np.ndarray:
    base = scipy.stats.logistic((raw[0] + 1) / 2, math.exp(-7) / 2 + np.logaddexp(0, raw[1]))
    upper = np.where(x > 1 - 1e-6, 1.0, base.cdf(x + 0.5 / 255))
    return np.log(upper - np.where(x < 1e-6, 0.0, base.cdf(x - 0.5 / 255)))


ROWS = [
    Row("bernoulli", {}, unit(2), 1.5, lambda x, r: scipy.stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-r[0])))),
    Row("categorical", {"levels": 4}, unit(4), 1.5),
    Row("gaussian", {"scale": "emitted"}, real, math.nan, normal),
    Row("gaussian", {"scale": "learned"}, real, math.inf, lambda x, r: scipy.stats.norm.logpdf(x, r[0], 1.0)),
    Row("gaussian", {"scale": 0.3}, real, -math.inf, lambda x, r: scipy.stats.norm.logpdf(x, r[0], 0.3)),
    Row("laplace", {"scale": "emitted"}, real, math.nan, laplace),
    Row("laplace", {"scale": "learned"}, real, math.nan, lambda x, r: scipy.stats.laplace.logpdf(x, r[0], 1.0)),
    Row("student-t", {"scale": "emitted"}, real, math.nan, student),
    Row("student-t", {"scale": 2.0, "degrees_of_freedom": 7.5}, real, math.inf,
        lambda x, r: scipy.stats.t.logpdf(x, 7.5, r[0], 2.0)),
    Row("continuous-bernoulli", {}, unit(20_001), 1.5, truncated_exponential),
    Row("discretized-logistic", {}, unit(256), -0.01, logistic_bins),
    Row("discretized-logistic", {"scale": "learned", "levels": 2}, unit(2), math.nan),
    Row("poisson", {}, counts, 1.5, lambda x, r: scipy.stats.poisson.logpmf(x, rate(r[0]))),
    Row("negative-binomial", {"concentration": "emitted"}, counts, -1.0,
        lambda x, r: negative_binomial(x, rate(r[0]), positive(r[1]))),
    Row("negative-binomial", {"concentration": "learned"}, counts, math.nan,
        lambda x, r: negative_binomial(x, rate(r[0]), np.ones_like(r[0]))),
]  # fmt: skip
each_row = pytest.mark.parametrize(
    "row", ROWS, ids=[f"{row.name}-{'-'.join(map(str, row.options.values()))}" for row in ROWS]
)

SIZE = 6


def made(row: Row, **options: Any) -> Likelihood:
    return make_likelihood(row.name, **{"event_dim": 1, **row.options, **options}).double()


def parameters_for(likelihood: Likelihood, *batch: int) -> Tensor:
    # Away from zero, where SciPy's form of the continuous Bernoulli is not defined.
    raw = torch.rand(*batch, SIZE * likelihood.parameters_per_pixel, generator=torch_generator(3), dtype=torch.float64)
    return 2 * raw + 0.2


def draws(likelihood: Likelihood, parameters: Tensor, *shape: int) -> Tensor:
    reseed(4)
    return likelihood.sample(parameters, shape)


def test_every_likelihood_has_a_row():
    own = {name for name in available_likelihoods() if not name.startswith("my-")}
    assert own == {row.name for row in ROWS}


@each_row
def test_shapes_and_support(row: Row):
    likelihood = made(row)
    parameters = parameters_for(likelihood, 3, 2)
    x = draws(likelihood, parameters)
    assert x.shape == likelihood.mean(parameters).shape == (3, 2, SIZE)
    assert x.dtype == likelihood.mean(parameters).dtype == torch.float64
    likelihood.check(x)
    assert likelihood.log_prob(parameters, x[0]).shape == (3, 2)
    expanded = likelihood(parameters[0]).expand((3, 2))
    torch.testing.assert_close(
        expanded.log_prob(x), likelihood.log_prob(parameters[0], x), rtol=ROUNDING, atol=ROUNDING
    )
    x[1, 0, 4] = row.bad
    with pytest.raises(InvalidInputError, match=rf"got {str(row.bad).replace('.', '[.]')} at \(1, 0, 4\)"):
        likelihood.check(x)


@each_row
def test_probabilities_sum_to_one(row: Row):
    likelihood, grid = made(row), row.grid()
    parameters = parameters_for(likelihood)
    # One value at a time: the others are the same distribution's, and a batch of them is cheap.
    raw = parameters.reshape(SIZE, -1)[:2]
    log_prob = torch.stack([likelihood.log_prob(r.expand(len(grid), -1), grid[:, None]) for r in raw])
    total = log_prob.exp().sum(-1) if likelihood.is_discrete else torch.trapezoid(log_prob.exp(), grid)
    tolerance = ROUNDING if likelihood.is_discrete else QUADRATURE
    torch.testing.assert_close(total, torch.ones_like(total), rtol=tolerance, atol=tolerance)


@each_row
def test_values_are_checked_by_the_likelihood_alone_and_not_at_each_score(row: Row):
    # To look at values would wait for the device at each step of training.
    likelihood = made(row)
    assert likelihood(parameters_for(likelihood, 3))._validate_args is False


@pytest.mark.parametrize("row", [row for row in ROWS if row.reference], ids=lambda row: row.name)
def test_the_log_density_is_that_of_the_reference(row: Row):
    assert row.reference is not None
    likelihood = made(row)
    parameters = parameters_for(likelihood, 5)
    x = draws(likelihood, parameters)
    raw = [part.detach().numpy() for part in likelihood.split(parameters)]
    expected = torch.from_numpy(row.reference(x.numpy(), raw)).sum(-1)
    actual = likelihood.log_prob(parameters, x).detach()
    # Differences of SciPy's cdf lose digits; a learned scale starts at one in single precision.
    tolerance = 1e-6 if "learned" in row.options.values() else 1e-9
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@each_row
def test_draws_have_the_mean(row: Row):
    likelihood = made(row)
    parameters = parameters_for(likelihood)
    x = draws(likelihood, parameters, 20_000)
    error = x.std(0) / len(x) ** 0.5
    assert ((x.mean(0) - likelihood.mean(parameters)).abs() < MONTE_CARLO_ERRORS * error).all()


@each_row
def test_gradients_are_those_of_finite_differences(row: Row):
    likelihood = made(row)
    parameters = parameters_for(likelihood, 2)
    x = draws(likelihood, parameters)
    assert torch.autograd.gradcheck(likelihood.log_prob, (parameters.requires_grad_(), x))


@each_row
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [0.0, 1e4, -1e4])
def test_extreme_outputs_have_finite_values_and_gradients(row: Row, dtype: torch.dtype, size: float):
    likelihood = made(row).float()
    parameters = torch.full((2, SIZE * likelihood.parameters_per_pixel), size, dtype=dtype, requires_grad=True)
    for value in (0.0, 1.0):
        log_prob = likelihood.log_prob(parameters, torch.full((2, SIZE), value, dtype=dtype))
        assert log_prob.isfinite().all()
        (gradient,) = torch.autograd.grad(log_prob.sum(), parameters)
        if dtype != torch.float16:  # which ends at 65,504: true gradients exceed it
            assert gradient.isfinite().all()
    assert likelihood.mean(parameters).isfinite().all()


@each_row
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(row: Row, dtype: torch.dtype):
    if row.name == "bernoulli":
        pytest.skip("keeps the dtype of its logits")
    likelihood = made(row).float()
    parameters = parameters_for(likelihood, 2).to(dtype)
    x = draws(likelihood, parameters.double()).to(dtype)
    value = likelihood.log_prob(parameters, x)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, likelihood.log_prob(parameters.float(), x.float()))


@each_row
def test_meta_tensors_have_shapes(row: Row):
    likelihood = made(row).to("meta")
    parameters = torch.empty(2, SIZE * likelihood.parameters_per_pixel, device="meta")
    x = torch.empty(2, SIZE, device="meta")
    likelihood.check(x)
    assert likelihood.log_prob(parameters, x).shape == (2,)
    assert likelihood.mean(parameters).shape == (2, SIZE)


@each_row
def test_a_description_builds_it_again(row: Row):
    likelihood = made(row)
    again = build(describe(likelihood)).double()
    again.load_state_dict(likelihood.state_dict())
    parameters = parameters_for(likelihood, 2)
    x = draws(likelihood, parameters)
    assert torch.equal(again.log_prob(parameters, x), likelihood.log_prob(parameters, x))


@each_row
def test_a_vae_trains_with_it(row: Row):
    reseed(5)
    shape = (3, 2, 2)
    likelihood = make_likelihood(row.name, **row.options)
    decoder = MLPDecoder(2, shape, (4,), parameters_per_pixel=likelihood.parameters_per_pixel)
    vae = vf.VAE(MLPEncoder(shape, (4,), 3), decoder, vf.AmortizedPosterior(2, 3, "planar"), likelihood)
    x = vae.decode(torch.randn(5, 2)).sample()
    assert vae.elbo(x).elbo.isfinite().all()
    assert vae.reconstruct(x).shape == x.shape
    assert vae.generate(4).shape == (4, *shape)
    pyro.clear_param_store()
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())  # pyright: ignore
    assert math.isfinite(svi.step(x))


def test_colours_are_parameters_of_their_channels():
    likelihood = make_likelihood("gaussian", scale="emitted")
    parameters = torch.randn(2, 6, 4, 4)
    loc, raw = likelihood.split(parameters)
    assert torch.equal(loc, parameters[:, 0::2])
    assert torch.equal(raw, parameters[:, 1::2])


def test_the_continuous_bernoulli_is_smooth_at_one_half():
    likelihood = make_likelihood("continuous-bernoulli", event_dim=1)
    logits = torch.cat([torch.logspace(-12, 1, 300, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    zero = torch.zeros(len(logits), 1, dtype=torch.float64)
    value = likelihood.log_prob(logits[:, None], zero)
    expected = torch.where(logits > 0, (logits / torch.expm1(logits).clamp_min(1e-300)).log(), 0.0)
    torch.testing.assert_close(value, expected, rtol=1e-13, atol=1e-15)
    variable = logits[:, None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(likelihood.log_prob(variable, zero).sum(), variable)
    # The mean is minus the derivative; the two are coded apart, and cancel at most four digits where series end.
    torch.testing.assert_close(-gradient, likelihood.mean(logits[:, None]), rtol=1e-12, atol=0)


def test_bits_of_density_and_of_levels_agree_where_bins_are_small():
    density, levels = make_likelihood("gaussian", scale=0.2, event_dim=1), 256
    x, loc = torch.arange(256, dtype=torch.float64)[:, None] / 255, torch.full((256, 1), 0.5, dtype=torch.float64)
    mass = density.log_prob(loc, x) + density.log_bin_size(levels)
    normal = torch.distributions.Normal(loc, torch.full_like(loc, 0.2))
    expected = (normal.cdf(x + 0.5 / 255) - normal.cdf(x - 0.5 / 255)).log()[:, 0]
    torch.testing.assert_close(mass, expected, rtol=0, atol=2e-4)  # (bin / σ)² / 24 times the curvature
    assert make_likelihood("categorical").log_bin_size(levels) == 0.0


def test_unknown_names_and_options_are_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'gaussian'"):
        make_likelihood("gausian")
    with pytest.raises(InvalidInputError, match=r"one of scale, event_dim, got 'scales'\. Did you mean 'scale'"):
        make_likelihood("gaussian", scales=1.0)
    with pytest.raises(InvalidInputError, match=r"scale: expected a finite number above 0\.0, got -1\.0"):
        make_likelihood("laplace", scale=-1.0)
    with pytest.raises(InvalidInputError, match="degrees_of_freedom"):
        make_likelihood("student-t", degrees_of_freedom=1.0)
