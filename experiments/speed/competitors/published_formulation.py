"""The published formulation: amortised parameters as ODE state, double backward, continuous adjoint.

Written afresh from its description (Grathwohl et al. 2019, sections 3 and 4.2; Chen et al. 2018, appendix B). The
solver carries the amortised values of every example along with z, with derivative zero, because the adjoint method
gives gradients of states and of shared parameters only. The estimate εᵀJε is a vector-Jacobian product that is
differentiated again by the adjoint.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchdiffeq import odeint_adjoint

from experiments.speed.competitors.competitor import TorchCompetitor
from experiments.speed.problems import INTEGRATION_TIME, TOLERANCE, Block, Problem, Size

__all__ = ["PublishedFormulation"]

States = tuple[Tensor, Tensor, Tensor]


class PublishedFormulation(TorchCompetitor):
    """The published formulation of a problem, through torchdiffeq."""

    def __init__(self, problem: Problem) -> None:
        blocks = problem.blocks()
        super().__init__(problem, problem.weights(), len(blocks))
        self._heads = [block.head for block in blocks]
        pairs = zip(blocks, problem.probes, strict=True)
        self._dynamics = [_Dynamics(block, problem.size, probe) for block, probe in pairs]
        self._times = torch.tensor([0.0, INTEGRATION_TIME])

    def solve(self, block: int, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        states = (z, z.new_zeros(len(z)), self._heads[block](context))
        settings = {"method": "dopri5", "rtol": TOLERANCE, "atol": TOLERANCE}
        ends = odeint_adjoint(self._dynamics[block], states, self._times, **settings)
        return ends[0][-1], ends[1][-1]

    def count(self) -> int:
        return sum(dynamics.evaluations for dynamics in self._dynamics)


class _Dynamics(nn.Module):
    """The derivative of (z, log-determinant, amortised values)."""

    def __init__(self, block: Block, size: Size, probe: Tensor) -> None:
        super().__init__()
        # torchdiffeq takes as the adjoint's parameters those that the module has registered.
        self.registered = nn.ModuleList(block.layers)
        self._block = block
        self._size = size
        self._probe = probe
        self.evaluations = 0

    def forward(self, t: Tensor, states: States) -> States:
        z, _, amortized = states
        self.evaluations += 1
        # The adjoint calls with gradients enabled and differentiates; the forward solve does neither.
        z = z if torch.is_grad_enabled() else z.detach().requires_grad_()
        with torch.enable_grad():
            derivative = self._block.derivative(self._size, t, z, amortized)
            (product,) = torch.autograd.grad(derivative, z, self._probe, create_graph=True)
            estimate = (product * self._probe).sum(-1)
        return derivative, estimate, torch.zeros_like(amortized)
