"""Validation of values that may be empty."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution

__all__ = ["OfAnySize"]


class OfAnySize(Distribution):
    """A distribution that does not fail where there is nothing to validate, as torch's check of vectors does."""

    def _validate_sample(self, value: Tensor) -> None:
        if value.numel():
            super()._validate_sample(value)
