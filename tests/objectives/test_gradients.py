"""Gradients of the objectives, against differences, closed forms and long Monte Carlo."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.distributions as td
from torch import Tensor

from tests.objectives.problems import (
    ALPHAS,
    DIFFERENCES,
    OWN,
    ROUNDING,
    SOLVER,
    STANDARD_ERRORS,
    STEP,
    C,
    D,
    LinearGaussian,
    close,
    posterior,
    scalar,
    skewed,
)
from tests.seeds import reseed
from vae_flows.objectives import elbo, importance_weighted_bound, renyi_bound, renyi_terms


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
