r"""Standardisation: a model sees :math:`(x - m) / s`, and whatever it tells is of x itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import AffineTransform, Distribution

from vae_flows.checks import checked, described
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.persistence.configuration import register_class
from vae_flows.tensors.shapes import is_dense

__all__ = ["Standardization"]

ROUNDING = 1e-12
"""Standard deviations below this part of the mean are rounding errors of double precision: the value is constant."""


@register_class("Standardization")
class Standardization(nn.Module):
    r"""The map :math:`\tilde x = (x - m) / s` of examples, with mean and standard deviation of the training data.

    Images `(C, H, W)` have one mean and deviation per channel, examples of any other shape one per value. Constants
    keep s = 1. A density of :math:`\tilde x` is one of x times :math:`\prod_i 1 / s_i`, so that log-likelihoods are
    those of x whatever its unit.

    Arguments:
        event_shape: Shape of one example.

    Raises:
        InvalidInputError: It is not one or more positive sizes.

    Example:
        >>> standardization = Standardization.of([torch.tensor([[1.0, 5.0], [3.0, 5.0]])])
        >>> standardization(torch.tensor([[4.0, 6.0]]))
        tensor([[2., 1.]])
    """

    mean: Tensor
    scale: Tensor

    @checked
    def __init__(self, event_shape: Sequence[int]) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        if not self.event_shape or min(self.event_shape) < 1:
            raise InvalidInputError(complaint("Standardization event_shape", "positive sizes", self.event_shape))
        shape = (self.event_shape[0], 1, 1) if len(self.event_shape) == 3 else self.event_shape
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    @classmethod
    @checked
    def of(cls, batches: Iterable[Tensor]) -> Standardization:
        """Return the standardisation of some examples, given in batches `(B, *event)`.

        Raises:
            InvalidInputError: There are none, or a standard deviation is not finite.
        """
        count, mean, squares, made = 0, torch.zeros(()), torch.zeros(()), None
        for batch in batches:
            made = made or cls(batch.shape[1:])
            # Welford's update by batches (Chan, Golub and LeVeque 1983), which does not cancel digits.
            values = batch.detach().cpu().double()
            dims = (0, 2, 3) if len(made.event_shape) == 3 else (0,)
            new_mean = values.mean(dims, keepdim=True)[0]
            new_squares = ((values - new_mean) ** 2).sum(dims, keepdim=True)[0]
            added = values.numel() // made.mean.numel()
            difference, total = new_mean - mean, count + added
            mean = mean + difference * (added / total)
            squares = squares + new_squares + difference**2 * (count * added / total)
            count = total
        if made is None:
            raise InvalidInputError(complaint("Standardization.of", "at least one batch of examples", "none"))
        deviation = (squares / count).sqrt()
        if not bool(deviation.isfinite().all()):
            raise InvalidInputError(complaint("standard deviation of examples", "finite numbers", "others"))
        constant = deviation <= ROUNDING * mean.abs()
        made.mean.copy_(mean)
        made.scale.copy_(torch.where(constant, 1.0, deviation))
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Return (x − m) / s for examples `(*batch, *event)`, in their dtype.

        Raises:
            InvalidInputError: They have another shape.
        """
        if not is_dense(x) or x.device != self.mean.device or x.shape[-len(self.event_shape) :] != self.event_shape:
            shape = ", ".join(map(str, self.event_shape))
            expected = f"floating-point examples of shape (*batch, {shape}) on {self.mean.device}"
            raise InvalidInputError(complaint("Standardization", expected, described(x)))
        return (x - self.mean.to(x.dtype)) / self.scale.to(x.dtype)

    def log_abs_det_jacobian(self) -> Tensor:
        """Return −Σ log s over the values of an example, the same for each."""
        scale = self._expanded(self.scale)
        return -scale.to(torch.promote_types(scale.dtype, torch.float32)).log().sum()

    @checked
    def undone(self, distribution: Distribution) -> TorchDistribution:
        """Return the distribution of x for one of the standardised examples."""
        loc, scale = self._expanded(self.mean), self._expanded(self.scale)
        undo = AffineTransform(loc, scale, event_dim=len(self.event_shape))
        return _Unstandardized(distribution, [undo], validate_args=False)

    def extra_repr(self) -> str:
        return f"event_shape={self.event_shape}"

    def _expanded(self, values: Tensor) -> Tensor:
        return values.expand(self.event_shape).contiguous()


class _Unstandardized(dist.TransformedDistribution):  # pyright: ignore[reportAttributeAccessIssue]
    """A transformed distribution whose moments are known, because its transform is affine."""

    @property
    def mean(self) -> Tensor:
        return self._undo(self.base_dist.mean)

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance * self._undo.scale**2

    @property
    def _undo(self) -> Any:
        return self.transforms[0]
