"""The published formulation: amortised parameters as ODE state, double backward, continuous adjoint.

Written afresh from its description (Grathwohl et al. 2019, sections 3 and 4.2; Chen et al. 2018, appendix B). The
solver carries the amortised values of every example along with z, with derivative zero, because the adjoint method
gives gradients of states and of shared parameters only. The estimate εᵀJε is a vector-Jacobian product that is
differentiated again by the adjoint.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchdiffeq import odeint_adjoint

from experiments.speed.competitors.competitor import TorchCompetitor
from experiments.speed.problems import INTEGRATION_TIME, TOLERANCE, Problem, Size, low_rank_scale

__all__ = ["PublishedFormulation"]

States = tuple[Tensor, Tensor, Tensor]


class PublishedFormulation(TorchCompetitor):
    """The published formulation of a problem, through torchdiffeq."""

    def __init__(self, problem: Problem) -> None:
        blocks = problem.blocks()
        super().__init__(problem, problem.weights(), len(blocks))
        self._heads = [block.head for block in blocks]
        pairs = zip(blocks, problem.probes, strict=True)
        self._dynamics = [_Dynamics(block.layers, problem.size, probe) for block, probe in pairs]
        self._times = torch.tensor([0.0, INTEGRATION_TIME])

    def solve(self, block: int, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        states, tolerances = (
            (z, z.new_zeros(len(z)), self._heads[block](context)),
            {"rtol": TOLERANCE, "atol": TOLERANCE},
        )
        ends = odeint_adjoint(self._dynamics[block], states, self._times, method="dopri5", **tolerances)
        return ends[0][-1], ends[1][-1]

    def count(self) -> int:
        return sum(dynamics.evaluations for dynamics in self._dynamics)


class _Dynamics(nn.Module):
    """The derivative of (z, log-determinant, amortised values)."""

    def __init__(self, layers: list[Any], size: Size, probe: Tensor) -> None:
        super().__init__()
        # torchdiffeq takes as the adjoint's parameters those that the module has registered.
        self.registered = nn.ModuleList(layers)
        self._layers = layers
        self._size = size
        self._probe = probe
        self.evaluations = 0

    def forward(self, t: Tensor, states: States) -> States:
        z, _, amortized = states
        self.evaluations += 1
        # The adjoint calls with gradients enabled and differentiates; the forward solve does neither.
        z = z if torch.is_grad_enabled() else z.detach().requires_grad_()
        with torch.enable_grad():
            derivative = self._network(t, z, amortized)
            (product,) = torch.autograd.grad(derivative, z, self._probe, create_graph=True)
            estimate = (product * self._probe).sum(-1)
        return derivative, estimate, torch.zeros_like(amortized)

    def _network(self, t: Tensor, x: Tensor, amortized: Tensor) -> Tensor:
        parts, rank = iter(amortized.split(self._size.split_sizes, -1)), self._size.rank
        for place, layer in enumerate(self._layers):
            x = F.softplus(x) if place else x
            product = F.linear(x, layer.weight, layer.bias) + t * layer.time_weight
            if rank:
                left, right = next(parts).unflatten(-1, (-1, rank)), next(parts).unflatten(-1, (rank, -1))
                inner = torch.bmm(x.unsqueeze(1), left) * low_rank_scale(x.shape[-1], rank)
                product = product + torch.bmm(inner, right).squeeze(1)
            x = product + next(parts)
        return x
