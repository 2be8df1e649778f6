"""Second derivatives, in values, contexts and parameters, are right or refused; never silently wrong."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

import vae_flows as vf
from tests.small_flows import CONTRACTS, DISCRETE, FOREIGN, moved, params
from vae_flows.errors import InvalidInputError

FIRST_ORDER = ("zuko:CNF", "zuko:NAF", "zuko:SOSPF", "zuko:UNAF")
STEP = 1e-5
TOLERANCE = 1e-4  # of central differences with that step
# One of each kind: with an inverse of its own, by Newton's method, and with derivatives that zuko takes itself.
ROWS = params(row for row in (*DISCRETE, *FOREIGN) if row not in ("none", *FIRST_ORDER))


def gradient_along(flow: vf.AmortizedFlow, inputs: list[Tensor], direction: str, weights: list[Tensor]) -> Tensor:
    """Return a sum of all first derivatives with weights, with a graph."""
    z, context = inputs[:2]
    value, log_det = getattr(flow(context), f"{direction}_with_log_det")(z)
    gradients = torch.autograd.grad(value.sin().sum() + log_det.sum(), inputs, create_graph=True, allow_unused=True)
    return torch.stack([(g * w).sum() for g, w in zip(gradients, weights, strict=True) if g is not None]).sum()


def inputs_of(row: str, direction: str) -> tuple[vf.AmortizedFlow, list[Tensor]]:
    flow = moved(CONTRACTS[row].build(3, 2))
    context, z = (torch.randn(2, size, dtype=torch.float64) for size in (2, 3))
    if direction == "inverse":
        with torch.no_grad():
            z = flow(context).forward_with_log_det(0.5 * z)[0].clone()
    learned = [parameter for parameter in flow.parameters() if parameter.requires_grad]
    return flow, [z.requires_grad_(), context.requires_grad_(), *learned]


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("row", ROWS)
def test_second_derivatives_are_those_of_finite_differences(row: str, direction: str) -> None:
    flow, inputs = inputs_of(row, direction)
    weights, along = ([torch.randn_like(tensor) for tensor in inputs] for _ in range(2))
    second = torch.autograd.grad(gradient_along(flow, inputs, direction, weights), inputs, allow_unused=True)
    found = sum(float((g * v).sum()) for g, v in zip(second, along, strict=True) if g is not None)
    values = []
    for move in (STEP, -2 * STEP):
        with torch.no_grad():
            for tensor, step in zip(inputs, along, strict=True):
                tensor.add_(move * step)
        values.append(gradient_along(flow, inputs, direction, weights).item())
    expected = (values[0] - values[1]) / (2 * STEP)
    assert abs(found - expected) <= TOLERANCE * (1 + abs(expected))


@pytest.mark.skipif(find_spec("zuko") is None, reason="zuko is not installed")
@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("row", FIRST_ORDER)
def test_second_derivatives_that_zuko_has_not_are_refused(row: str, direction: str) -> None:
    flow, inputs = inputs_of(row, direction)
    with pytest.raises(InvalidInputError, match=f"gradient of {row}: expected a backward pass without create_graph"):
        gradient_along(flow, inputs, direction, [torch.ones_like(tensor) for tensor in inputs])
    value, log_det = getattr(flow(inputs[1]), f"{direction}_with_log_det")(inputs[0])
    (value.sum() + log_det.sum()).backward()  # first derivatives go on working
    gradient = inputs[0].grad
    assert isinstance(gradient, Tensor)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("flow", ["planar", "iaf", "sylvester-triangular", "pyro:planar", "pyro:radial"])
def test_hessians_of_the_log_density(flow: str) -> None:
    q = vf.AmortizedPosterior(3, 5, flow=flow).double().eval()(torch.randn(5, dtype=torch.float64))
    z = torch.randn(3, dtype=torch.float64)

    def score(z: Tensor) -> Tensor:
        result = torch.autograd.functional.jacobian(q.log_prob, z)
        assert isinstance(result, Tensor)
        return result

    hessian = torch.autograd.functional.hessian(q.log_prob, z)
    steps = STEP * torch.eye(3, dtype=torch.float64)
    numeric = torch.stack([(score(z + step) - score(z - step)) / (2 * STEP) for step in steps])
    torch.testing.assert_close(hessian, numeric, rtol=TOLERANCE, atol=TOLERANCE)
