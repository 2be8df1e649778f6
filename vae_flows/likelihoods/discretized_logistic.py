"""The discretised logistic likelihood of grey and colour levels."""

from __future__ import annotations

import math

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.likelihoods.base import UNIT_INTERVAL, IndependentValues
from vae_flows.likelihoods.elementwise import Elementwise, PositiveNumber, ScaledLikelihood
from vae_flows.likelihoods.registry import register_likelihood
from vae_flows.persistence.configuration import register_class

__all__ = ["DiscretizedLogisticLikelihood"]

_FLOOR = math.exp(-7) / 2  # PixelCNN++'s least scale, which it gives for values in [-1, 1]


@register_likelihood("discretized-logistic")
@register_class("DiscretizedLogisticLikelihood")
class DiscretizedLogisticLikelihood(ScaledLikelihood):
    r"""Independent values of L equidistant levels k / (L - 1), whose probabilities are bins of a logistic distribution.

    :math:`P(k) = \sigma((x + h - \mu) / s) - \sigma((x - h - \mu) / s)` with half a bin :math:`h = 1 / 2(L - 1)`; the
    lowest bin reaches to −∞, the highest to +∞ (Salimans et al. 2017, "PixelCNN++", equation 2, one component). The
    decoder emits 2μ − 1, so that zero is mid-grey. Values are in [0, 1]; each is scored at its nearest level.

    Arguments:
        levels: Number of levels; 256 for 8-bit images, grey or colour.
        scale: s: a number, `"learned"` (one for all values, from 1), or `"emitted"` as exp(-7)/2 + softplus of each
            value's second parameter.
        event_dim: Number of dimensions of one observation; 3 for images `(C, H, W)`, 1 for vectors.

    Raises:
        InvalidInputError: Fewer than two levels, or an s that is not positive.

    Example:
        >>> likelihood = DiscretizedLogisticLikelihood(levels=2, scale=0.1)
        >>> likelihood.log_prob(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)).exp()
        tensor([0.1250])
    """

    support = UNIT_INTERVAL
    is_discrete = True

    @checked
    def __init__(self, levels: int = 256, scale: PositiveNumber = "emitted", event_dim: int = 3) -> None:
        if levels < 2:
            raise InvalidInputError(
                complaint("DiscretizedLogisticLikelihood levels", "an integer above 1", repr(levels))
            )
        super().__init__(scale, event_dim, floor=_FLOOR)
        self.levels = levels
        self.scale = scale

    def forward(self, parameters: Tensor) -> TorchDistribution:
        raw, scale = self.raw_and_scale(parameters)
        values = _DiscretizedLogistic((raw + 1) / 2, scale, levels=self.levels)
        return IndependentValues(values, self.event_dim, validate_args=False)


class _DiscretizedLogistic(Elementwise):
    values = constraints.unit_interval

    def __init__(self, *parameters: Tensor, levels: int) -> None:
        super().__init__(*parameters)
        self.top = levels - 1

    def rebuilt(self, *parameters: Tensor) -> _DiscretizedLogistic:
        return _DiscretizedLogistic(*parameters, levels=self.top + 1)

    def log_prob(self, value: Tensor) -> Tensor:
        loc, scale = self.parameters
        level = (value.to(loc.dtype) * self.top).round()
        upper = ((level + 0.5) / self.top - loc) / scale
        lower = ((level - 0.5) / self.top - loc) / scale
        # σ(a) - σ(b) = σ(a) σ(-b) (1 - exp(b - a)), whose factors have stable logarithms; a - b is the bin over s.
        below = torch.where(level < self.top, F.logsigmoid(upper), 0.0)
        above = torch.where(level > 0, F.logsigmoid(-lower), 0.0)
        inner = (level > 0) & (level < self.top)
        return below + above + torch.where(inner, torch.log(-torch.expm1(-1 / (self.top * scale))), 0.0)

    @property
    def mean(self) -> Tensor:
        loc, scale = self.parameters
        # The sum of P(K >= k), level by level: all at once would take L times the memory.
        total = torch.zeros_like(loc)
        for k in range(1, self.top + 1):
            total = total + torch.sigmoid((loc - (k - 0.5) / self.top) / scale)
        return total / self.top

    def draw(self, *parameters: Tensor) -> Tensor:
        loc, scale = parameters
        tiny = torch.finfo(loc.dtype).eps
        uniform = torch.rand_like(loc).clamp(tiny, 1 - tiny)
        x = loc + scale * (uniform.log() - torch.log1p(-uniform))
        return (x.clamp(0, 1) * self.top).round() / self.top
