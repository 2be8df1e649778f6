"""A second backward pass through one conditioned distribution, as Pyro's and zuko's own allow it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pyro.distributions import ConditionalTransformedDistribution
from torch import Tensor

from vae_flows import AmortizedPosterior, DiagonalNormal
from vae_flows.flows import AmortizedFlow

D, C, B = 2, 3, 5
SOLVER = 1e-4  # two solves at the tolerance of the flows of this folder

Make = Callable[[int, int], AmortizedFlow]


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def gradients(module: torch.nn.Module, value: Tensor) -> list[Tensor]:
    module.zero_grad()
    if not value.requires_grad:
        return []  # a flow without parameters
    value.sum().backward()
    return [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]


def same(got: list[Tensor], expected: list[Tensor]) -> None:
    assert len(got) == len(expected)
    for first, second in zip(got, expected, strict=True):
        torch.testing.assert_close(first, second, rtol=SOLVER, atol=SOLVER)


@pytest.mark.parametrize("inverse", [False, True])
def test_a_transform_takes_as_many_as_are_asked_for(make_any_flow: Make, inverse: bool) -> None:
    flow, context, z = make_any_flow(D, C), normal(B, C), normal(B, D)
    transform = flow.condition(context)
    transform = transform.inv if inverse else transform

    def loss(of: Tensor) -> Tensor:
        y = transform(of)
        return y.sin().sum(-1) + transform.log_abs_det_jacobian(of, y)

    first = gradients(flow, loss(z))
    same(gradients(flow, loss(z)), first)  # of the same value, remembered until then
    gradients(flow, loss(normal(B, D)))
    same(gradients(flow, loss(z)), first)


def test_a_conditional_distribution_of_pyro_takes_them(make_discrete_flow: Make) -> None:
    flow = make_discrete_flow(D, C)
    base = DiagonalNormal(torch.zeros(D).double(), torch.ones(D).double())
    q, z = ConditionalTransformedDistribution(base, [flow]).condition(normal(B, C)), normal(B, D)
    first = gradients(flow, q.log_prob(z))
    same(gradients(flow, q.log_prob(z)), first)


def test_nothing_is_built_again_before_a_backward_pass(make_discrete_flow: Make) -> None:
    flow, built = make_discrete_flow(D, C), []
    transform = flow.transform
    flow.transform = lambda context: built.append(context) or transform(context)  # pyright: ignore[reportAttributeAccessIssue]
    conditioned = flow.condition(normal(B, C))
    for _ in range(3):
        conditioned(normal(B, D))
    with torch.no_grad():
        conditioned(normal(B, D))
    assert len(built) == 1


@pytest.mark.parametrize("expanded", [False, True])
def test_a_posterior_takes_them(make_any_flow: Make, expanded: bool) -> None:
    posterior, z = AmortizedPosterior(D, C, make_any_flow(D, C)).double().eval(), normal(2, B, D)
    q = posterior(normal(B, C))
    q = q.expand((2, B)) if expanded else q
    first = gradients(posterior, q.log_prob(z))
    same(gradients(posterior, q.log_prob(z)), first)
    assert gradients(posterior, q.rsample_with_log_prob()[1])
