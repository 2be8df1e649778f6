"""What likelihoods of independent values share: stable functions, scales, and distributions over single values."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn
from torch.distributions import constraints
from torch.nn import functional as F

from vae_flows.checks import require_finite, require_sample_shape
from vae_flows.likelihoods.base import Likelihood

__all__ = ["Elementwise", "PositiveNumber", "ScaledLikelihood", "log_softplus"]

PositiveNumber = float | Literal["learned", "emitted"]
_THRESHOLD = 40.0  # above it softplus(r) = r to the last digit of float64; torch's own 20 is short of that
_LINEAR = -18.0  # below it log softplus(r) = r - exp(r) / 2 to the last digit


def log_softplus(raw: Tensor) -> Tensor:
    """Return log(log(1 + exp(r))), with finite values and gradients where softplus itself is zero."""
    usual = F.softplus(raw.clamp_min(_LINEAR), threshold=_THRESHOLD).log()
    low = raw.clamp_max(_LINEAR)
    return torch.where(raw > _LINEAR, usual, low - low.exp() / 2)


class Elementwise(TorchDistribution):
    """Independent values, each with parameters of its own, which broadcast.

    Subclasses write `log_prob`, `mean` and `draw`, and `rebuilt` where they have more than tensors to hand on.

    Arguments:
        parameters: Tensors that broadcast.
    """

    values: ClassVar[constraints.Constraint]
    """What one value is."""

    def __init__(self, *parameters: Tensor) -> None:
        self.parameters = torch.broadcast_tensors(*parameters)
        super().__init__(self.parameters[0].shape, Size(), validate_args=False)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        return {}

    @property
    def support(self) -> constraints.Constraint:
        return self.values

    @abstractmethod
    def draw(self, *parameters: Tensor) -> Tensor:
        """Draw one value for each entry of parameters of one shape."""

    def rebuilt(self, *parameters: Tensor) -> Elementwise:
        """Return the same distribution with other parameters."""
        return type(self)(*parameters)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Elementwise:
        return self.rebuilt(*(parameter.expand(*batch_shape) for parameter in self.parameters))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw values `(*sample_shape, *batch)`."""
        require_sample_shape(f"{type(self).__name__}.sample", sample_shape)
        with torch.no_grad():
            shape = Size(sample_shape) + self.batch_shape
            return self.draw(*(parameter.expand(shape) for parameter in self.parameters))


class _Emitted(NamedTuple):
    """A decoder's output, in at least float32, and the scale."""

    raw: Tensor
    scale: Tensor


class ScaledLikelihood(Likelihood):
    """A likelihood with one parameter of its own per value, and a positive number: fixed, learned, or emitted.

    A learned scale is one number for all values. Learned and emitted ones are ε + softplus(raw), where the floor ε
    keeps values and gradients finite whatever is emitted.

    Arguments:
        scale: The number itself, `"learned"`, or `"emitted"` by the decoder, as the second parameter of each value.
        event_dim: Number of dimensions of one observation.
        floor: The floor ε.
        argument: What messages call `scale`.
    """

    def __init__(self, scale: PositiveNumber, event_dim: int, floor: float = 1e-3, argument: str = "scale") -> None:
        if not isinstance(scale, str):
            require_finite(type(self).__name__, above=0.0, **{argument: scale})
        super().__init__(parameters_per_pixel=2 if scale == "emitted" else 1, event_dim=event_dim)
        self._given = scale
        self._floor = floor
        if scale == "learned":  # starts at one
            self.raw_scale = nn.Parameter(torch.tensor(math.log(math.expm1(1 - floor))))

    def raw_and_scale(self, parameters: Tensor) -> _Emitted:
        """Return the first parameter of each value, as it was emitted, and the positive number."""
        raw = self.split(parameters)
        if self._given == "emitted":
            return _Emitted(raw[0], self._positive(raw[1]))
        if self._given == "learned":
            return _Emitted(raw[0], self._positive(self.raw_scale.to(raw[0])).expand_as(raw[0]))
        return _Emitted(raw[0], torch.full_like(raw[0], float(self._given)))

    def _positive(self, raw: Tensor) -> Tensor:
        return self._floor + F.softplus(raw, threshold=_THRESHOLD)
