"""The planar transform and its exact inverse."""

from __future__ import annotations

import torch
from torch import Size, Tensor
from torch.nn import functional as F

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.precision import at_least_single
from vae_flows.tensors.shapes import broadcast_shapes, check_parameters, wrong_parameters
from vae_flows.transforms.base import FusedTransform
from vae_flows.transforms.double_inverse import invert_in_double
from vae_flows.transforms.monotone import solve_monotone

__all__ = ["PlanarTransform"]

# ||w||² below which the published correction, which is infinite at w = 0, shrinks with it.
SHORTEST = 1e-3


class PlanarTransform(FusedTransform):
    r"""The planar transform :math:`y = z + \hat u \tanh(w^Tz + b)`, invertible for every u, w and b.

    :math:`\hat u = u + (\mathrm{softplus}(w^Tu) - 1 - w^Tu)\, w / \|w\|^2` keeps :math:`w^T\hat u > -1`. As w vanishes,
    that correction goes to infinity where it points against w: there :math:`\|w\|^2` is taken as :math:`10^{-3}` at
    least, which makes :math:`w^T\hat u` larger. Where it points along w, it is never longer than u. Where w is zero,
    the transform is a shift by :math:`u\tanh b`. The inverse solves the scalar equation
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

    @checked
    def __init__(self, u: Tensor, w: Tensor, b: Tensor, *, cache_size: int = 1) -> None:
        super().__init__(*_sizes(u, w, b), cache_size=cache_size)
        u, w, b = map(at_least_single, (u, w, b))
        product = (w * u).sum(-1)
        square = (w * w).sum(-1)
        published = F.softplus(product)
        change = published - 1 - product
        # A positive change belongs to a negative wᵀu, so that w is not zero, and the change at most ||u|| ||w||.
        divisor = torch.where(change > 0, square, square.clamp_min(SHORTEST))
        # 1 + wᵀû without the rounding of that sum, which would reach 0 where wᵀu is very negative.
        self._margin = published - change * (1 - square / divisor)
        self._direction = u + (change / divisor).unsqueeze(-1) * w
        self._normal = w
        self._offset = b

    def unbind(self) -> list[PlanarTransform]:
        """Return the transforms along the last batch dimension, whose parameters were corrected together.

        Raises:
            InvalidInputError: There is no batch dimension.

        Example:
            >>> layers = PlanarTransform(torch.randn(5, 3, 2), torch.randn(5, 3, 2), torch.randn(5, 3)).unbind()
            >>> len(layers), layers[0].batch_shape
            (3, torch.Size([5]))
        """
        batch = self.batch_shape
        if not batch:
            raise InvalidInputError(complaint("PlanarTransform.unbind", "a batch shape that is not empty", batch))
        vectors = [vector.expand(batch + vector.shape[-1:]).unbind(-2) for vector in (self._direction, self._normal)]
        numbers = [number.expand(batch).unbind(-1) for number in (self._margin, self._offset)]
        layers = []
        for direction, normal, margin, offset in zip(*vectors, *numbers, strict=True):
            # Not by copy.copy, through which torch.compile cannot see.
            layer = object.__new__(PlanarTransform)
            FusedTransform.__init__(layer, self.latent_dim, batch[:-1], cache_size=self._cache_size)
            layer._direction, layer._normal, layer._margin, layer._offset = direction, normal, margin, offset
            layers.append(layer)
        return layers

    @property
    def _gain(self) -> Tensor:
        # wᵀû
        return self._margin - 1

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


_SHAPES = "u and w of shape (*batch, D) and b of shape (*batch)"


def _sizes(u: Tensor, w: Tensor, b: Tensor) -> tuple[int, Size]:
    check_parameters("PlanarTransform", _SHAPES, u=u, w=w, b=b)
    if u.dim() and u.shape[-1:] == w.shape[-1:]:
        try:
            return u.shape[-1], broadcast_shapes(u.shape[:-1], w.shape[:-1], b.shape)
        except RuntimeError:
            pass
    raise wrong_parameters("PlanarTransform", _SHAPES, u=u, w=w, b=b)
