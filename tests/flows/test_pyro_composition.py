"""Flows inside Pyro's and torch's distributions, transforms, plates and handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import (
    ConditionalTransformedDistribution,
    Independent,
    Normal,
    TransformedDistribution,
)
from pyro.distributions.conditional import ConditionalComposeTransformModule
from torch import Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.transforms import AffineTransform, ExpTransform

from vae_flows import AmortizedPosterior, DiagonalNormal, FlowDistribution
from vae_flows.flows import FFJORD, AmortizedFlow

D, C, B, S, P = 2, 3, 5, 4, 6
SAME = 1e-10  # the same operations in another order
SOLVER = 1e-5  # two solves at the tolerance of the flows of this folder

Make = Callable[[int, int], AmortizedFlow]


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def close(actual: Tensor, expected: Tensor, tolerance: float = SOLVER) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def base(*batch: int) -> DiagonalNormal:
    return DiagonalNormal(normal(*batch, D), normal(*batch, D).exp())


def test_conditional_composition_of_a_flow_and_an_inverse(make_flow: Make) -> None:
    first, second, context = make_flow(D, C), make_flow(D, C), normal(B, C)
    for cache_size in (0, 1):
        stack = ConditionalComposeTransformModule([first, second.inv], cache_size=cache_size)
        assert len(list(stack.parameters())) == len(list(first.parameters())) + len(list(second.parameters()))
        transform, z = stack.condition(context), normal(S, B, D)
        y = transform(z)
        assert transform.inv(y) is z
        x, log_det = first(context).forward_with_log_det(z)
        expected, inverse_log_det = second(context).inverse_with_log_det(x)
        close(y, expected)
        close(transform.log_abs_det_jacobian(z, y), log_det - inverse_log_det)
        q = ConditionalTransformedDistribution(base(B), [stack]).condition(context)
        draw = q.rsample((S,))
        close(q.log_prob(draw.clone()), q.log_prob(draw))


@pytest.mark.parametrize(
    ("context_batch", "z_batch"),
    [((B,), (S, B)), ((B,), (P, S, B)), ((), ()), ((), (S,)), ((2, B), (2, B)), ((2, B), (S, 2, B)), ((B,), (0, B))],
)
def test_densities_of_any_batch_shape(make_flow: Make, context_batch: tuple[int, ...], z_batch: tuple) -> None:
    posterior = AmortizedPosterior(D, C, make_flow(D, C)).double().eval()
    context = normal(*context_batch, C)
    q = posterior(context)
    assert (q.batch_shape, q.event_shape) == (context_batch, (D,))
    z, log_q = q.rsample_with_log_prob(z_batch[: len(z_batch) - len(context_batch)])
    assert (z.shape, log_q.shape, log_q.dtype) == ((*z_batch, D), z_batch, torch.float64)
    close(posterior(context).log_prob(z.detach()), log_q)


@pytest.mark.parametrize("context_batch", [(0,), (2, 0), (0, 2)])
def test_densities_of_an_empty_batch(make_flow: Make, context_batch: tuple[int, ...]) -> None:
    q = AmortizedPosterior(D, C, make_flow(D, C)).double()(normal(*context_batch, C))
    z, log_q = q.rsample_with_log_prob((S,))
    assert (z.shape, log_q.shape) == ((S, *context_batch, D), (S, *context_batch))
    assert q.log_prob(z.clone()).shape == (S, *context_batch)
    assert q.expand((P, *context_batch)).sample().shape == (P, *context_batch, D)
    log_q.sum().backward()


def test_plates_left_and_right_of_the_batch(make_flow: Make) -> None:
    posterior = AmortizedPosterior(D, C, make_flow(D, C)).double().eval()
    context = normal(B, C)

    def right() -> Tensor:
        with pyro.plate("particles", P, dim=-2), pyro.plate("data", B, dim=-1):
            return pyro.sample("z", posterior(context))

    def left() -> Tensor:
        with pyro.plate("data", B, dim=-2), pyro.plate("repeats", P, dim=-1):
            return pyro.sample("z", posterior(context.unsqueeze(1)))

    for model, shape, conditioned in ((right, (P, B), context), (left, (B, P), context.unsqueeze(1))):
        site = poutine.trace(model).get_trace().nodes["z"]
        log_q = site["fn"].log_prob(site["value"])
        assert (site["value"].shape, log_q.shape) == ((*shape, D), shape)
        close(log_q, posterior(conditioned).log_prob(site["value"]))


def test_subsampled_plates_and_handlers(make_flow: Make) -> None:
    posterior = AmortizedPosterior(D, C, make_flow(D, C)).double().eval()
    contexts, mask = normal(10, C), torch.tensor([True, False, True, True, False])

    def model() -> Tensor:
        with pyro.plate("data", 10, subsample_size=B) as index, poutine.mask(mask=mask), poutine.scale(scale=0.5):
            return pyro.sample("z", posterior(contexts[index]))

    trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    site, index = trace.nodes["z"], trace.nodes["data"]["value"]
    log_q = posterior(contexts[index]).log_prob(site["value"])
    close(site["log_prob"], 0.5 * 10 / B * torch.where(mask, log_q, 0.0))
    replayed = poutine.trace(poutine.replay(model, trace=trace)).get_trace()
    assert replayed.nodes["z"]["value"] is site["value"]
    close(replayed.log_prob_sum(), trace.log_prob_sum())


def test_events_of_several_vectors_and_masked_distributions(make_flow: Make) -> None:
    posterior = AmortizedPosterior(D, C, make_flow(D, C)).double().eval()
    q = posterior(normal(3, B, C))
    whole = q.to_event(1)
    assert (whole.batch_shape, whole.event_shape) == ((3,), (B, D))
    z = whole.rsample((S,))
    close(whole.log_prob(z), q.log_prob(z).sum(-1), SAME)
    mask = torch.rand(3, B) > 0.5
    close(q.mask(mask).log_prob(z), torch.where(mask, q.log_prob(z), 0.0), SAME)


class Counted(list):
    """Takes the place of the list in which a flow notes its solves, and counts them."""

    def __init__(self, flow: FFJORD) -> None:
        super().__init__(flow.cnf._meters)
        self.flow, self.solves = flow, 0
        flow.cnf._meters = self

    def __setitem__(self, *arguments: Any) -> None:
        self.solves += 1
        super().__setitem__(*arguments)


def ways_to_draw_and_score(q: FlowDistribution, flow: FFJORD, context: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Ways of Pyro and torch to draw a value and score it, each returning what must depend on one solve."""

    def drawn(distribution: torch.distributions.Distribution) -> Tensor:
        z = distribution.rsample()
        return distribution.log_prob(z)

    def traced(handler: Callable[[Callable], Callable]) -> Tensor:
        def model() -> None:
            with pyro.plate("particles", P, dim=-2), pyro.plate("data", B, dim=-1):
                pyro.sample("z", q)

        trace = poutine.trace(handler(model)).get_trace()
        return trace.log_prob_sum()

    exp = ExpTransform(cache_size=1)
    q_conditional = ConditionalTransformedDistribution(base(B), [flow]).condition
    return {
        "plain": lambda: drawn(q),
        "expand": lambda: drawn(q.expand((S, B))),
        "drawn here, scored by the expanded": lambda: q.expand((S, B)).log_prob(q.rsample((S,))),
        "independent": lambda: drawn(Independent(q, 1)),
        "masked": lambda: drawn(q.mask(torch.ones(B, dtype=torch.bool))),
        "site": lambda: traced(lambda model: model),
        "scaled": lambda: traced(lambda model: poutine.scale(model, scale=0.5)),
        "masked site": lambda: traced(lambda model: poutine.mask(model, mask=torch.ones(B, dtype=torch.bool))),
        "conditional": lambda: drawn(q_conditional(context)),
        "inverse": lambda: drawn(TransformedDistribution(base(B), [flow(context).inv])),
        "torch, another that caches": lambda: drawn(TransformedDistribution(base(B), [flow(context), exp])),
        "torch, around q": lambda: drawn(TransformedDistribution(q, [exp])),
        "another transform": lambda: drawn(FlowDistribution(base(B), [flow(context), ExpTransform()])),
        "between two transforms": lambda: drawn(
            FlowDistribution(base(B), [AffineTransform(1.0, 2.0), flow(context), biject_to(constraints.simplex)])
        ),
        "with its regularisation": lambda: q.rsample_with_log_prob((S,))[1],
    }


WAYS = list(ways_to_draw_and_score(FlowDistribution(base(B), []), FFJORD(D, C, hidden_dims=(2,)), normal(B, C)))


@pytest.mark.parametrize("way", WAYS)
def test_drawing_and_scoring_is_one_solve(make_ffjord: Callable[..., FFJORD], way: str) -> None:
    flow = make_ffjord(D, C)
    posterior = AmortizedPosterior(D, C, flow).double()
    context = normal(B, C)
    counted = Counted(flow)
    log_q = ways_to_draw_and_score(posterior(context), flow, context)[way]()
    assert log_q.isfinite().all()
    assert counted.solves == 1
    posterior(context).log_prob(normal(B, D))
    assert counted.solves == 2


def test_a_value_that_was_not_drawn_takes_a_solve_of_its_own(make_ffjord: Callable[..., FFJORD]) -> None:
    flow = make_ffjord(D, C)
    counted = Counted(flow)
    q = FlowDistribution(base(B), flow(normal(B, C)))
    z = q.rsample()
    q.log_prob(z.clone())
    assert counted.solves == 2


def test_a_support_other_than_vectors_is_kept() -> None:
    q = FlowDistribution(base(B), [ExpTransform()], validate_args=True)
    assert q.support.check(q.sample()).all()
    assert not q.support.check(torch.tensor([-1.0, 1.0]))
    with pytest.raises(ValueError, match="expected values within GreaterThan"):
        q.log_prob(-torch.ones(B, D, dtype=torch.float64))


def test_a_context_that_does_not_broadcast_is_named(make_flow: Make) -> None:
    transform = make_flow(D, C)(normal(B, C))
    with pytest.raises(ValueError, match=r"\*batch = \(5,\) from the context, got shape \(3, 2\)"):
        TransformedDistribution(Normal(torch.zeros(3, D), 1.0).to_event(1), [transform]).sample()
    with pytest.raises(ValueError, match=r"\*batch = \(5,\) from the context, got shape \(4, 2\)"):
        FlowDistribution(base(B), transform, validate_args=False).log_prob(normal(S, D))
