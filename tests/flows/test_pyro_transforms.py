"""The checks that Pyro makes of its own transforms, made of every flow of the library.

Which check of Pyro's `tests/distributions/test_transforms.py` is which test here:

- `_test_inverse`: `test_inverse_and_its_jacobian`, without a cache, from draws of N(0, I).
- `_test_jacobian`: `test_jacobian_by_finite_differences`; for autoregressive flows also its triangular form,
  `test_jacobian_of_an_autoregressive_layer_is_triangular`.
- `_test_shape`: `test_shapes_of_draws` and `test_shapes_that_are_foretold`, with elementwise base distributions.
- `_test_autodiff`: `test_maximum_likelihood_steps`, by `transform` and by `transform.inv`.
- `_test_conditional`, which runs the others on a conditioned transform: all of them, for several context shapes.

Two differences. Transforms of this library know the batch shape of their context, which Pyro's do not: for a context
`(1, C)` the shape foretold for latents `(D,)` is `(1, D)`, the shape that they get; Pyro expects `(D,)`, as a context
`(C,)` gives here. And Pyro's transforms run their networks at each call, while ours emit their parameters once, when
they are conditioned, and anew only after a backward pass; `test_a_second_backward_pass_takes_new_parameters` holds that
to account.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pyro.distributions import Normal, TransformedDistribution
from torch import Tensor
from torch.distributions.transforms import Transform

from vae_flows.flows import AmortizedFlow, IAFFlow, available_flows

C = 3
STEP = 1e-4  # Pyro's, of the finite differences
JACOBIAN = 1e-4  # Pyro's, on log-determinants by finite differences
INVERSE = 1e-6  # Pyro's, and about what two solves at the tolerance of these flows leave

Make = Callable[[int, int], AmortizedFlow]


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def elementwise(*shape: int) -> Normal:
    return Normal(torch.zeros(shape, dtype=torch.float64), 1.0)


def numerical_jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Central differences of a map of one vector, all in one call: rows are outputs."""
    shifts = 0.5 * STEP * torch.eye(x.shape[-1], dtype=x.dtype)
    with torch.no_grad():
        above, below = function(torch.cat([x + shifts, x - shifts])).chunk(2)
    return ((above - below) / STEP).mT


def test_every_flow_of_the_library_is_among_the_kinds(kinds: dict[str, Make]) -> None:
    names = {build(2, C).name for build in kinds.values()}
    own = {name for name in available_flows() if ":" not in name}
    assert names == own - {"my-flow"}


@pytest.mark.parametrize("dim", [2, 5])
def test_inverse_and_its_jacobian(make_any_flow: Make, dim: int) -> None:
    transform = make_any_flow(dim, C)(torch.rand(1, C, dtype=torch.float64)).with_cache(0)
    x = normal(10, dim)
    y = transform(x)
    back = transform.inv(y)
    torch.testing.assert_close(back, x, rtol=0, atol=INVERSE)
    at_x, at_back = transform.log_abs_det_jacobian(x, y), transform.log_abs_det_jacobian(back, y)
    torch.testing.assert_close(at_x, at_back, rtol=0, atol=INVERSE)
    torch.testing.assert_close(transform.inv.log_abs_det_jacobian(y, back), -at_x, rtol=0, atol=INVERSE)


@pytest.mark.parametrize("dim", [2, 5])
def test_jacobian_by_finite_differences(make_any_flow: Make, dim: int) -> None:
    transform = make_any_flow(dim, C)(torch.rand(1, C, dtype=torch.float64)).with_cache(0)
    x = normal(dim)
    for map_ in (transform, transform.inv):
        with torch.no_grad():
            log_det = map_.log_abs_det_jacobian(x, map_(x))
        numeric = torch.linalg.slogdet(numerical_jacobian(map_, x)).logabsdet
        torch.testing.assert_close(log_det[0], numeric, rtol=0, atol=JACOBIAN)


def test_jacobian_of_an_autoregressive_layer_is_triangular() -> None:
    transform = IAFFlow(5, C, num_layers=1, hidden_dim=16).double()(torch.rand(C, dtype=torch.float64))
    jacobian = numerical_jacobian(transform, normal(5))
    assert (jacobian.diagonal() > 0).all()
    assert torch.equal(jacobian.triu(1), torch.zeros_like(jacobian))


@pytest.mark.parametrize("context_batch", [(), (1,), (5,), (4, 5)])
def test_shapes_of_draws(make_flow: Make, context_batch: tuple[int, ...]) -> None:
    flow = make_flow(2, C)
    transform = flow(normal(*context_batch, C))
    for shape in [(5, 2), (4, 5, 2), (3, 4, 5, 2)]:
        for map_ in (transform, transform.inv):
            distribution = TransformedDistribution(elementwise(*shape), [map_])
            expected = torch.broadcast_shapes(shape, (*context_batch, 2))
            draw = distribution.sample()
            assert draw.shape == expected
            assert distribution.log_prob(draw).shape == expected[:-1]


@pytest.mark.parametrize("context_batch", [(), (1,), (5, 1, 3)])
def test_shapes_that_are_foretold(make_flow: Make, context_batch: tuple[int, ...]) -> None:
    transform = make_flow(2, C)(normal(*context_batch, C))
    for shape in [(2,), (3, 2), (4, 3, 2), (5, 4, 3, 2)]:
        x = normal(*shape)
        for map_ in (transform, transform.inv):
            assert map_.forward_shape(shape) == map_.inverse_shape(shape) == map_(x).shape
            assert context_batch or map_.forward_shape(shape) == shape


def steps(flow: AmortizedFlow, choose: Callable[[Transform], Transform], context: Tensor) -> list[float]:
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
    x, losses = torch.rand(4, 2, dtype=torch.float64), []
    for _ in range(3):
        optimizer.zero_grad()
        loss = -TransformedDistribution(elementwise(2), [choose(flow.condition(context))]).log_prob(x).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("inverted", "context_batch"), [(False, (1,)), (True, (4,))])
def test_maximum_likelihood_steps(make_any_flow: Make, inverted: bool, context_batch: tuple[int, ...]) -> None:
    flow = make_any_flow(2, C)
    if list(flow.parameters()):
        losses = steps(flow, lambda t: t.inv if inverted else t, torch.rand(*context_batch, C, dtype=torch.float64))
        assert losses[0] > losses[1] > losses[2]


def test_gradients_of_the_log_density_agree_with_finite_differences(make_any_flow: Make) -> None:
    flow = make_any_flow(2, C)
    context, x = normal(3, C), normal(3, 2)

    def loss() -> Tensor:
        return TransformedDistribution(elementwise(3, 2), [flow(context)]).log_prob(x).sum()

    parameters = [x.requires_grad_(), context.requires_grad_(), *flow.parameters()]
    directions = [torch.randn_like(parameter) for parameter in parameters]
    gradients = torch.autograd.grad(loss(), parameters, allow_unused=True, materialize_grads=True)
    directional = torch.stack([(g * d).sum() for g, d in zip(gradients, directions, strict=True)]).sum()
    values = []
    with torch.no_grad():
        for sign in (1, -2):
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(direction, alpha=sign * STEP)
            values.append(loss())
    torch.testing.assert_close(directional, (values[0] - values[1]) / (2 * STEP), rtol=JACOBIAN, atol=JACOBIAN)


def test_inverse_of_the_inverse_and_caches(make_any_flow: Make) -> None:
    flow = make_any_flow(2, C)
    transform, x = flow(normal(3, C)), normal(3, 2)
    assert transform.inv.inv is transform
    assert transform.inv == transform.inv
    y = transform.inv(x)
    assert transform(y) is x
    assert transform.inv.with_cache(0).inv(y) is not x
    torch.testing.assert_close(transform.inv.with_cache(0).inv(y), x, rtol=0, atol=INVERSE)
    context = normal(3, C)
    of_flow = flow.inv.condition(context)
    torch.testing.assert_close(of_flow(flow(context)(x)), x, rtol=0, atol=INVERSE)
    assert flow.inv.inv is flow


def test_a_second_backward_pass_takes_new_parameters() -> None:
    flow = IAFFlow(2, C, num_layers=1, hidden_dim=4)
    transform = flow(torch.rand(1, C))
    z = torch.randn(1, 2)
    before = transform(z)
    before.sum().backward()
    with torch.no_grad():
        flow.features.bias.add_(1)
    after = transform(z.clone())
    assert not torch.equal(before, after)
    after.sum().backward()
