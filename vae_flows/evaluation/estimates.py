"""Averages with their standard errors."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from vae_flows.errors import InvalidInputError, complaint

__all__ = ["MeanEstimate"]


class MeanEstimate(NamedTuple):
    """An average and its standard error.

    Arguments:
        value: The average.
        standard_error: NaN for a single value.
    """

    value: float
    standard_error: float

    @classmethod
    def of(cls, values: Tensor) -> MeanEstimate:
        """Average independent values `(N,)`.

        Raises:
            InvalidInputError: There are no values.

        Example:
            >>> import torch
            >>> MeanEstimate.of(torch.tensor([1.0, 3.0], dtype=torch.float64))
            MeanEstimate(value=2.0, standard_error=1.0)
        """
        if not len(values):
            raise InvalidInputError(complaint("values", "at least one", "none"))
        error = values.var().div(len(values)).sqrt().item() if len(values) > 1 else math.nan
        return cls(values.mean().item(), error)
