from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vae_flows.errors import InvalidInputError
from vae_flows.transforms import householder_product, orthonormalize

ORTHONORMALITY = 20  # units of eps
GOLDEN = 1e-10


def distance_from_orthonormal(Q: Tensor) -> float:
    identity = torch.eye(Q.shape[-1], dtype=Q.dtype)
    return float((Q.mT @ Q - identity).abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 4, 8, 5), (6, 6), (7, 1), (1, 1)])
def test_columns_become_orthonormal(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    Q = orthonormalize(100 * torch.randn(shape, dtype=dtype))
    assert Q.dtype == dtype
    assert distance_from_orthonormal(Q) <= ORTHONORMALITY * torch.finfo(dtype).eps


def test_orthonormalize_gives_the_polar_factor() -> None:
    matrix = torch.randn(5, 8, 3, dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(orthonormalize(matrix), left @ right, rtol=0, atol=1e-12)


def test_orthonormalize_of_nearly_dependent_columns() -> None:
    matrix = torch.randn(8, 3, dtype=torch.float64)
    matrix[:, 1] = matrix[:, 0] + 1e-7 * matrix[:, 1]
    assert distance_from_orthonormal(orthonormalize(matrix)) <= ORTHONORMALITY * torch.finfo(torch.float64).eps


def test_orthonormalize_under_vmap_is_the_same_and_nan_where_it_fails() -> None:
    matrix = torch.randn(5, 8, 3, dtype=torch.float64)
    mapped = torch.func.vmap(orthonormalize)
    torch.testing.assert_close(mapped(matrix), orthonormalize(matrix), rtol=0, atol=1e-12)
    matrix[1, :, 0] = matrix[1, :, 1]
    assert mapped(matrix).isnan().all((1, 2)).tolist() == [False, True, False, False, False]


def test_orthonormalize_takes_an_empty_batch() -> None:
    assert orthonormalize(torch.zeros(0, 4, 2)).shape == (0, 4, 2)


@pytest.mark.parametrize("entry", [1.0, 0.0, float("nan")])
def test_orthonormalize_refuses_dependent_columns(entry: float) -> None:
    with pytest.raises(InvalidInputError, match=r"shape \(4, 2\): expected finite, linearly independent columns"):
        orthonormalize(torch.full((4, 2), entry))


def test_orthonormalize_gradients() -> None:
    matrix = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(orthonormalize, matrix)


def test_householder_product_agrees_with_the_reference(golden: Callable[[str], dict[str, Tensor]]) -> None:
    values = golden("sylvester_householder")
    torch.testing.assert_close(householder_product(values["v"]), values["Q"], rtol=0, atol=GOLDEN)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_householder_product_is_orthogonal_for_repeated_and_zero_vectors(dtype: torch.dtype) -> None:
    vectors = torch.randn(4, 6, dtype=dtype)
    vectors[2] = 1e-3 * vectors[1]
    vectors[3] = 0
    Q = householder_product(vectors)
    assert distance_from_orthonormal(Q) <= ORTHONORMALITY * torch.finfo(dtype).eps
    torch.testing.assert_close(Q, householder_product(vectors[:1]))  # a reflection twice is the identity


def test_householder_gradients() -> None:
    vectors = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(householder_product, vectors)
