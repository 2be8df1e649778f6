"""The planar transform and its exact inverse."""

from __future__ import annotations

import torch
from torch import Size, Tensor
from torch.nn import functional as F

from vae_flows.errors import InvalidInputError, complaint
from vae_flows.transforms.base import FusedTransform
from vae_flows.transforms.monotone import solve_monotone

__all__ = ["PlanarTransform"]


class PlanarTransform(FusedTransform):
    r"""The planar transform :math:`y = z + \hat u \tanh(w^Tz + b)`, invertible for every u, w and b.

    :math:`\hat u = u + (\mathrm{softplus}(w^Tu) - 1 - w^Tu)\, w / \|w\|^2` keeps :math:`w^T\hat u > -1`. Where w is
    zero, the transform is a shift and u is not corrected. The inverse solves the scalar equation
    :math:`\alpha + w^T\hat u \tanh(\alpha + b) = w^Ty` for :math:`\alpha = w^Tz`.

    Source: Rezende and Mohamed (2015), "Variational inference with normalizing flows", equation 10 and appendix A.1.

    Arguments:
        u: Raw directions `(*batch, D)`, corrected inside.
        w: Normals `(*batch, D)`.
        b: Offsets `(*batch,)`.
        cache_size: 0 or 1.

    Raises:
        InvalidInputError: The shapes do not fit.

    Example:
        >>> transform = PlanarTransform(torch.tensor([1.0, 2.0]), torch.tensor([0.5, -1.0]), torch.tensor(0.3))
        >>> y = torch.tensor([3.0, -40.0])
        >>> bool(torch.allclose(transform(transform.inv(y)), y))
        True
    """

    def __init__(self, u: Tensor, w: Tensor, b: Tensor, *, cache_size: int = 1) -> None:
        super().__init__(*_sizes(u, w, b), cache_size=cache_size)
        product = (w * u).sum(-1)
        square = (w * w).sum(-1)
        guard = torch.finfo(w.dtype).eps ** 2
        corrected = square > guard
        # softplus(wᵀu) is 1 + wᵀû without the rounding of that sum, which would reach 0 where wᵀu is very negative.
        self._margin = torch.where(corrected, F.softplus(product), 1 + product)
        self._gain = torch.where(corrected, self._margin - 1, product)
        self._direction = u + ((self._gain - product) / square.clamp_min(guard)).unsqueeze(-1) * w
        self._normal = w
        self._offset = b

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tanh = self._tanh(x)
        return x + tanh.unsqueeze(-1) * self._direction, self._log_det(tanh)

    def forward_with_score(self, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tanh = self._tanh(x)
        y, log_det = x + tanh.unsqueeze(-1) * self._direction, self._log_det(tanh)
        with torch.no_grad():
            slope_over_det = (1 - tanh * tanh) / log_det.exp()
            residual = score + (2 * self._gain * tanh * slope_over_det).unsqueeze(-1) * self._normal
            # J = I + û tanh' wᵀ is inverted by the Sherman-Morrison formula.
            along = slope_over_det * (residual * self._direction).sum(-1)
            return y, log_det, residual - along.unsqueeze(-1) * self._normal

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        projected = (y * self._normal).sum(-1)
        alpha = solve_monotone(projected, self._gain, torch.ones_like(self._gain), self._offset)
        tanh = torch.tanh(alpha + self._offset)
        return y - tanh.unsqueeze(-1) * self._direction, self._log_det(tanh)

    def _tanh(self, x: Tensor) -> Tensor:
        return torch.tanh((x * self._normal).sum(-1) + self._offset)

    def _log_det(self, tanh: Tensor) -> Tensor:
        # log(1 + wᵀû (1 - tanh²)) with both terms positive.
        squared = tanh * tanh
        return torch.log(squared + self._margin * (1 - squared))


def _sizes(u: Tensor, w: Tensor, b: Tensor) -> tuple[int, Size]:
    if u.dim() and u.shape[-1:] == w.shape[-1:]:
        try:
            return u.shape[-1], torch.broadcast_shapes(u.shape[:-1], w.shape[:-1], b.shape)
        except RuntimeError:
            pass
    raise InvalidInputError(
        complaint(
            "PlanarTransform",
            "u and w of shape (*batch, D) and b of shape (*batch)",
            f"u {tuple(u.shape)}, w {tuple(w.shape)}, b {tuple(b.shape)}",
        )
    )
