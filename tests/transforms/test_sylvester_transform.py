from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vae_flows.errors import InvalidInputError
from vae_flows.transforms import ChainTransform, SylvesterTransform, orthonormalize

GOLDEN = 1e-10
ROUND_TRIP = 1e-9


def parameters(*batch: int, dim: int = 5, rank: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Raw matrices for `build`, with a product of diagonals close to -1 in every transform."""
    matrices = torch.randn(2, *batch, rank, rank, dtype=torch.float64)
    diagonals = torch.tanh(torch.randn(2, *batch, rank, dtype=torch.float64))
    diagonals[0, ..., 0], diagonals[1, ..., 0] = 1.0, -(1 - 1e-6)
    R1, R2 = torch.diagonal_scatter(matrices.triu(), diagonals, dim1=-2, dim2=-1)
    raw = torch.randn(*batch, dim, rank, dtype=torch.float64)
    return raw, R1, R2, torch.randn(*batch, rank, dtype=torch.float64)


def build(raw: Tensor, R1: Tensor, R2: Tensor, b: Tensor) -> SylvesterTransform:
    return SylvesterTransform(orthonormalize(raw), R1.triu(), R2.triu(), b)


def reference_bases(name: str, values: dict[str, Tensor]) -> Tensor:
    if name == "triangular":
        identity = torch.eye(8, dtype=torch.float64)
        return torch.stack([identity, identity.flip(0), identity]).expand(6, 3, 8, 8)
    return values["Q"]


@pytest.mark.parametrize("name", ["orthogonal", "householder", "triangular"])
def test_agrees_with_the_reference(name: str, golden: Callable[[str], dict[str, Tensor]]) -> None:
    values = golden(f"sylvester_{name}")
    tensors = (reference_bases(name, values), values["R1"], values["R2"], values["b"])
    layers = zip(*(tensor.unbind(1) for tensor in tensors), strict=True)
    chain = ChainTransform([SylvesterTransform(*layer) for layer in layers])
    y, log_det = chain.forward_with_log_det(values["z0"])
    torch.testing.assert_close(y, values["zK"], rtol=0, atol=GOLDEN)
    torch.testing.assert_close(log_det, values["log_abs_det"], rtol=0, atol=GOLDEN)
    torch.testing.assert_close(chain.inverse_with_log_det(y)[0], values["z0"], rtol=0, atol=ROUND_TRIP)


@pytest.mark.parametrize("scale", [0.1, 1.0, 1e3])
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_inverts_arbitrary_values(rank: int, scale: float) -> None:
    transform = build(*parameters(30, rank=rank))
    y = scale * torch.randn(20, 30, 5, dtype=torch.float64)
    x, log_det = transform.inverse_with_log_det(y)
    reproduced, expected_log_det = transform.forward_with_log_det(x)
    torch.testing.assert_close(reproduced, y, rtol=0, atol=ROUND_TRIP)
    torch.testing.assert_close(log_det, expected_log_det, rtol=0, atol=ROUND_TRIP)


def test_float32_inverse_of_a_wide_transform_passes_its_own_check() -> None:
    raw, R1, R2, b = (parameter.float() for parameter in parameters(10, dim=64, rank=64))
    transform = build(raw, R1, R2, b)
    x, _ = transform.inverse_with_log_det(10 * torch.randn(10, 64))
    assert x.isfinite().all()


def test_gradients_of_both_directions() -> None:
    raw, R1, R2, b = parameters(2, dim=4, rank=2)
    inputs = [t.requires_grad_() for t in (torch.randn(3, 2, 4, dtype=torch.float64), raw, 0.9 * R1, R2, b)]
    assert torch.autograd.gradcheck(lambda z, *p: build(*p).forward_with_log_det(z), inputs)
    assert torch.autograd.gradcheck(lambda z, *p: build(*p).inverse_with_log_det(z), inputs)


@pytest.mark.parametrize("shared", ["Q", "R", "b"])
def test_parameters_broadcast_against_each_other_and_the_latents(shared: str) -> None:
    raw, R1, R2, b = parameters(4)
    Q = orthonormalize(raw)
    Q = Q[0] if shared == "Q" else Q
    R1, R2 = (R1[:1], R2[:1]) if shared == "R" else (R1, R2)
    b = b[0] if shared == "b" else b
    expected = SylvesterTransform(Q.expand(4, 5, 3), R1.expand(4, 3, 3), R2.expand(4, 3, 3), b.expand(4, 3))
    z = torch.randn(7, 4, 5, dtype=torch.float64)
    for actual, wanted in zip(
        SylvesterTransform(Q, R1, R2, b).forward_with_log_det(z), expected.forward_with_log_det(z), strict=True
    ):
        torch.testing.assert_close(actual, wanted)


def test_inverse_refuses_what_has_none() -> None:
    raw, R1, R2, b = parameters(3)
    y = torch.randn(3, 5, dtype=torch.float64)
    with pytest.raises(InvalidInputError, match=r"diag\(R1\) diag\(R2\) > -1"):
        build(raw, 1.5 * R1, R2, b).inverse_with_log_det(y)


@pytest.mark.parametrize("wrong", ["Q", "R1", "R2"])
def test_inverse_refuses_to_return_a_wrong_point(wrong: str) -> None:
    raw, R1, R2, b = parameters(3)
    error = 0.01 * torch.ones(5, 3, dtype=torch.float64)
    Q = orthonormalize(raw) + (error if wrong == "Q" else 0)
    R1 = R1 + (error[:3].tril(-1) if wrong == "R1" else 0)
    R2 = R2 + (error[:3].tril(-1) if wrong == "R2" else 0)
    transform = SylvesterTransform(Q, R1, R2, b)
    with pytest.raises(InvalidInputError, match="Q needs orthonormal columns, R1 and R2 must be upper triangular"):
        transform.inverse_with_log_det(torch.randn(3, 5, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("share", "wrong"), [(0.5, False), (2.0, True)])
def test_a_point_is_wrong_where_a_third_of_the_digits_is(dtype: torch.dtype, share: float, wrong: bool) -> None:
    # Q = 1 + δ for 1 leaves an error of 2 δ tanh (1 - tanh²) = 3/4 δ, to be compared with 1 + |y| + |x| = 3/2.
    one, delta = torch.ones(1, 1, dtype=dtype), 2 * share * torch.finfo(dtype).eps ** (1 / 3)
    transform = SylvesterTransform((1 + delta) * one, one, one, torch.atanh(0.5 * one[0]))
    y = 0.5 * one[0] / (1 + delta)
    if wrong:
        with pytest.raises(InvalidInputError, match="mapped back to within"):
            transform.inverse_with_log_det(y)
    else:
        torch.testing.assert_close(transform.inverse_with_log_det(y)[0], 0 * y, rtol=0, atol=delta)


@pytest.mark.parametrize(
    "shapes",
    [
        ((5, 3), (3, 3), (3, 3), (2,)),
        ((5, 3), (3, 3), (2, 2), (3,)),
        ((3, 5), (5, 5), (5, 5), (5,)),
        ((4, 5, 3), (2, 3, 3), (3, 3), (3,)),
        ((5,), (1, 1), (1, 1), (1,)),
    ],
)
def test_wrong_shapes_are_named(shapes: tuple[tuple[int, ...], ...]) -> None:
    Q, R1, R2, b = map(torch.zeros, shapes)
    with pytest.raises(InvalidInputError, match=r"expected Q \(\*batch, D, M\) with M <= D"):
        SylvesterTransform(Q, R1, R2, b)


def test_forward_log_det_is_right_even_without_an_inverse() -> None:
    raw, R1, R2, b = parameters(dim=3)
    diagonal = torch.tensor([-1.5, 0.5, 0.5], dtype=torch.float64)
    R1 = torch.diagonal_scatter(R1, diagonal)
    R2 = torch.diagonal_scatter(R2, torch.ones_like(diagonal))
    transform = build(raw, R1, R2, torch.zeros_like(b))
    z = 1e-3 * torch.randn(3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(transform, z)
    assert isinstance(jacobian, Tensor)
    expected = torch.linalg.slogdet(jacobian)
    assert expected.sign < 0
    torch.testing.assert_close(transform.forward_with_log_det(z)[1], expected.logabsdet)
