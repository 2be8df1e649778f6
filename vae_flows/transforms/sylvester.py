"""The Sylvester transform and its exact inverse."""

from __future__ import annotations

import torch
from torch import Size, Tensor

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.known_values import known
from vae_flows.tensors.precision import at_least_single
from vae_flows.tensors.shapes import Folded, broadcast_shapes, check_parameters, fold_samples, wrong_parameters
from vae_flows.transforms.base import FusedTransform
from vae_flows.transforms.double_inverse import invert_in_double
from vae_flows.transforms.monotone import solve_monotone

__all__ = ["SylvesterTransform"]


class SylvesterTransform(FusedTransform):
    r"""The Sylvester transform :math:`y = z + Q R_1 \tanh(R_2 Q^Tz + b)`.

    With orthonormal columns in Q and upper triangular R1 and R2, the Jacobian's determinant is that of a triangular
    matrix, :math:`\prod_i 1 + (1 - \tanh^2)_i (R_1)_{ii} (R_2)_{ii}`. The transform is invertible where every product
    :math:`(R_1)_{ii}(R_2)_{ii}` exceeds -1. The inverse solves :math:`Q^Ty = a + R_1\tanh(R_2a + b)` for
    :math:`a = Q^Tz` by back-substitution: component by component from the last, a scalar equation each.

    Source: van den Berg et al. (2018), "Sylvester normalizing flows for variational inference", section 3.

    Arguments:
        Q: `(*batch, D, M)` with orthonormal columns.
        R1: `(*batch, M, M)`, upper triangular.
        R2: `(*batch, M, M)`, upper triangular.
        b: `(*batch, M)`.
        cache_size: 0 or 1.

    Raises:
        InvalidInputError: The shapes do not fit. The inverse raises it where no inverse exists, where it does not lead
            back to `y`, as happens if Q is not orthonormal or R1 or R2 is not triangular, and where the dtype is too
            coarse for a log-density.

    Example:
        >>> R = torch.tensor([[0.5, -2.0], [0.0, 0.8]])
        >>> transform = SylvesterTransform(torch.eye(3, 2), R, R, torch.tensor([0.1, 0.2]))
        >>> y = torch.tensor([3.0, -4.0, 5.0])
        >>> bool(torch.allclose(transform(transform.inv(y)), y))
        True
    """

    takes_double = True

    @checked
    def __init__(self, Q: Tensor, R1: Tensor, R2: Tensor, b: Tensor, *, cache_size: int = 1) -> None:
        super().__init__(*_sizes(Q, R1, R2, b), cache_size=cache_size)
        self._Q, self._R1, self._R2, self._b = Q, R1, R2, b.unsqueeze(-2)

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = fold_samples(at_least_single(x), self.batch_shape, self.broadcast_shape(x))
        exact = self._in(z.values.dtype)
        y, log_det = exact._evaluate(z, exact._tanh(z))
        return y.to(x.dtype), log_det.to(x.dtype)

    def forward_with_score(self, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shape = self.broadcast_shape(x)
        z, of_x = (fold_samples(at_least_single(values), self.batch_shape, shape) for values in (x, score))
        exact = self._in(z.values.dtype)
        tanh = exact._tanh(z)
        y, log_det = exact._evaluate(z, tanh)
        with torch.no_grad():
            score_of_y = z.unfold(exact._score(of_x.values, tanh))
        return y.to(x.dtype), log_det.to(x.dtype), score_of_y.to(x.dtype)

    def _score(self, score: Tensor, tanh: Tensor) -> Tensor:
        slope, products = 1 - tanh * tanh, self._products()
        residual = score + (2 * tanh * slope * products / (1 + slope * products)) @ self._R2 @ self._Q.mT
        # J = I + Q A Qᵀ with the upper triangular A = R1 diag(tanh') R2, inverted by the Woodbury formula.
        transposed = (self._R2.mT.unsqueeze(-3) * slope.unsqueeze(-2)) @ self._R1.mT.unsqueeze(-3)
        triangular = transposed + torch.eye(slope.shape[-1], dtype=slope.dtype, device=slope.device)
        projected = residual @ self._Q
        solved = torch.linalg.solve_triangular(triangular, projected.unsqueeze(-1), upper=False).squeeze(-1)
        return residual + (solved - projected) @ self._Q.mT

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return invert_in_double(self, self._invert, y)

    def _in(self, dtype: torch.dtype) -> SylvesterTransform:
        """Return this transform with its parameters in another dtype."""
        if self._Q.dtype == self._R1.dtype == self._R2.dtype == self._b.dtype == dtype:
            return self
        parameters = (self._Q, self._R1, self._R2, self._b.squeeze(-2))
        return SylvesterTransform(*(parameter.to(dtype) for parameter in parameters))

    def _invert(self, y: Tensor) -> tuple[Tensor, Tensor]:
        folded = fold_samples(y, self.batch_shape, self.broadcast_shape(y))
        exact = self._in(y.dtype)
        tanh = exact._solve_triangular_system(folded.values @ exact._Q)
        x = folded.unfold(folded.values - tanh @ exact._R1.mT @ exact._Q.mT)
        reproduced, log_det = exact.forward_with_log_det(x)
        self._check_inverse(x.detach(), y.detach(), reproduced.detach())
        return x, log_det

    def _tanh(self, z: Folded) -> Tensor:
        return torch.tanh(z.values @ self._Q @ self._R2.mT + self._b)

    def _evaluate(self, z: Folded, tanh: Tensor) -> tuple[Tensor, Tensor]:
        log_det = (1 + (1 - tanh * tanh) * self._products()).abs().log().sum(-1)
        return z.unfold(z.values + tanh @ self._R1.mT @ self._Q.mT), z.unfold(log_det)

    def _products(self) -> Tensor:
        return (self._R1.diagonal(dim1=-2, dim2=-1) * self._R2.diagonal(dim1=-2, dim2=-1)).unsqueeze(-2)

    def _solve_triangular_system(self, v: Tensor) -> Tensor:
        """Return tanh(R2 a + b) for the `a` with a + R1 tanh(R2 a + b) = v, where `v` is `(*batch, S, M)`."""
        # What the components solved so far contribute is moved to the known sides v and c.
        c = self._b
        solved = []
        for i in reversed(range(v.shape[-1])):
            r, s = self._R1[..., i, i, None], self._R2[..., i, i, None]
            a = solve_monotone(v[..., i], r, s, c[..., i])
            tanh = torch.tanh(s * a + c[..., i])
            v = v - tanh.unsqueeze(-1) * self._R1[..., None, :, i]
            c = c + a.unsqueeze(-1) * self._R2[..., None, :, i]
            solved.append(tanh)
        return torch.stack(solved[::-1], dim=-1)

    def _check_inverse(self, x: Tensor, y: Tensor, reproduced: Tensor) -> None:
        # A third of the digits: far above rounding, even where large R1 and R2 amplify it, and far below what a wrong Q
        # or R leaves.
        tolerance = torch.finfo(torch.promote_types(self._Q.dtype, torch.float32)).eps ** (1 / 3)
        scale = 1 + y.abs().amax(-1) + x.abs().amax(-1)
        error = (reproduced - y).abs().amax(-1) / scale
        if known(error <= tolerance) is False:
            raise InvalidInputError(
                complaint(
                    "inverse of SylvesterTransform",
                    f"a point that is mapped back to within {tolerance:.1e}",
                    f"a relative error of {float(error.max()):.1e}",
                    "Q needs orthonormal columns, R1 and R2 must be upper triangular.",
                )
            )


_SHAPES = "Q (*batch, D, M) with M <= D, R1 and R2 (*batch, M, M), b (*batch, M)"


def _sizes(Q: Tensor, R1: Tensor, R2: Tensor, b: Tensor) -> tuple[int, Size]:
    check_parameters("SylvesterTransform", _SHAPES, Q=Q, R1=R1, R2=R2, b=b)
    try:
        dim, rank = Q.shape[-2:]
        batch = broadcast_shapes(Q.shape[:-2], R1.shape[:-2], R2.shape[:-2], b.shape[:-1])
    except (RuntimeError, ValueError):
        pass
    else:
        if R1.shape[-2:] == R2.shape[-2:] == (rank, rank) and b.shape[-1:] == (rank,) and rank <= dim:
            return dim, batch
    raise wrong_parameters("SylvesterTransform", _SHAPES, Q=Q, R1=R1, R2=R2, b=b)
