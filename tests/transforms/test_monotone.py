from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vae_flows.errors import InvalidInputError
from vae_flows.transforms.monotone import solve_monotone

COUNT = 2000
RESIDUAL_ROUNDING = 4  # units of eps (|v| + |r|): what the sums, products and tanh of a residual round by, at most
ROUNDING = 16  # units of eps (|v| + |r|): what solver and bisection may differ by where the slope is not small


def bisection(v: Tensor, r: Tensor, s: Tensor, c: Tensor) -> Tensor:
    low, high = v - r.abs(), v + r.abs()
    for _ in range(100):
        middle = 0.5 * (low + high)
        below = middle + r * torch.tanh(s * middle + c) < v
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return 0.5 * (low + high)


def equations(case: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    v, r, s, c = torch.randn(4, COUNT, dtype=dtype)
    match case:
        case "moderate":
            s = s * r.sign() * s.sign()
        case "contracting":
            r = -0.9 * torch.rand(COUNT, dtype=dtype) / s
        case "far out":
            v, r = 1e4 * v, r.abs() * s.sign()
        case "huge offset":
            r, c = r.abs() * s.sign(), 1e8 * c
        case "steep":
            r, s = 1e2 * r.abs(), 1e3 * s.abs()
            c = -s * c
    return v, r, s, c


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", ["moderate", "contracting", "far out", "huge offset", "steep"])
def test_agrees_with_bisection(case: str, dtype: torch.dtype) -> None:
    v, r, s, c = equations(case, dtype)
    root = solve_monotone(v, r, s, c)
    assert root.dtype == dtype
    slope = 1 + r * s / torch.cosh(s * root + c) ** 2
    tolerance = ROUNDING * torch.finfo(dtype).eps * (v.abs() + r.abs()) / slope.clamp_max(1)
    assert ((root - bisection(v, r, s, c)).abs() <= tolerance).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_solves_nearly_singular_equations(dtype: torch.dtype) -> None:
    # Roots where the slope is 1 + r s, down to rounding: the equation is fulfilled though the root is ill-conditioned.
    eps = torch.finfo(dtype).eps
    s = torch.rand(COUNT, dtype=dtype) + 0.5
    r = -(1 - torch.logspace(-1, -20, COUNT, dtype=dtype)) / s
    r = torch.where(r * s < -1, r * (1 - eps), r)
    c = torch.randn(COUNT, dtype=dtype)
    v = -c / s + torch.randn(COUNT, dtype=dtype) * torch.logspace(0, -10, COUNT, dtype=dtype)
    root = solve_monotone(v, r, s, c)
    residual = root + r * torch.tanh(s * root + c) - v
    assert (residual.abs() <= ROUNDING * eps * (v.abs() + r.abs())).all()


def test_a_residual_above_its_rounding_is_reduced() -> None:
    # Newton's first point misses v by -r² s (1 - tanh² c) tanh c, which s makes a little more than can be rounding.
    c = torch.linspace(0.4, 1.2, COUNT, dtype=torch.float64)
    v, r, tanh = torch.ones_like(c), torch.ones_like(c), torch.tanh(c)
    unit = torch.finfo(torch.float64).eps * (v + r)
    s = 1.125 * RESIDUAL_ROUNDING * unit / ((1 - tanh**2) * tanh)
    first, root = v - r * torch.tanh(s * v + c), solve_monotone(v, r, s, c)
    for a, above in ((first, True), (root, False)):
        assert (((a + r * torch.tanh(s * a + c) - v).abs() > RESIDUAL_ROUNDING * unit) == above).all()


def test_gradients_of_first_and_second_order_are_those_of_the_implicit_function() -> None:
    v, r, s, c = torch.randn(4, 6, dtype=torch.float64)
    inputs = [tensor.requires_grad_() for tensor in (v, r, s.abs() * r.sign(), c)]
    assert torch.autograd.gradcheck(solve_monotone, inputs)
    assert torch.autograd.gradgradcheck(solve_monotone, inputs)


def test_broadcasts_and_takes_empty_tensors() -> None:
    one = torch.ones(())
    assert solve_monotone(torch.zeros(3, 1), one, one, torch.zeros(4)).shape == (3, 4)
    assert solve_monotone(torch.zeros(0, 5), one, one, one).shape == (0, 5)


def test_refuses_equations_without_a_unique_root() -> None:
    one = torch.ones(3)
    with pytest.raises(InvalidInputError, match=r"diag\(R1\) diag\(R2\) > -1.*got a product of -1\.5"):
        solve_monotone(one, 1.5 * one, -one, one)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_values_that_are_not_finite(value: float) -> None:
    one = torch.ones(3)
    with pytest.raises(InvalidInputError, match="finite latents and parameters"):
        solve_monotone(torch.tensor([0.0, value, 1.0]), one, one, one)
