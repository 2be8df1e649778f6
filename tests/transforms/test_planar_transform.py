from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vae_flows.errors import InvalidInputError
from vae_flows.transforms import ChainTransform, PlanarTransform

GOLDEN = 1e-10
ROUND_TRIP = 1e-9


def parameters(*batch: int, dim: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    u, w = torch.randn(2, *batch, dim, dtype=torch.float64)
    return u, w, torch.randn(batch, dtype=torch.float64)


def test_agrees_with_the_reference(golden: Callable[[str], dict[str, Tensor]]) -> None:
    values = golden("planar")
    layers = zip(values["u"].unbind(1), values["w"].unbind(1), values["b"].unbind(1), strict=True)
    chain = ChainTransform([PlanarTransform(*layer) for layer in layers])
    y, log_det = chain.forward_with_log_det(values["z0"])
    torch.testing.assert_close(y, values["zK"], rtol=0, atol=GOLDEN)
    torch.testing.assert_close(log_det, values["log_abs_det"], rtol=0, atol=GOLDEN)
    torch.testing.assert_close(chain.inverse_with_log_det(y)[0], values["z0"], rtol=0, atol=ROUND_TRIP)


@pytest.mark.parametrize("scale", [0.1, 1.0, 1e3])
def test_inverts_arbitrary_values(scale: float) -> None:
    transform = PlanarTransform(*(3 * parameter for parameter in parameters(50)))
    y = scale * torch.randn(20, 50, 4, dtype=torch.float64)
    x, log_det = transform.inverse_with_log_det(y)
    reproduced, expected_log_det = transform.forward_with_log_det(x)
    torch.testing.assert_close(reproduced, y, rtol=0, atol=ROUND_TRIP)
    torch.testing.assert_close(log_det, expected_log_det, rtol=0, atol=ROUND_TRIP)


def test_gradients_of_both_directions() -> None:
    inputs = [tensor.requires_grad_() for tensor in (torch.randn(2, 3, 4, dtype=torch.float64), *parameters(3))]
    assert torch.autograd.gradcheck(lambda z, *p: PlanarTransform(*p).forward_with_log_det(z), inputs)
    assert torch.autograd.gradcheck(lambda z, *p: PlanarTransform(*p).inverse_with_log_det(z), inputs)


def test_second_derivatives_of_the_density() -> None:
    transform = PlanarTransform(*parameters())
    y = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(transform.inverse_with_log_det, y)


@pytest.mark.parametrize("product", [-3.0, -30.0, -90.0])
def test_is_invertible_however_negative_the_raw_product_is(product: float) -> None:
    # In float32, 1 + wᵀû rounds to zero from about -17 on; at wᵀz + b = 0 that would make the log-det infinite.
    w = torch.tensor([1.0, 0.0])
    transform = PlanarTransform(product * w, w, torch.zeros(()))
    log_det = transform.forward_with_log_det(torch.zeros(2))[1]
    torch.testing.assert_close(log_det, torch.tensor(product).exp().log1p().log())
    inverse, inverse_log_det = transform.inverse_with_log_det(torch.tensor([[0.3, 1.0], [-5.0, 2.0]]))
    assert inverse.isfinite().all()
    assert inverse_log_det.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [0.0, 1e-30, 1e-5])
def test_vanishing_normals_are_guarded(length: float, dtype: torch.dtype) -> None:
    u, b = torch.randn(3, dtype=dtype, requires_grad=True), torch.tensor(0.4, dtype=dtype, requires_grad=True)
    w = torch.full((3,), length, dtype=dtype, requires_grad=True)
    transform = PlanarTransform(u, w, b)
    y, log_det = transform.forward_with_log_det(torch.randn(5, 3, dtype=dtype))
    (y.sum() + log_det.sum()).backward()
    for parameter in (u, w, b):
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    if length < 1e-20:
        torch.testing.assert_close(log_det, torch.zeros(5, dtype=dtype))
    x, _ = transform.inverse_with_log_det(y.detach())
    torch.testing.assert_close(transform.forward_with_log_det(x)[0], y)


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("product", [-5.0, -0.1, 0.0, 0.1, 5.0])
def test_short_normals_move_nothing_far_and_stay_invertible(dim: int, dtype: torch.dtype, product: float) -> None:
    # The published correction, about 0.3 w / ||w||², would be a step of 3e6 for the shortest of these.
    lengths = torch.logspace(-7, 0, 50, dtype=dtype)
    w = lengths.unsqueeze(-1) * torch.nn.functional.normalize(torch.ones(dim, dtype=dtype), dim=-1)
    u = torch.full((50, dim), product, dtype=dtype)
    transform = PlanarTransform(u, w, torch.ones(50, dtype=dtype))
    z = torch.randn(50, dim, dtype=dtype)
    y, log_det = transform.forward_with_log_det(z)
    assert (y - z).abs().max() < 10 + 5
    x, found = transform.inverse_with_log_det(y)
    torch.testing.assert_close(x, z, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found, log_det, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("batch", [(3,), (5, 3)])
def test_transforms_corrected_together_are_those_corrected_alone(batch: tuple[int, ...]) -> None:
    u, w, b = parameters(*batch)
    z = torch.randn(7, *batch[:-1], 4, dtype=torch.float64)
    for b_or_shared in (b, b[..., 0, None]):
        layers = PlanarTransform(u, w, b_or_shared).unbind()
        assert len(layers) == 3
        for layer, transform in enumerate(layers):
            alone = PlanarTransform(u[..., layer, :], w[..., layer, :], b_or_shared.expand(batch)[..., layer])
            assert transform.batch_shape == alone.batch_shape
            for together, expected in zip(
                transform.forward_with_log_det(z), alone.forward_with_log_det(z), strict=True
            ):
                torch.testing.assert_close(together, expected)


def test_a_transform_without_a_batch_is_not_unbound() -> None:
    with pytest.raises(InvalidInputError, match=r"PlanarTransform.unbind: expected a batch shape that is not empty"):
        PlanarTransform(*parameters()).unbind()


@pytest.mark.parametrize("length", [0.02, 0.03, 0.05, 1.0])
def test_the_log_determinant_of_short_normals_is_that_of_the_jacobian(length: float) -> None:
    u, w = torch.randn(2, 3, dtype=torch.float64)
    transform = PlanarTransform(5 * u, length * w, torch.tensor(0.4, dtype=torch.float64))
    z = torch.randn(3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(transform, z)
    assert isinstance(jacobian, Tensor)
    torch.testing.assert_close(transform.forward_with_log_det(z)[1], torch.linalg.slogdet(jacobian).logabsdet)


def test_wrong_shapes_are_named() -> None:
    u, w, b = parameters(3)
    with pytest.raises(
        InvalidInputError, match=r"u and w of shape \(\*batch, D\).*w a torch.float64 tensor of shape \(3, 2\)"
    ):
        PlanarTransform(u, w[:, :2], b)
    with pytest.raises(InvalidInputError, match=r"b a torch.float64 tensor of shape \(2,\)"):
        PlanarTransform(u, w, b[:2])
    with pytest.raises(InvalidInputError, match=r"u a torch.float64 tensor of shape \(\)"):
        PlanarTransform(b[0], b[0], b[0])
