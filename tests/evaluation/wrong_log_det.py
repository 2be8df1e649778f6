"""A transform that no density check may pass."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_flows.transforms import FusedTransform

__all__ = ["WrongLogDet"]


class WrongLogDet(FusedTransform):
    """z -> 2 z, whose log-determinant is wrong by `error`."""

    def __init__(self, error: float) -> None:
        super().__init__(2, ())
        self.error = error

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return 2 * x, torch.full_like(x[..., 0], 2 * math.log(2) + self.error)

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return y / 2, torch.full_like(y[..., 0], 2 * math.log(2) + self.error)
