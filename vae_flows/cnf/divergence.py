r"""How the trace of the Jacobian, :math:`\operatorname{tr}(\partial f/\partial z)`, is computed along a solve.

| name | cost of one evaluation | noise |
|---|---|---|
| `exact` | closed form for MLP dynamics with one or two hidden layers, else D directional derivatives | none |
| `hutchinson` | one directional derivative a probe | unbiased; variance grows with the off-diagonal of J |

Hutchinson's estimate is :math:`\epsilon^\top J \epsilon` with :math:`E[\epsilon\epsilon^\top] = I`. The noise is drawn
once a solve (Grathwohl et al. 2019, section 3.1), so the solver sees a smooth right-hand side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vae_flows.cnf.fields import AugmentedField, VectorField
from vae_flows.errors import InvalidInputError, complaint, require_positive, unknown_name

__all__ = ["Divergence", "ExactDivergence", "HutchinsonDivergence", "Noise", "divergence_from"]

Noise = Literal["gaussian", "rademacher"]
_NOISES = ("gaussian", "rademacher")
_DIVERGENCES = ("exact", "hutchinson")


class Divergence(ABC):
    """A way to have tr J beside f."""

    @abstractmethod
    def draw_probes(self, z: Tensor) -> Tensor | None:
        """Draw the noise of one solve for latents of the shape of `z`; `None` where there is none."""

    @abstractmethod
    def bind(self, field: VectorField, probes: Tensor | None) -> AugmentedField:
        """Return f and the trace, or its estimate with `probes (P, *z.shape)`, as one function."""


@dataclass(frozen=True)
class ExactDivergence(Divergence):
    """tr J without noise."""

    def draw_probes(self, z: Tensor) -> None:
        del z

    def bind(self, field: VectorField, probes: Tensor | None) -> AugmentedField:
        del probes
        return field.with_trace()


@dataclass(frozen=True)
class HutchinsonDivergence(Divergence):
    r"""The estimate :math:`\frac1P \sum_p \epsilon_p^\top J \epsilon_p` (Hutchinson 1990; Grathwohl et al. 2019).

    Arguments:
        noise: `gaussian`, or `rademacher` (entries ±1), whose variance lacks the diagonal's share.
        num_probes: P.

    Raises:
        InvalidInputError: Another noise, or fewer than one probe.
    """

    noise: Noise = "gaussian"
    num_probes: int = 1

    def __post_init__(self) -> None:
        if self.noise not in _NOISES:
            raise unknown_name("noise", str(self.noise), _NOISES)
        require_positive("HutchinsonDivergence", num_probes=self.num_probes)

    def draw_probes(self, z: Tensor) -> Tensor:
        shape = (self.num_probes, *z.shape)
        if self.noise == "gaussian":
            return torch.randn(shape, dtype=z.dtype, device=z.device)
        return torch.randint(0, 2, shape, dtype=z.dtype, device=z.device).mul_(2).sub_(1)

    def bind(self, field: VectorField, probes: Tensor | None) -> AugmentedField:
        if probes is None:
            raise InvalidInputError(complaint("Hutchinson's estimate", "probes of the solve", "none"))
        return field.with_probes(probes)


def divergence_from(name: str | Divergence, noise: Noise = "gaussian", num_probes: int = 1) -> Divergence:
    """Return the divergence called `name`, or `name` itself where it is one already.

    Example:
        >>> divergence_from("hutchinson", noise="rademacher")
        HutchinsonDivergence(noise='rademacher', num_probes=1)
    """
    if isinstance(name, Divergence):
        return name
    if name == "exact":
        return ExactDivergence()
    if name == "hutchinson":
        return HutchinsonDivergence(noise, num_probes)
    raise unknown_name("divergence", name, _DIVERGENCES)
