"""Matrices with orthonormal columns from free parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_flows.checks import described
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.known_values import known
from vae_flows.tensors.precision import at_least_single, or_double
from vae_flows.tensors.shapes import is_dense

__all__ = ["householder_product", "orthonormalize"]

# Far from orthonormality every step multiplies the smallest singular value by 1.5, so that this reaches 1 from 1e-17.
MAX_STEPS = 120
STEPS_AT_ONCE = 4
# Where values cannot be looked at: enough for the smallest singular value to be 1e-6 of the norm.
BLIND_STEPS = 40


def orthonormalize(matrix: Tensor) -> Tensor:
    r"""Turn the columns of a matrix into orthonormal ones by iterating :math:`Q \leftarrow Q(I + (I - Q^TQ)/2)`.

    The start is the matrix over its Frobenius norm, which ensures convergence to the nearest matrix with orthonormal
    columns, the polar factor. Convergence is quadratic at the end, and gradients flow through the iteration.

    Source: Björck and Bowie (1971), "An iterative algorithm for computing the best estimate of an orthogonal matrix";
    van den Berg et al. (2018), "Sylvester normalizing flows for variational inference", equation 17.

    Arguments:
        matrix: `(*batch, D, M)` of full column rank, so M <= D.

    Returns:
        `(*batch, D, M)` with :math:`Q^TQ = I` to the precision of the dtype.

    Raises:
        InvalidInputError: The matrix is no such tensor, columns are linearly dependent, or values are not finite. Under
            `torch.compile` and `torch.func.vmap`, where values cannot be looked at, the result is NaN instead.

    Example:
        >>> Q = orthonormalize(torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]]))
        >>> bool(torch.allclose(Q.mT @ Q, torch.eye(2)))
        True
    """
    _check_matrices("matrix", matrix)
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    Q = matrix / torch.linalg.matrix_norm(matrix, keepdim=True)
    # A step from distance d leaves at most d², so the step from here is the last one needed.
    last_step = math.sqrt(torch.finfo(matrix.dtype).eps)
    for step in range(0, MAX_STEPS, STEPS_AT_ONCE):
        gram = Q.mT @ Q
        factor = product = 1.5 * identity - 0.5 * gram
        near = torch.linalg.matrix_norm(gram.detach() - identity, keepdim=True) <= last_step
        all_near = known(near)
        if all_near:
            return Q @ product
        if all_near is None and step == BLIND_STEPS:
            return torch.where(near, Q @ product, torch.nan)
        # A step multiplies Q by a polynomial of its Gram matrix, so the next steps need only products of small ones.
        for _ in range(STEPS_AT_ONCE - 1):
            gram = gram @ factor @ factor
            factor = 1.5 * identity - 0.5 * gram
            product = product @ factor
        Q = Q @ product
    raise InvalidInputError(
        complaint(
            f"orthonormalize for matrices of shape {tuple(matrix.shape)}",
            "finite, linearly independent columns",
            f"no orthonormal matrix after {MAX_STEPS} steps",
            f"Check the parameters that emit them{or_double(matrix.dtype)}.",
        )
    )


def householder_product(vectors: Tensor) -> Tensor:
    r"""Multiply Householder reflections: :math:`Q = H_K \cdots H_1` with :math:`H_k = I - 2 v_k v_k^T / \|v_k\|^2`.

    The product is built at once in its compact form :math:`I - V L^{-1} V^T`, where V has the vectors as columns and L
    is the lower triangle of :math:`V^TV` with its diagonal halved: two matrix products and a small solve for any K.

    Source: Tomczak and Welling (2016), "Improving variational auto-encoders using Householder flow", for the
    amortisation; Joffrain et al. (2006), "Accumulating Householder transformations, revisited", for the compact form.

    Arguments:
        vectors: `(*batch, K, D)`, of any length; a zero vector stands for the identity.

    Returns:
        Orthogonal matrices `(*batch, D, D)`.

    Raises:
        InvalidInputError: The vectors are no such tensor.

    Example:
        >>> householder_product(torch.tensor([[2.0, 0.0]]))
        tensor([[-1.,  0.],
                [ 0.,  1.]])
    """
    _check_matrices("vectors", vectors)
    dtype, vectors = vectors.dtype, at_least_single(vectors)
    gram = vectors @ vectors.mT
    squares = gram.diagonal(dim1=-2, dim2=-1)
    tiny = torch.finfo(vectors.dtype).tiny
    halved = torch.where(squares > tiny, 0.5 * squares, torch.ones_like(squares))
    lower = gram.tril(-1) + torch.diag_embed(halved)
    identity = torch.eye(vectors.shape[-1], dtype=vectors.dtype, device=vectors.device)
    return (identity - vectors.mT @ torch.linalg.solve_triangular(lower, vectors, upper=False)).to(dtype)


def _check_matrices(subject: str, matrices: Tensor) -> None:
    if not is_dense(matrices) or matrices.dim() < 2:
        raise InvalidInputError(complaint(subject, "a floating-point tensor of matrices", described(matrices)))
