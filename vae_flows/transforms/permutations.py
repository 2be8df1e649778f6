"""Transforms that move no volume: the identity, the reversal and other permutations."""

from __future__ import annotations

import torch
from torch import Size, Tensor

from vae_flows.checks import checked, described
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.transforms.base import FusedTransform

__all__ = ["IdentityTransform", "PermutationTransform", "ReverseTransform"]


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


class PermutationTransform(FusedTransform):
    r"""The permutation :math:`y_i = x_{\pi(i)}`.

    Arguments:
        order: π(0), …, π(D − 1), each of 0 … D − 1 once; `int64` of shape `(D,)`.
        cache_size: 0 or 1.

    Raises:
        InvalidInputError: It is no permutation.

    Example:
        >>> transform = PermutationTransform(torch.tensor([2, 0, 1]))
        >>> transform(torch.tensor([0.0, 0.1, 0.2]))
        tensor([0.2000, 0.0000, 0.1000])
        >>> transform.inv(torch.tensor([0.2, 0.0, 0.1]))
        tensor([0.0000, 0.1000, 0.2000])
    """

    takes_double = True

    @checked
    def __init__(self, order: Tensor, *, cache_size: int = 1) -> None:
        if not _is_permutation(order):
            expected = "a tensor of int64 with each of 0 … D - 1 once"
            raise InvalidInputError(complaint("PermutationTransform order", expected, described(order)))
        super().__init__(len(order), Size(), cache_size=cache_size)
        self._order = order
        self._inverse_order = order.argsort()

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.index_select(-1, self._order), x.new_zeros(self.broadcast_shape(x))

    def forward_with_score(self, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, log_det = self.forward_with_log_det(x)
        return y, log_det, score.detach().index_select(-1, self._order)

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return y.index_select(-1, self._inverse_order), y.new_zeros(self.broadcast_shape(y))


def _is_permutation(order: Tensor) -> bool:
    if order.dim() != 1 or order.dtype != torch.int64 or order.layout is not torch.strided or order.is_meta:
        return False
    return order.sort().values.equal(torch.arange(len(order), device=order.device))
