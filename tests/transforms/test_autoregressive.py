from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vae_flows.errors import InvalidInputError
from vae_flows.transforms import ChainTransform, FusedTransform, InverseAutoregressiveTransform, ReverseTransform

GOLDEN = 1e-10
ROUND_TRIP = 1e-9


def triangular_network(weight: Tensor, shift: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    strict = weight.tril(-1)

    def network(z: Tensor) -> tuple[Tensor, Tensor]:
        hidden = z @ strict.mT + shift
        return torch.sin(hidden), torch.tanh(hidden)

    return network


def transform_of(weight: Tensor, shift: Tensor) -> InverseAutoregressiveTransform:
    return InverseAutoregressiveTransform(
        triangular_network(weight, shift), weight.shape[-1], shift.shape[:-1], parameters=(shift,)
    )


def reference_network(values: dict[str, Tensor], layer: int) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    def linear(name: str, x: Tensor) -> Tensor:
        return x @ values[f"{name}_weight_{layer}"] + values[f"{name}_bias_{layer}"]

    def network(z: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.elu(linear("hidden", F.elu(linear("in", z)) + values["context"]))
        return linear("mean", hidden), linear("gate", hidden)

    return network


def test_agrees_with_the_reference(golden: Callable[[str], dict[str, Tensor]]) -> None:
    values = golden("iaf")
    parts: list[FusedTransform] = []
    for layer in range(3):
        if layer % 2:
            parts.append(ReverseTransform(8, torch.Size([6])))
        network = reference_network(values, layer)
        parts.append(InverseAutoregressiveTransform(network, 8, [6], forget_bias=float(values["forget_bias"])))
    chain = ChainTransform(parts)
    y, log_det = chain.forward_with_log_det(values["z0"])
    torch.testing.assert_close(y, values["zK"], rtol=0, atol=GOLDEN)
    torch.testing.assert_close(log_det, values["log_abs_det"], rtol=0, atol=GOLDEN)
    torch.testing.assert_close(chain.inverse_with_log_det(y)[0], values["z0"], rtol=0, atol=ROUND_TRIP)


@pytest.mark.parametrize("scale", [0.1, 1.0, 1e3])
def test_inverts_arbitrary_values(scale: float) -> None:
    transform = transform_of(torch.randn(6, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64))
    y = scale * torch.randn(10, 4, 6, dtype=torch.float64)
    x, log_det = transform.inverse_with_log_det(y)
    reproduced, expected_log_det = transform.forward_with_log_det(x)
    torch.testing.assert_close(reproduced, y, rtol=0, atol=ROUND_TRIP)
    torch.testing.assert_close(log_det, expected_log_det, rtol=0, atol=ROUND_TRIP)


def test_gradients_of_both_directions() -> None:
    weight, shift, z = torch.randn(3, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3)
    inputs = [tensor.requires_grad_() for tensor in (z.double(), weight, shift)]
    assert torch.autograd.gradcheck(lambda z, *p: transform_of(*p).forward_with_log_det(z), inputs)
    assert torch.autograd.gradcheck(lambda z, *p: transform_of(*p).inverse_with_log_det(z), inputs)


def test_a_parameter_changed_in_place_is_not_answered_from_the_cache() -> None:
    shift = torch.randn(3)
    transform = transform_of(torch.randn(3, 3), shift)
    z = torch.randn(5, 3)
    y = transform(z)
    assert transform.inv(y) is z
    shift.add_(1.0)
    assert transform.inv(y) is not z
    assert not torch.allclose(transform(z), y)


def test_closed_gates_invert_without_overflow_in_unsolved_components() -> None:
    # While early components are solved, the later ones must not carry values from gates that are not theirs.
    def network(z: Tensor) -> tuple[Tensor, Tensor]:
        earlier = z.cumsum(-1) - z
        return earlier, -20 * earlier.abs().clamp_max(1)

    y = torch.tensor([2.0, -1.0, 0.5, 0.1], dtype=torch.float64, requires_grad=True)
    x, log_det = InverseAutoregressiveTransform(network, 4).inverse_with_log_det(y)
    (gradient,) = torch.autograd.grad(log_det, y)
    assert x.isfinite().all()
    assert gradient.isfinite().all()


def test_inverse_says_where_it_overflows() -> None:
    transform = InverseAutoregressiveTransform(lambda z: (torch.zeros_like(z), torch.full_like(z, -200.0)), 2)
    with pytest.raises(InvalidInputError, match=r"finite latents that torch\.float32 can map back"):
        transform.inverse_with_log_det(torch.ones(2))
    assert transform.inverse_with_log_det(torch.ones(2, dtype=torch.float64))[0].isfinite().all()
