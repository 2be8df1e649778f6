"""The score of a flow's sample, against differences of log-densities, and that it costs one evaluation."""

from __future__ import annotations

import copy

import pyro.distributions as dist
import pytest
import torch
import torch.distributions as td
from torch import Tensor

import vae_flows as vf
from tests.seeds import reseed
from tests.small_flows import DISCRETE, FLOWS, moved
from vae_flows.distributions import draw_from, evaluate, rsample_with_score
from vae_flows.errors import InvalidInputError

D, C, B, S = 3, 4, 2, 5

TIGHT = vf.ODESolver(rtol=1e-9, atol=1e-9)
OWN = [*DISCRETE, "ffjord"]

STEP = 1e-4
DIFFERENCES = 1e-5  # truncation of central differences with STEP, and their rounding, and that of solves at TIGHT
ROUNDING = 1e-9
SOLVER = 1e-7  # two solves at TIGHT, of which one has other steps for what it carries along
SINGLE = 1e-2  # float32, times the condition of a flow


def posterior(flow: str, dtype: torch.dtype = torch.float64) -> vf.AmortizedPosterior:
    options = {"num_blocks": 2, "solver": TIGHT} if flow == "ffjord" else {}
    return moved(FLOWS[flow].posterior(D, C, **options), by=0.2, dtype=dtype)


def differences(q: td.Distribution, z: Tensor) -> Tensor:
    """Central differences of log q at z, one component at a time."""
    steps = STEP * torch.eye(z.shape[-1], dtype=z.dtype)
    with torch.no_grad():
        return torch.stack([(q.log_prob(z + step) - q.log_prob(z - step)) / (2 * STEP) for step in steps], -1)


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_every_flow_of_the_library_is_tested() -> None:
    own = {name for name in vf.available_flows() if ":" not in name}
    assert {*OWN, "my-flow"} >= own


@pytest.mark.parametrize("flow", OWN)
def test_the_score_is_the_gradient_of_the_log_density_of_a_frozen_copy(flow: str) -> None:
    module, context = posterior(flow), torch.randn(B, C, dtype=torch.float64)
    z, log_q, score = module(context).rsample_with_score((S,))
    frozen = copy.deepcopy(module)(context)
    assert (z.shape, log_q.shape, score.shape) == ((S, B, D), (S, B), (S, B, D))
    close(score, differences(frozen, z.detach()), DIFFERENCES)
    close(log_q, frozen.log_prob(z.detach()), DIFFERENCES)


@pytest.mark.parametrize("flow", OWN)
def test_values_and_gradients_are_those_of_an_ordinary_draw(flow: str) -> None:
    module, context = posterior(flow), torch.randn(B, C, dtype=torch.float64)
    results = []
    for method in ("rsample_with_log_prob", "rsample_with_score"):
        reseed(1)
        module.zero_grad()
        z, log_q, *_ = getattr(module(context), method)((S,))
        assert all(parameter.grad is None for parameter in module.parameters())
        (z.sin().sum() + log_q.sum()).backward()
        gradients = [parameter.grad for parameter in module.parameters()]
        results.append([z, log_q, *(gradient for gradient in gradients if gradient is not None)])
    assert len(results[0]) == len(results[1]) > 2
    for scored, ordinary in zip(*results, strict=True):
        close(scored, ordinary, SOLVER if flow == "ffjord" else ROUNDING)


@pytest.mark.parametrize("flow", OWN)
def test_the_score_has_no_graph_and_without_gradients_nothing_has(flow: str) -> None:
    module, context = posterior(flow), torch.randn(B, C, dtype=torch.float64)
    reseed(1)
    z, log_q, score = module(context).rsample_with_score((S,))
    assert z.requires_grad
    assert log_q.requires_grad
    assert not score.requires_grad
    reseed(1)
    with torch.no_grad():
        without = module(context).rsample_with_score((S,))
    reseed(1)
    frozen = module.requires_grad_(False)(context).rsample_with_score((S,))
    for other in (without, frozen):
        assert not any(tensor.requires_grad for tensor in other)
        close(other.score, score, ROUNDING)


def test_scoring_a_scored_draw_again_costs_no_second_solve() -> None:
    module = posterior("ffjord")
    q = module(torch.randn(B, C, dtype=torch.float64))
    z, log_q, _ = q.rsample_with_score((S,))
    work = module.last_solve
    assert work is not None
    evaluations = work.forward_evaluations
    close(q.log_prob(z), log_q, ROUNDING)
    assert module.last_solve is not None
    assert module.last_solve.forward_evaluations == evaluations


@pytest.mark.parametrize("flow", OWN)
@pytest.mark.parametrize(("sample", "batch"), [((), ()), ((), (B,)), ((2, 3), (2, 1)), ((0,), (B,)), ((S,), (0,))])
def test_sample_and_batch_shapes(flow: str, sample: tuple[int, ...], batch: tuple[int, ...]) -> None:
    q = posterior(flow)(torch.randn(*batch, C, dtype=torch.float64))
    z, log_q, score = q.rsample_with_score(sample)
    assert (z.shape, log_q.shape, score.shape) == ((*sample, *batch, D), sample + batch, (*sample, *batch, D))


@pytest.mark.parametrize("flow", OWN)
def test_single_precision(flow: str) -> None:
    module, context = posterior(flow, torch.float32), torch.randn(B, C)
    scored = module(context).rsample_with_score((S,))
    assert {tensor.dtype for tensor in scored} == {torch.float32}
    point = scored.z.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(module.double()(context.double()).log_prob(point).sum(), point)
    close(scored.score.double(), expected, SINGLE)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


DISTRIBUTIONS = {
    "normal": lambda: td.Normal(normal(B, D), normal(B, D).exp()),
    "full covariance": lambda: td.MultivariateNormal(normal(B, D), torch.eye(D).double() + 0.5),
    "gamma": lambda: dist.Gamma(normal(B).exp(), normal(B).exp()),
    "log-normal": lambda: td.Independent(td.LogNormal(normal(B, D), normal(B, D).exp()), 1),
    "half-normal": lambda: dist.HalfNormal(normal(B).exp()),
    "uniform": lambda: td.Uniform(normal(B) - 5, normal(B) + 5),
    "composed": lambda: td.TransformedDistribution(
        td.Normal(normal(B, D), 1.0),
        [td.ComposeTransform([td.SigmoidTransform(), td.AffineTransform(normal(D), 2.0)]), td.ExpTransform()],
    ),
    "triangular": lambda: dist.TransformedDistribution(
        dist.Normal(normal(B, D), 1.0).to_event(1),
        [dist.transforms.LowerCholeskyAffine(normal(D), torch.eye(D).double() + torch.tril(normal(D, D), -1))],
    ),
    "coupling": lambda: dist.TransformedDistribution(
        dist.Normal(normal(B, D), 1.0).to_event(1), [dist.transforms.affine_coupling(D, hidden_dims=[4]).double()]
    ),
    "coupled after elementwise": lambda: td.TransformedDistribution(
        td.Normal(normal(B, D), 1.0),
        [td.ExpTransform(), dist.transforms.Permute(torch.arange(D).flip(0))],
    ),
    "flow of a flow": lambda: vf.FlowDistribution(
        posterior("planar")(normal(B, C)), [vf.transforms.PlanarTransform(normal(D), normal(D), normal(1)[0])]
    ),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_other_distributions_have_scores_too(name: str) -> None:
    q = DISTRIBUTIONS[name]()
    z, log_q, score = rsample_with_score(q, (S,))
    assert (log_q.shape, score.shape) == ((S, *q.batch_shape), z.shape)
    point = z.detach().clone().requires_grad_()
    expected_log_q = q.log_prob(point)
    expected = torch.zeros_like(z)
    if expected_log_q.requires_grad:
        (expected,) = torch.autograd.grad(expected_log_q.sum(), point, allow_unused=True, materialize_grads=True)
    close(log_q, expected_log_q, ROUNDING)
    close(score, expected, ROUNDING)


def test_transforms_without_an_inverse_have_scores_too() -> None:
    planar, base = dist.transforms.Planar(D).double(), td.Independent(td.Normal(normal(B, D), 1.0), 1)
    own = vf.transforms.PlanarTransform(planar.u, planar.w, planar.bias[0])
    results = []
    for transform in (planar, own):
        reseed(1)
        results.append(rsample_with_score(td.TransformedDistribution(base, [transform]), (S,)))
    for actual, expected in zip(*results, strict=True):
        close(actual, expected, ROUNDING)


def test_values_of_other_transforms_are_scored_as_their_distribution_does() -> None:
    q = td.TransformedDistribution(
        td.Normal(normal(B), normal(B).exp()), [td.AffineTransform(0.5, 2.0), td.ExpTransform()]
    )
    value = normal(S, B).exp()
    given = evaluate(q, value)
    assert given.z is value
    assert given.score is given.regularization is given.work is None
    close(given.log_q, q.log_prob(value), ROUNDING)
    drawn = draw_from(q, (S,))
    close(drawn.log_q, q.log_prob(drawn.z), ROUNDING)


def test_a_base_that_is_no_distribution_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="FlowDistribution base_distribution"):
        vf.FlowDistribution(torch.nn.Identity(), vf.transforms.IdentityTransform(D, torch.Size()))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("validate_args", [False, True])
def test_draws_and_values_of_another_kind_are_refused(validate_args: bool) -> None:
    base = td.Independent(td.Normal(torch.zeros(3, 2), 1.0), 1)
    q = vf.FlowDistribution(base, [vf.transforms.IdentityTransform(2, torch.Size([3]))], validate_args=validate_args)
    for value in (None, [[0.0, 0.0]], torch.zeros(3, 2) > 0, torch.zeros(3, 2).to_sparse(), torch.zeros(4, 2)):
        for score in (q.log_prob, q.evaluate, lambda value: evaluate(q, value)):
            with pytest.raises(InvalidInputError):
                score(value)  # pyright: ignore[reportArgumentType]
    for shape in (3, "3", (-1,), torch.Size([-1]), None):
        for draw in (q.draw, q.rsample, q.rsample_with_log_prob, q.rsample_with_score):
            with pytest.raises(InvalidInputError, match="sample_shape: expected a shape"):
                draw(shape)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidInputError, match="with_score: expected True or False, got 1"):
        q.draw(with_score=1)  # pyright: ignore[reportArgumentType]


def test_a_base_of_too_few_dimensions_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="a base distribution with the dimensions that the transforms need"):
        vf.FlowDistribution(td.Normal(0.0, 1.0), vf.transforms.IdentityTransform(2, torch.Size()))


def test_values_outside_of_the_support_are_refused_where_that_is_asked_for() -> None:
    base = vf.DiagonalNormal(torch.zeros(2), torch.ones(2), validate_args=False)
    value = torch.tensor([1.0, -1.0])
    q = vf.FlowDistribution(base, td.ExpTransform(), validate_args=True)
    with pytest.raises(InvalidInputError, match=r"FlowDistribution value: expected values within .*, got -1.0"):
        q.log_prob(value)
    assert vf.FlowDistribution(base, td.ExpTransform(), validate_args=False).log_prob(value).isnan()


def test_the_record_of_a_value_counts_its_solve() -> None:
    q = posterior("ffjord")(torch.randn(B, C, dtype=torch.float64))
    for record in (evaluate(q, normal(S, B, D)), q.evaluate(normal(S, B, D)), q.draw((S,))):
        assert record.work is not None
        assert record.work.forward_evaluations > 0


def test_on_a_simplex_the_score_is_tangential() -> None:
    base = td.Normal(normal(B, D), 1.0)
    q = td.TransformedDistribution(td.Independent(base, 1), [td.biject_to(td.constraints.simplex)])
    z, log_q, score = rsample_with_score(q, (S,))
    close(score.sum(-1), torch.zeros(S, B).double(), ROUNDING)
    steps = normal(D + 1) * z.detach()
    steps = STEP * (steps - z.detach() * steps.sum(-1, keepdim=True))  # tangents, which keep every component positive
    with torch.no_grad():
        expected = (q.log_prob(z + steps) - q.log_prob(z - steps)) / 2
        close(log_q, q.log_prob(z), ROUNDING)
    close((score * steps).sum(-1) / STEP, expected / STEP, DIFFERENCES)


def test_matrices_whose_event_has_more_dimensions_than_their_base() -> None:
    base = td.Normal(normal(B, 3), 0.5)
    q = td.TransformedDistribution(td.Independent(base, 1), [td.biject_to(td.constraints.corr_cholesky)])
    z, log_q, score = rsample_with_score(q, (S,))
    assert z.shape == score.shape == (S, B, 3, 3)
    close(log_q, q.log_prob(z), ROUNDING)


def test_without_reparameterised_samples_there_is_no_score() -> None:
    with pytest.raises(InvalidInputError, match=r"has_rsample.*Bernoulli"):
        rsample_with_score(dist.Bernoulli(torch.tensor(0.5)))
