from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.seeds import reseed
from vae_flows.flows.adapters.newton import newton_inverse

ROUNDING = 1e-12


def steep(x: Tensor) -> Tensor:
    """A map of the plane onto itself on which undamped Newton steps from y oscillate."""
    bent = x[..., 0].asinh()
    return torch.stack((5 * bent + 0.1 * x[..., 1], x[..., 1] + x[..., 1] ** 3 + bent.sin()), -1)


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_solves_from_far_away(scale: float) -> None:
    reseed()
    y = scale * torch.randn(3, 40, 2, dtype=torch.float64)
    x = newton_inverse(steep, y)
    torch.testing.assert_close(steep(x), y, rtol=ROUNDING, atol=ROUNDING)


def test_derivatives_are_those_of_the_implicit_function() -> None:
    reseed()
    y = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y, scale: newton_inverse(lambda x: scale * steep(x), y), (y, scale))


def test_a_value_that_is_not_reached_ends_at_the_nearest_found() -> None:
    y = torch.tensor([[2.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    x = newton_inverse(torch.tanh, y)
    assert x.isfinite().all()
    assert torch.tanh(x[0, 0]) == 1
    torch.testing.assert_close(torch.tanh(x[1]), y[1])


def test_a_good_start_saves_evaluations() -> None:
    counts = []
    y = torch.full((1, 2), 50.0, dtype=torch.float64)
    root = newton_inverse(steep, y)
    for start in (None, root):
        calls = []

        def counted(x: Tensor, calls: list[int] = calls) -> Tensor:
            calls.append(1)
            return steep(x)

        newton_inverse(counted, y, start)
        counts.append(len(calls))
    assert counts[1] < counts[0]
