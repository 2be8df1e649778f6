"""Transforms that move no volume: the identity and the reversal."""

from __future__ import annotations

from torch import Tensor

from vae_flows.transforms.base import FusedTransform

__all__ = ["IdentityTransform", "ReverseTransform"]


class IdentityTransform(FusedTransform):
    """The map y = x, the posterior without a flow."""

    takes_double = True

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shape = self.broadcast_shape(x)
        return x.expand(shape + x.shape[-1:]), x.new_zeros(shape)

    def forward_with_score(self, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, log_det = self.forward_with_log_det(x)
        return y, log_det, score.detach().expand(y.shape)

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward_with_log_det(y)


class ReverseTransform(FusedTransform):
    """The permutation y = (x_D, …, x_1), which lets the next autoregressive layer see the other order."""

    takes_double = True

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shape = self.broadcast_shape(x)
        return x.flip(-1).expand(shape + x.shape[-1:]), x.new_zeros(shape)

    def forward_with_score(self, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, log_det = self.forward_with_log_det(x)
        return y, log_det, score.detach().flip(-1).expand(y.shape)

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward_with_log_det(y)
