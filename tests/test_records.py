"""What an evaluation has found is one record, which no later evaluation changes; memories never cost a gradient."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions.transforms import AffineTransform, ComposeTransform, ExpTransform

from tests.optional_modules import lacks_its_package
from tests.seeds import reseed
from vae_flows import AmortizedPosterior, DiagonalNormal, FlowDistribution
from vae_flows.cnf import ContinuousNormalizingFlow, ContinuousTransform, KineticEnergy, MLPDynamics, ODESolver
from vae_flows.distributions import draw_from, evaluate
from vae_flows.errors import InvalidInputError
from vae_flows.guides import FlowGuide
from vae_flows.objectives import elbo
from vae_flows.ode.work_counts import WorkCount, WorkMeter
from vae_flows.transforms import IdentityTransform

D, C, B = 3, 5, 4
ROUNDING = 1e-12
SOLVER = 1e-6  # two solves at the tolerance of `TIGHT`, times the weights of a gradient
TIGHT = ODESolver(rtol=1e-9, atol=1e-9)
FLOWS = {
    "none": {},
    "planar": {},
    "iaf": {},
    "sylvester-orthogonal": {},
    "sylvester-householder": {},
    "sylvester-triangular": {},
    "ffjord": {"hidden_dims": (8,), "amortization": "bias", "solver": TIGHT},
    "pyro:spline_autoregressive": {},
    "pyro:planar": {},
    "zuko:NSF": {},
}


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def posterior_of(name: str) -> AmortizedPosterior:
    reseed()
    return AmortizedPosterior(D, C, flow=name, **FLOWS[name]).double().eval()


def regularized(**options: object) -> AmortizedPosterior:
    reseed()
    solver = ODESolver(rtol=1e-9, atol=1e-9)
    flow = {"hidden_dims": (8,), "amortization": "bias", "solver": solver, "regularizers": [KineticEnergy(0.3)]}
    return AmortizedPosterior(D, C, flow="ffjord", **{**flow, **options}).double()


def gradients(module: nn.Module, value: Tensor) -> list[Tensor | None]:
    parameters = list(module.parameters())
    return list(torch.autograd.grad(value.sum(), parameters, allow_unused=True))


def assert_same(found: list[Tensor | None], right: list[Tensor | None], atol: float = SOLVER) -> None:
    for one, other in zip(found, right, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=0, atol=atol)


# Records


@pytest.mark.parametrize("with_score", [False, True])
def test_a_draw_keeps_what_belongs_to_it(with_score: bool) -> None:
    q = regularized(num_blocks=2)(normal(B, C))
    drawn = q.draw((2,), with_score=with_score)
    kept, work = drawn.regularization.clone(), drawn.work
    other = q.evaluate(3 * normal(2, B, D))
    assert not torch.allclose(other.regularization, kept)
    assert torch.equal(drawn.regularization, kept)
    assert drawn.work == work
    assert other.work is not None
    assert other.meters[0] is not drawn.meters[0]
    torch.testing.assert_close(q.evaluate(drawn.z.clone()).regularization, kept, rtol=0, atol=SOLVER)


def test_counts_are_values() -> None:
    posterior = regularized(solver=ODESolver(gradient="recompute"))
    drawn = posterior(normal(B, C)).draw()
    before = drawn.work
    assert isinstance(before, WorkCount)
    drawn.log_q.sum().backward()
    assert before.backward_evaluations == 0 < drawn.work.backward_evaluations
    assert posterior.last_solve == drawn.work
    with pytest.raises(AttributeError):
        before.forward_evaluations = 0


def test_the_terms_of_a_bound_keep_their_regularisation() -> None:
    q = regularized()(normal(B, C))
    seen = []

    def log_likelihood(z: Tensor) -> Tensor:
        seen.append(z)
        q.log_prob(2 * normal(*z.shape))  # another evaluation, in the midst
        return -z.square().sum(-1)

    terms = elbo(log_likelihood, DiagonalNormal(torch.zeros(D).double(), torch.ones(D).double()).log_prob, q, 3)
    right = q.evaluate(seen[0].clone()).regularization.mean(0)
    torch.testing.assert_close(terms.regularization, right, rtol=0, atol=SOLVER)


def test_records_pass_through_distributions_of_other_libraries() -> None:
    posterior, h = regularized(), normal(B, C)
    flow = posterior.flow(h)
    base = posterior.base(h)
    exp = ComposeTransform([AffineTransform(0.0, 2.0), ExpTransform()])
    makers = (
        lambda: FlowDistribution(base, [flow, exp]),
        lambda: torch.distributions.TransformedDistribution(base, [flow, exp]),
        lambda: pyro.distributions.TransformedDistribution(base, [flow, exp]),
        lambda: torch.distributions.Independent(FlowDistribution(base, [flow, exp]), 1),
    )
    reseed(1)
    z = base.sample((2,))
    y = exp(flow(z))
    right = flow.evaluate(z.clone())
    for make in makers:
        q = make()
        found = evaluate(q, y)
        event = right.regularization.sum(-1) if isinstance(q, torch.distributions.Independent) else right.regularization
        torch.testing.assert_close(found.regularization, event, rtol=0, atol=SOLVER)
        torch.testing.assert_close(found.log_q, q.log_prob(y.clone()), rtol=0, atol=SOLVER)
        assert draw_from(q, (2,)).regularization.shape == found.regularization.shape


@pytest.mark.parametrize("packing", ["joint", "separate"])
def test_the_factor_of_a_guide_is_that_of_its_value(packing: str) -> None:
    posterior = regularized()
    guide = FlowGuide(nn.Linear(2, C).double(), posterior, site="z")
    x, given = normal(B, 2), normal(B, D)
    pyro.clear_param_store()
    trace = poutine.trace(poutine.condition(guide, data={"z": given})).get_trace(x)
    factor = trace.nodes["_z_regularization"]["fn"].log_factor
    right = posterior(guide.encoder(x)).evaluate(given).regularization
    torch.testing.assert_close(factor.abs(), right, rtol=0, atol=SOLVER)


def test_evaluations_of_a_transform_in_both_directions_and_inverted() -> None:
    transform = ContinuousTransform(
        lambda t, z: -z, divergence="exact", solver=TIGHT, regularizers=[KineticEnergy(1.0)]
    )
    x = normal(B, D)
    there = transform.evaluate(x)
    back = transform.evaluate_inverse(there.y.clone())
    inverse = transform.inv.evaluate(there.y.clone())
    torch.testing.assert_close(back.x, x, rtol=0, atol=SOLVER)
    torch.testing.assert_close(inverse.y, x, rtol=0, atol=SOLVER)
    torch.testing.assert_close(inverse.log_det, -there.log_det, rtol=0, atol=SOLVER)
    for record in (back, inverse):
        torch.testing.assert_close(record.regularization, there.regularization, rtol=0, atol=SOLVER)
        assert record.work.forward_evaluations > 0
    identity = IdentityTransform(D, torch.Size()).evaluate(x)
    assert identity.work is identity.regularization is identity.score is None


# Memories and gradients


def unscored(q: FlowDistribution) -> Tensor:
    return q.sample((2,))


def scored(q: FlowDistribution) -> Tensor:
    z = normal(B, D) / 2
    with torch.no_grad():
        q.log_prob(z)
    return z


def drawn_without_gradient(q: FlowDistribution) -> Tensor:
    with torch.no_grad():
        return q.rsample_with_log_prob()[0]


def drawn_with_score(q: FlowDistribution) -> Tensor:
    with torch.no_grad():
        return q.rsample_with_score()[0]


WAYS = [unscored, scored, drawn_without_gradient, drawn_with_score]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("name", FLOWS)
def test_gradients_do_not_depend_on_what_was_done_before(name: str, way: Callable[[FlowDistribution], Tensor]) -> None:
    posterior, h = posterior_of(name), normal(B, C)
    q = posterior(h)
    z = way(q)
    found, right = q.log_prob(z), posterior(h).log_prob(z.detach().clone())
    torch.testing.assert_close(found, right, rtol=0, atol=SOLVER)
    assert_same(gradients(posterior, found), gradients(posterior, right))


@pytest.mark.parametrize("before", [nullcontext, torch.no_grad])
@pytest.mark.parametrize("name", FLOWS)
def test_a_value_that_requires_gradients_later_gets_them(
    name: str, before: Callable[[], AbstractContextManager[object]]
) -> None:
    posterior, h = posterior_of(name), normal(B, C)
    q, x = posterior(h), normal(B, D) / 2
    with before():
        q.log_prob(x)
    (found,) = torch.autograd.grad(q.log_prob(x.requires_grad_()).sum(), x)
    y = x.detach().clone().requires_grad_()
    (right,) = torch.autograd.grad(posterior(h).log_prob(y).sum(), y)
    torch.testing.assert_close(found, right, rtol=0, atol=SOLVER)


@pytest.mark.parametrize("name", ["planar", "iaf"])
def test_a_draw_detached_in_place_is_a_constant(name: str) -> None:
    posterior, h = posterior_of(name), normal(B, C)
    q = posterior(h)
    z = q.rsample().detach_()
    found, right = q.log_prob(z), posterior(h).log_prob(z.clone())
    assert_same(gradients(posterior, found), gradients(posterior, right))


@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad])
def test_what_has_a_graph_serves_without_gradients_too(context: Callable[[], AbstractContextManager[object]]) -> None:
    posterior = regularized()
    q = posterior(normal(B, C))
    z = q.rsample()
    before = posterior.last_solve
    with context():
        q.log_prob(z)
    assert posterior.last_solve == before


def test_parameters_thawed_later_get_gradients() -> None:
    loc = normal(D)
    q = FlowDistribution(DiagonalNormal(torch.zeros(D).double(), torch.ones(D).double()), [AffineTransform(loc, 2.0)])
    z = q.rsample()
    loc.requires_grad_()
    (found,) = torch.autograd.grad(q.log_prob(z).sum(), loc)
    torch.testing.assert_close(found, (z - loc).detach() / 4, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("name", ["planar", "iaf", "ffjord"])
def test_inverses_and_transforms_without_memory_agree(name: str) -> None:
    posterior, h = posterior_of(name), normal(B, C)
    x = normal(B, D) / 2
    for cache_size in (0, 1):
        transform = posterior.flow(h).with_cache(cache_size)
        with torch.no_grad():
            y = transform(x)
        inverse = transform.inv
        back = inverse(y)
        log_det = inverse.log_abs_det_jacobian(y, back)
        fresh = posterior.flow(h).inv
        again = fresh(y.clone())
        right = fresh.log_abs_det_jacobian(y, again)
        found = gradients(posterior, back.square().sum() + log_det.sum())
        assert_same(found, gradients(posterior, again.square().sum() + right.sum()))


@pytest.mark.parametrize("blocks", [1, 2])
def test_densities_lose_no_gradient(blocks: int) -> None:
    reseed()
    flow = ContinuousNormalizingFlow([MLPDynamics(D, (8,)) for _ in range(blocks)], solver=TIGHT).double().eval()
    p, x = flow(), normal(B, D)
    with torch.no_grad():
        p.log_prob(x)
    drawn = flow()
    z = drawn.sample((B,))
    for found, right in ((p.log_prob(x), flow().log_prob(x.clone())), (drawn.log_prob(z), flow().log_prob(z.clone()))):
        assert_same(gradients(flow, found), gradients(flow, right))


# Surviving mutants and wrong numbers


@pytest.mark.parametrize("beta", [float("nan"), float("inf"), True, "1"])
def test_a_weight_that_is_no_finite_number_is_refused(beta: object) -> None:
    q = posterior_of("none")(normal(B, C))
    prior = DiagonalNormal(torch.zeros(D).double(), torch.ones(D).double())
    with pytest.raises(InvalidInputError, match="beta: expected a finite number"):
        elbo(prior.log_prob, prior.log_prob, q, beta=beta)


@pytest.mark.parametrize("validate", [False, True])
def test_expanding_keeps_whether_values_are_checked(validate: bool) -> None:
    loc, bad = torch.zeros(D).double(), torch.full((D,), torch.nan).double()
    base = DiagonalNormal(loc, loc + 1, validate_args=validate)
    for q in (base, FlowDistribution(base, IdentityTransform(D, torch.Size()), validate_args=validate)):
        expanded = q.expand((B,))
        if validate:
            with pytest.raises(ValueError, match="expected values within Real"):
                expanded.log_prob(bad)
        elif q is base:
            assert expanded.log_prob(bad).isnan().all()
        else:  # a transform finds it for itself
            with pytest.raises(InvalidInputError, match="expected finite"):
                expanded.log_prob(bad)


def public_dataclasses() -> Iterator[type]:
    """Yield those of every module that has some."""
    root = Path(__file__).parents[1]
    for path in sorted((root / "vae_flows").rglob("*.py")):
        if "@dataclass" in path.read_text(encoding="utf-8") and not lacks_its_package(path):
            module = importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))
            values = (getattr(module, name) for name in module.__all__)
            yield from (value for value in values if isinstance(value, type) and dataclasses.is_dataclass(value))


@pytest.mark.parametrize("kind", sorted({*public_dataclasses()} - {WorkMeter}, key=repr))
def test_settings_and_results_are_immutable(kind: type) -> None:
    """All but the meter, which runs while a solve does."""
    assert vars(kind)["__dataclass_params__"].frozen
