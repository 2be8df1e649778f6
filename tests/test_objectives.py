"""Values and gradients of the objectives, against closed forms, differences and long Monte Carlo."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
import torch.distributions as td
from torch import Tensor

import vae_flows as vf
from tests.seeds import reseed
from tests.small_flows import DISCRETE, FLOWS, moved
from vae_flows.distributions import draw_from
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.objectives import draw, elbo, importance_weighted_bound, renyi_average, renyi_bound, renyi_terms

D, C = 2, 3
ALPHAS = [-1.0, 0.0, 0.5, 1.0, 2.0]

ROUNDING = 1e-9
DIFFERENCES = 1e-6  # truncation and rounding of central differences with STEP
STEP = 1e-5
SOLVER = 1e-5  # forward and backward solves with steps of 1/20
STANDARD_ERRORS = 5  # two-sided false-alarm rate 6e-7 per entry, 6e-5 for all entries of this file

OWN = [*DISCRETE, "ffjord-fixed-steps"]


def posterior(flow: str) -> vf.AmortizedPosterior:
    return moved(FLOWS[flow].posterior(D, C), by=0.2)


def close(actual: Tensor, expected: Tensor, tolerance: float = ROUNDING) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def skewed(z: Tensor) -> Tensor:
    """Log-density, up to a constant, of a target that is neither a Gaussian nor symmetric."""
    return -((z - 0.7) ** 2).sum(-1) / 2 + z.sin().prod(-1)


class LinearGaussian:
    """z ~ N(0, 1) and x ~ N(weight z, 1): posterior, evidence and divergences are known."""

    def __init__(self, weight: float = 1.5, x: float = 0.8) -> None:
        self.weight = scalar(weight)
        self.x = torch.tensor(x, dtype=torch.float64)

    def log_likelihood(self, z: Tensor) -> Tensor:
        return td.Normal(self.weight * z, 1.0).log_prob(self.x)

    def log_prior(self, z: Tensor) -> Tensor:
        return td.Normal(torch.zeros_like(self.x), 1.0).log_prob(z)

    def log_joint(self, z: Tensor) -> Tensor:
        return self.log_likelihood(z) + self.log_prior(z)

    def posterior(self) -> td.Normal:
        precision = 1 + self.weight**2
        return td.Normal(self.weight * self.x / precision, precision**-0.5)

    def evidence(self) -> Tensor:
        return td.Normal(torch.zeros_like(self.x), (1 + self.weight**2).sqrt()).log_prob(self.x)

    def renyi(self, q: td.Normal, alpha: float) -> Tensor:
        """log p(x) − D_α(q ‖ p(z | x)) (Gil et al. 2013, table 2)."""
        p = self.posterior()
        if alpha == 1:
            return self.evidence() - td.kl_divergence(q, p)
        mixed = alpha * p.variance + (1 - alpha) * q.variance
        divergence = (
            (p.scale / q.scale).log()
            + (p.variance / mixed).log() / (2 * (alpha - 1))
            + alpha * (q.loc - p.loc) ** 2 / (2 * mixed)
        )
        return self.evidence() - divergence


# Averages of weights


@pytest.mark.parametrize("alpha", ALPHAS)
def test_average_is_that_of_powers(alpha: float) -> None:
    log_weights = 3 * torch.randn(7, 5, dtype=torch.float64).requires_grad_()
    average = renyi_average(log_weights, alpha)
    powers = log_weights.exp().pow(1 - alpha)
    close(average, log_weights.mean(0) if alpha == 1 else powers.mean(0).log() / (1 - alpha))
    (gradient,) = torch.autograd.grad(average.sum(), log_weights)
    close(gradient, ((1 - alpha) * log_weights).softmax(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_near_one_the_average_keeps_its_digits(dtype: torch.dtype, sign: int, scale: float) -> None:
    log_weights = scale * (torch.randn(50, 4, dtype=torch.float64) - 1)
    for exponent in range(1, 15):
        order = sign * 10.0**-exponent
        alpha = 1 - order
        order = 1 - alpha
        small = log_weights - log_weights.mean(0)
        # The cumulants' series where it converges, else powers in float64 with the mean taken out first.
        series = order / 2 * small.pow(2).mean(0) + order**2 / 6 * small.pow(3).mean(0)
        powers = ((order * small).logsumexp(0) - math.log(50)) / order
        expected = log_weights.mean(0) + (series if (order * small).abs().max() < 1e-5 else powers)
        actual = renyi_average(log_weights.to(dtype), alpha)
        tolerance = 200 * torch.finfo(dtype).eps if dtype == torch.float32 else 1e-9
        torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=scale * tolerance)


def test_large_and_vanishing_weights_do_no_harm() -> None:
    log_weights = torch.tensor([[1e4, -1e4, -math.inf], [1e4 + 1, -1e4, 0.0]], dtype=torch.float64).requires_grad_()
    average = renyi_average(log_weights, 0.0)
    close(average, torch.tensor([1e4 + math.log((1 + math.e) / 2), -1e4, -math.log(2)], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(average.sum(), log_weights)
    assert gradient.isfinite().all()
    assert renyi_average(log_weights, 2.0)[2] == -math.inf


# Values


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("particles", [1, 4])
def test_with_the_true_posterior_every_draw_gives_the_evidence(alpha: float, particles: int) -> None:
    model = LinearGaussian()
    q = model.posterior().expand((6,))
    expected = model.evidence().expand(6)
    close(renyi_bound(model.log_joint, q, alpha, particles), expected)
    close(importance_weighted_bound(model.log_joint, q, particles), expected)
    close(elbo(model.log_likelihood, model.log_prior, q, particles).elbo, expected)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_renyi_bounds_reach_their_closed_form(alpha: float) -> None:
    model, repeats, particles = LinearGaussian(), 50, 4_000
    # At this scale fourth moments of the averaged powers are finite for every order, as a standard error asks.
    q = td.Normal(torch.tensor(0.2, dtype=torch.float64), 0.6)
    with torch.no_grad():
        bounds = renyi_bound(model.log_joint, q.expand((repeats,)), alpha, particles)
        whole = renyi_bound(model.log_joint, q, alpha, repeats * particles)
        expected = model.renyi(q, alpha)
    error = bounds.std() / repeats**0.5  # that of `whole`, whose bias is far below it
    assert error < 0.01
    assert (whole - expected).abs() < STANDARD_ERRORS * error


def test_elbo_and_its_terms_reach_their_closed_forms() -> None:
    model, particles, beta = LinearGaussian(), 200_000, 0.3
    q = td.Normal(torch.tensor([0.2, -1.0], dtype=torch.float64), 0.8)
    with torch.no_grad():
        terms = elbo(model.log_likelihood, model.log_prior, q, particles, beta=beta)
        kl = td.kl_divergence(q, td.Normal(0.0, 1.0))
        log_likelihood = model.log_likelihood(q.loc) - model.weight**2 * q.variance / 2
        z = q.sample(torch.Size([particles]))
        errors = [v.std(0) / particles**0.5 for v in (model.log_likelihood(z), q.log_prob(z) - model.log_prior(z))]
    assert ((terms.log_likelihood - log_likelihood).abs() < STANDARD_ERRORS * errors[0]).all()
    assert ((terms.kl - kl).abs() < STANDARD_ERRORS * errors[1]).all()
    close(terms.elbo, terms.log_likelihood - beta * terms.kl)
    assert terms.regularization is None


def test_one_draw_is_the_default() -> None:
    model, q = LinearGaussian(), td.Normal(torch.tensor([0.2, -1.0], dtype=torch.float64), 0.8)
    assert draw(q).z.shape == (1, 2)
    bounds = []
    for particles in ((), (1,)):
        reseed(7)
        bounds.append(elbo(model.log_likelihood, model.log_prior, q, *particles).elbo)
    assert torch.equal(*bounds)


def test_bounds_are_ordered_by_alpha_and_meet_at_their_special_cases() -> None:
    model, q = LinearGaussian(), td.Normal(torch.tensor(0.2, dtype=torch.float64), 0.8)

    def seeded(bound: Callable[[], Tensor]) -> float:
        reseed(7)
        return float(bound().detach())

    values = [
        seeded(lambda alpha=alpha: renyi_bound(model.log_joint, q, alpha, 20)) for alpha in (-1, 0, 0.5, 0.99, 1, 2)
    ]
    assert values == sorted(values, reverse=True)
    expected_elbo = seeded(lambda: elbo(model.log_likelihood, model.log_prior, q, 20).elbo)
    assert values[4] == pytest.approx(expected_elbo, rel=ROUNDING)
    assert values[1] == pytest.approx(seeded(lambda: importance_weighted_bound(model.log_joint, q, 20)), rel=ROUNDING)
    log_weights = model.log_joint(draw(q, 20).z)
    assert renyi_average(log_weights, 0.0) > log_weights.mean()


# Gradients


def bound_of(name: str, gradient: str = "reparameterized") -> Callable[[LinearGaussian, td.Distribution], Tensor]:
    """Return one of the objectives of a linear Gaussian model as a function of model and posterior."""
    if name == "elbo":
        return lambda model, q: elbo(model.log_likelihood, model.log_prior, q, 3, beta=0.7, gradient=gradient).elbo
    if name == "iwae":
        return lambda model, q: importance_weighted_bound(model.log_joint, q, 3, gradient=gradient)
    if name.startswith("terms"):
        alpha, beta = map(float, name.split()[1:])
        return lambda model, q: (
            renyi_terms(model.log_likelihood, model.log_prior, q, alpha, 3, beta=beta, gradient=gradient).elbo
        )
    return lambda model, q: renyi_bound(model.log_joint, q, float(name), 3, gradient=gradient)


@pytest.mark.parametrize("name", ["elbo", "iwae", "-1", "0.5", "0.9999999", "2", "terms 0 0.3", "terms 2 1"])
def test_reparameterised_gradients_are_differences_of_the_value(name: str) -> None:
    bound = bound_of(name)

    def value(loc: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
        reseed(3)
        model = LinearGaussian()
        model.weight = weight
        return bound(model, td.Normal(loc, scale))

    points = [scalar(0.2), scalar(0.6), scalar(1.5)]
    gradients = torch.autograd.grad(value(*points), points)
    for index, gradient in enumerate(gradients):
        steps = [STEP * (other == index) for other in range(3)]
        above = value(*(point + step for point, step in zip(points, steps, strict=True)))
        below = value(*(point - step for point, step in zip(points, steps, strict=True)))
        close(gradient, (above - below) / (2 * STEP), DIFFERENCES)


@pytest.mark.parametrize("name", ["elbo", "iwae", "-1", "0.5", "1", "2", "terms 0 0.3", "terms 0.5 0.7"])
def test_both_estimators_agree_on_the_value_and_the_models_gradient(name: str) -> None:
    results = []
    for gradient in ("reparameterized", "path"):
        reseed(3)
        model, loc = LinearGaussian(), scalar(0.2)
        value = bound_of(name, gradient)(model, td.Normal(loc, 0.6))
        results.append((value, *torch.autograd.grad(value, [model.weight, loc])))
    (value, of_model, of_q), (path_value, path_of_model, path_of_q) = results
    close(path_value, value)
    close(path_of_model, of_model)
    assert abs(path_of_q - of_q) > 1e-3


@pytest.mark.parametrize("flow", OWN)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_path_gradients_vanish_where_q_is_the_posterior(flow: str, alpha: float) -> None:
    module, context = posterior(flow), torch.randn(5, C, dtype=torch.float64)
    target = copy.deepcopy(module).requires_grad_(False)(context).log_prob
    norms = []
    for gradient in ("path", "reparameterized"):
        module.zero_grad()
        bound = renyi_bound(target, module(context), alpha, 4, gradient=gradient)
        close(bound, torch.zeros_like(bound), SOLVER)
        bound.sum().backward()
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        assert gradients
        norms.append(max(float(gradient.abs().max()) for gradient in gradients))
    assert norms[0] < SOLVER < 1e-2 < norms[1]


@pytest.mark.parametrize("flow", OWN)
def test_path_gradients_of_the_elbo_vanish_where_q_is_the_posterior(flow: str) -> None:
    module, context = posterior(flow), torch.randn(5, C, dtype=torch.float64)
    target = copy.deepcopy(module).requires_grad_(False)(context).log_prob
    elbo(target, lambda z: torch.zeros(z.shape[:-1]).double(), module(context), gradient="path").elbo.sum().backward()
    assert all(parameter.grad.abs().max() < SOLVER for parameter in module.parameters() if parameter.grad is not None)


@pytest.mark.parametrize(
    ("flow", "alpha"), [*((flow, 0.5) for flow in OWN), *(("planar", alpha) for alpha in (-1.0, 0.0, 1.0, 2.0))]
)
def test_path_gradients_have_the_expectation_of_ordinary_ones(flow: str, alpha: float) -> None:
    module, row, repeats = posterior(flow), torch.randn(C, dtype=torch.float64), 5_000
    gradients = []
    for gradient in ("reparameterized", "path"):
        reseed(1)
        context = row.expand(repeats, C).clone().requires_grad_()  # one independent estimate a row
        renyi_bound(skewed, module(context), alpha, 3, gradient=gradient).sum().backward()
        assert context.grad is not None
        gradients.append(context.grad)
    difference = gradients[0] - gradients[1]
    error = difference.std(0) / repeats**0.5
    assert (error > 0).all()
    assert (difference.mean(0).abs() < STANDARD_ERRORS * error).all()


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.1), (0.0, 1.0), (0.5, 0.4), (1.0, 0.4), (2.0, 0.4)])
def test_path_gradients_of_annealed_weights_have_the_expectation_of_ordinary_ones(alpha: float, beta: float) -> None:
    model, repeats = LinearGaussian(), 50_000
    gradients = []
    for gradient in ("reparameterized", "path"):
        reseed(1)
        points = [torch.full((repeats,), value, dtype=torch.float64, requires_grad=True) for value in (0.2, 0.6)]
        terms = renyi_terms(
            model.log_likelihood, model.log_prior, td.Normal(*points), alpha, 3, beta=beta, gradient=gradient
        )
        gradients.append(torch.stack(torch.autograd.grad(terms.elbo.sum(), points)))
    difference = gradients[0] - gradients[1]
    error = difference.std(1) / repeats**0.5
    assert (error > 0).any()
    assert (difference.mean(1).abs() < STANDARD_ERRORS * error + ROUNDING).all()


@pytest.mark.parametrize("gradient", ["reparameterized", "path"])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_terms_belong_to_the_bounds(alpha: float, gradient: str) -> None:
    model = LinearGaussian()
    results = []
    for name in ("bound", "terms", "elbo"):
        reseed(3)
        loc = torch.tensor([0.2, -0.4], dtype=torch.float64, requires_grad=True)
        q, likelihood, prior = td.Normal(loc, 0.6), model.log_likelihood, model.log_prior
        if name == "elbo":
            terms = elbo(likelihood, prior, q, 4, beta=0.7, gradient=gradient)
        elif name == "terms":
            terms = renyi_terms(likelihood, prior, q, alpha, 4, beta=1.0, gradient=gradient)
        else:
            value = renyi_bound(model.log_joint, q, alpha, 4, gradient=gradient)
            results.append((value, *torch.autograd.grad(value.sum(), loc)))
            continue
        results.append((terms.elbo, *torch.autograd.grad(terms.elbo.sum(), loc), terms.log_likelihood, terms.kl))
    for one, other in zip(results[0], results[1], strict=False):
        close(one, other)
    for one, other in zip(results[1][2:], results[2][2:], strict=True):
        close(one, other)
    reseed(3)
    q = td.Normal(torch.tensor([0.2, -0.4], dtype=torch.float64), 0.6)
    close(renyi_terms(model.log_likelihood, model.log_prior, q, 1.0, 4, beta=0.7).elbo, results[2][0])


def test_expected_path_gradient_of_the_elbo_is_the_closed_form() -> None:
    model, repeats = LinearGaussian(), 50_000
    loc, scale = (torch.full((repeats,), value, dtype=torch.float64, requires_grad=True) for value in (0.2, 0.8))
    elbo(model.log_likelihood, model.log_prior, td.Normal(loc, scale), gradient="path").elbo.sum().backward()
    points = scalar(0.2), scalar(0.8)
    expected = torch.autograd.grad(model.renyi(td.Normal(*points), 1), points)
    for samples, closed_form in zip((loc.grad, scale.grad), expected, strict=True):
        assert samples is not None
        assert (samples.mean() - closed_form).abs() < STANDARD_ERRORS * samples.std() / repeats**0.5


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
def test_with_many_particles_path_gradients_are_those_of_the_closed_form(alpha: float) -> None:
    model, repeats, particles = LinearGaussian(), 200, 2_000
    start = (0.2, 0.5)
    loc, scale = (torch.full((repeats,), value, dtype=torch.float64, requires_grad=True) for value in start)
    renyi_bound(model.log_joint, td.Normal(loc, scale), alpha, particles, gradient="path").sum().backward()
    points = scalar(start[0]), scalar(start[1])
    expected = torch.autograd.grad(model.renyi(td.Normal(*points), alpha), points)
    bias = 10 / particles  # of a ratio of means
    for samples, closed_form in zip((loc.grad, scale.grad), expected, strict=True):
        assert samples is not None
        assert (samples.mean() - closed_form).abs() < STANDARD_ERRORS * samples.std() / repeats**0.5 + bias


@pytest.mark.parametrize("gradient", ["reparameterized", "path"])
def test_chunks_change_neither_values_nor_gradients(gradient: str) -> None:
    noise = torch.randn(7, 4, D, dtype=torch.float64)

    class Given(td.Normal):
        """A Gaussian whose draws are given, in order."""

        drawn = 0

        def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 - torch's signature
            start, self.drawn = self.drawn, self.drawn + sample_shape[0]
            return self.loc + self.scale * noise[start : self.drawn]

    results = []
    for chunk_size in (None, 3, 1):
        loc = torch.zeros(4, D, dtype=torch.float64, requires_grad=True)
        q = td.Independent(Given(loc, loc.detach() + 0.9), 1)
        bound = renyi_bound(skewed, q, 0.5, 7, chunk_size=chunk_size, gradient=gradient)
        results.append((bound, *torch.autograd.grad(bound.sum(), loc)))
    for value, of_loc in results[1:]:
        close(value, results[0][0])
        close(of_loc, results[0][1])


@pytest.mark.parametrize("gradient", ["reparameterized", "path"])
def test_posteriors_of_any_shape_and_kind(gradient: str) -> None:
    rate = torch.rand(4, 2, 3, dtype=torch.float64) + 1
    rate.requires_grad_()
    for q in (
        td.Independent(td.Gamma(2.0, rate), 2),
        td.TransformedDistribution(td.Independent(td.Normal(rate, 1.0), 2), [td.ExpTransform()]),
        td.LowRankMultivariateNormal(rate, torch.ones(4, 2, 3, 1).double(), torch.ones(4, 2, 3).double()),
    ):
        bound = renyi_bound(
            lambda z, q=q: -z.square().flatten(-len(q.event_shape)).sum(-1), q, 0.5, 3, gradient=gradient
        )
        assert bound.shape == q.batch_shape
        (of_rate,) = torch.autograd.grad(bound.sum(), rate)
        assert of_rate.isfinite().all()
        assert of_rate.abs().min() > 0


def test_single_precision_is_kept() -> None:
    module = posterior("planar").float()
    for gradient in ("reparameterized", "path"):
        bound = renyi_bound(skewed, module(torch.randn(5, C)), 0.5, 3, gradient=gradient)
        assert bound.dtype == torch.float32
        assert bound.isfinite().all()


def test_without_gradients_no_score_is_computed() -> None:
    module, context = posterior("ffjord"), torch.randn(5, C, dtype=torch.float64)
    values = []
    for gradient in ("reparameterized", "path"):
        reseed(2)
        with torch.inference_mode():
            values.append(renyi_bound(skewed, module(context), 0.0, 3, gradient=gradient))
    assert torch.equal(*values)


# Wrong use


def test_wrong_arguments_are_told_apart() -> None:
    q = td.Normal(torch.zeros(4), 1.0)

    def score(z: Tensor) -> Tensor:
        return -z.square()

    with pytest.raises(UnknownNameError, match="gradient: expected one of path, reparameterized, got 'pathwise'"):
        elbo(score, score, q, gradient="pathwise")
    for alpha in (math.inf, math.nan, "1", True):
        with pytest.raises(InvalidInputError, match="alpha: expected a finite number"):
            renyi_bound(score, q, alpha, 3)
    with pytest.raises(InvalidInputError, match="num_particles: expected a positive integer, got 0"):
        elbo(score, score, q, 0)
    with pytest.raises(InvalidInputError, match="num_particles: expected a positive integer, got 0"):
        importance_weighted_bound(score, q, 0)
    with pytest.raises(InvalidInputError, match="chunk_size: expected a positive integer, got 0"):
        renyi_bound(score, q, 0.5, 3, chunk_size=0)
    with pytest.raises(InvalidInputError, match=r"log_joint: expected .* shape \(3,\), got shape \(3, 4\).*to_event"):
        renyi_bound(score, td.Independent(q, 1), 0.5, 3)
    with pytest.raises(InvalidInputError, match="log_prior: expected"):
        elbo(score, lambda z: score(z).sum(-1), q, 3)
    with pytest.raises(InvalidInputError, match="has_rsample"):
        elbo(score, score, td.Bernoulli(torch.full((4,), 0.5)))


@pytest.mark.parametrize("gradient", ["reparameterized", "path"])
@pytest.mark.parametrize("particles", [1, 3])
def test_regularisation_is_averaged_over_particles(particles: int, gradient: str) -> None:
    flow = moved(vf.FFJORD(D, C, hidden_dims=(6,), rank=2, regularizers=[vf.cnf.KineticEnergy(3.0)])).train()
    module, context = vf.AmortizedPosterior(D, C, flow).double(), torch.randn(5, C, dtype=torch.float64)
    reseed(3)
    drawn = draw_from(module(context), (particles,), with_score=gradient == "path")
    reseed(3)
    terms = elbo(lambda z: z.sum(-1), lambda z: z.sum(-1), module(context), particles, gradient=gradient)
    close(terms.regularization, drawn.regularization.mean(0), 1e-12)
    assert (terms.regularization > 0).all()
    reseed(3)
    again = renyi_terms(lambda z: z.sum(-1), lambda z: z.sum(-1), module(context), 1.0, particles, gradient=gradient)
    close(again.objective, terms.objective)
    exact = vf.AmortizedPosterior(D, C, flow="ffjord", amortization="bias", regularizers=[vf.cnf.KineticEnergy(3.0)])
    nonlinear = renyi_terms(lambda z: z.sum(-1), lambda z: z.sum(-1), exact.double()(context), 0.0, particles + 1)
    assert (nonlinear.regularization > 0).all()
    assert nonlinear.work.forward_evaluations > 0


def test_the_work_of_the_posterior_is_told() -> None:
    q = FLOWS["ffjord"].posterior(D, C)(torch.randn(5, C))
    terms, normal = (elbo(lambda z: z.sum(-1), lambda z: z.sum(-1), q) for q in (q, q.base_dist))
    assert (terms.work or pytest.fail("no work")).forward_evaluations > 0
    assert normal.work is None
