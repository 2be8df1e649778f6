"""The planar transform and its exact inverse."""

from __future__ import annotations

import torch
from torch import Size, Tensor
from torch.nn import functional as F

from vae_flows.checks import described
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.precision import at_least_single
from vae_flows.shapes import is_dense
from vae_flows.transforms.base import FusedTransform
from vae_flows.transforms.double_inverse import invert_in_double
from vae_flows.transforms.monotone import solve_monotone

__all__ = ["PlanarTransform"]

# ||w||² below which the published correction, which is infinite at w = 0, is phased out.
SHORTEST = 1e-3


class PlanarTransform(FusedTransform):
    r"""The planar transform :math:`y = z + \hat u \tanh(w^Tz + b)`, invertible for every u, w and b.

    :math:`\hat u = u + (\mathrm{softplus}(w^Tu) - 1 - w^Tu)\, w / \|w\|^2` keeps :math:`w^T\hat u > -1`. As w vanishes,
    that correction would go to infinity: below :math:`\|w\|^2 = 10^{-3}` it gives way to one that keeps
    :math:`1 + w^T\hat u = e^{w^Tu}` for negative :math:`w^Tu` and leaves the others alone. Where w is zero, the
    transform is a shift by :math:`u\tanh b`. The inverse solves the scalar equation
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

    takes_double = True

    def __init__(self, u: Tensor, w: Tensor, b: Tensor, *, cache_size: int = 1) -> None:
        super().__init__(*_sizes(u, w, b), cache_size=cache_size)
        u, w, b = map(at_least_single, (u, w, b))
        product = (w * u).sum(-1)
        square = (w * w).sum(-1)
        # Part of the published correction, all of it where ||w||² is at least SHORTEST; the rest leaves wᵀu >= 0 alone.
        part = (square / SHORTEST).clamp_max(1)
        published, negative = F.softplus(product), product.clamp_max(0)
        # 1 + wᵀû without the rounding of that sum, which would reach 0 where wᵀu is very negative.
        self._margin = torch.lerp(product - negative + negative.exp(), published, part)
        self._gain = self._margin - 1
        # expm1(p) - p is at most p²/2, so that the second term vanishes with w.
        gentle = (1 - part) * (negative.expm1() - negative) / square.clamp_min(torch.finfo(w.dtype).tiny)
        correction = (published - 1 - product) / square.clamp_min(SHORTEST) + gentle
        self._direction = u + correction.unsqueeze(-1) * w
        self._normal = w
        self._offset = b

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, log_det, _ = self._evaluate(x)
        return y.to(x.dtype), log_det.to(x.dtype)

    def forward_with_score(self, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, log_det, tanh = self._evaluate(x)
        with torch.no_grad():
            slope_over_det = (1 - tanh * tanh) / log_det.exp()
            residual = score + (2 * self._gain * tanh * slope_over_det).unsqueeze(-1) * self._normal
            # J = I + û tanh' wᵀ is inverted by the Sherman-Morrison formula.
            along = slope_over_det * (residual * self._direction).sum(-1)
            score_of_y = residual - along.unsqueeze(-1) * self._normal
        return y.to(x.dtype), log_det.to(x.dtype), score_of_y.to(x.dtype)

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return invert_in_double(self, self._invert, y)

    def _invert(self, y: Tensor) -> tuple[Tensor, Tensor]:
        projected = (y * self._normal).sum(-1)
        gain, offset = (parameter.to(y.dtype) for parameter in (self._gain, self._offset))
        alpha = solve_monotone(projected, gain, torch.ones_like(gain), offset)
        tanh = torch.tanh(alpha + offset)
        return y - tanh.unsqueeze(-1) * self._direction, self._log_det(tanh)

    def _evaluate(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tanh = torch.tanh((x * self._normal).sum(-1) + self._offset)
        return x + tanh.unsqueeze(-1) * self._direction, self._log_det(tanh), tanh

    def _log_det(self, tanh: Tensor) -> Tensor:
        # log(1 + wᵀû (1 - tanh²)) with both terms positive.
        squared = tanh * tanh
        return torch.log(squared + self._margin * (1 - squared))


def _sizes(u: Tensor, w: Tensor, b: Tensor) -> tuple[int, Size]:
    fit = all(is_dense(part) for part in (u, w, b))
    if fit and u.dim() and u.shape[-1:] == w.shape[-1:]:
        try:
            return u.shape[-1], torch.broadcast_shapes(u.shape[:-1], w.shape[:-1], b.shape)
        except RuntimeError:
            pass
    raise InvalidInputError(
        complaint(
            "PlanarTransform",
            "u and w of shape (*batch, D) and b of shape (*batch)",
            f"u {described(u)}, w {described(w)}, b {described(b)}",
        )
    )
