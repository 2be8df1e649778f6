"""The published formulation: amortised parameters as ODE state, double backward, continuous adjoint.

Written afresh from its description (Grathwohl et al. 2019, sections 3 and 4.2; Chen et al. 2018, appendix B). The
solver carries the amortised values of every example along with z, with derivative zero, because the adjoint method
gives gradients of states and of shared parameters only. The estimate εᵀJε is a vector-Jacobian product that is
differentiated again by the adjoint.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchdiffeq import odeint_adjoint

from experiments.speed.competitors import TorchCompetitor
from experiments.speed.problems import (
    INTEGRATION_TIME,
    TOLERANCE,
    BlockWeights,
    LayerWeights,
    Problem,
    Size,
    low_rank_scale,
    named_weights,
)

__all__ = ["Published"]

States = tuple[Tensor, Tensor, Tensor]


class Published(TorchCompetitor):
    """The published formulation of a problem, through torchdiffeq."""

    def __init__(self, problem: Problem) -> None:
        blocks = [_leaves(block) for block in problem.blocks()]
        super().__init__(problem, named_weights(blocks))
        self._blocks = blocks
        self._dynamics = [
            _Dynamics(block.layers, problem.size, probe) for block, probe in zip(blocks, problem.probes, strict=True)
        ]
        self._times = torch.tensor([0.0, INTEGRATION_TIME])
        self._forward_evaluations = 0

    def forward(self) -> tuple[Tensor, Tensor]:
        z, log_det = self.start, torch.zeros_like(self.problem.of_log_det)
        for block, dynamics in zip(self._blocks, self._dynamics, strict=True):
            dynamics.evaluations = 0
            amortized = F.linear(self.context, block.head_weight, block.head_bias)
            states = (z, log_det, amortized)
            ends = odeint_adjoint(dynamics, states, self._times, rtol=TOLERANCE, atol=TOLERANCE, method="dopri5")
            z, log_det = ends[0][-1], ends[1][-1]
        self._forward_evaluations = self._count()
        return z, log_det

    def evaluations(self) -> tuple[int, int]:
        return self._forward_evaluations, self._count() - self._forward_evaluations

    def _count(self) -> int:
        return sum(dynamics.evaluations for dynamics in self._dynamics)


class _Dynamics(nn.Module):
    """The derivative of (z, log-determinant, amortised values)."""

    def __init__(self, layers: list[LayerWeights], size: Size, probe: Tensor) -> None:
        super().__init__()
        # torchdiffeq takes as the adjoint's parameters those that the module has registered.
        self.weights = nn.ParameterList(tensor for layer in layers for tensor in layer)
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
        parts = iter(amortized.split(self._size.split_sizes, -1))
        for place, layer in enumerate(self._layers):
            if place:
                x = F.softplus(x)
            product = F.linear(x, layer.weight, layer.bias) + t * layer.time_weight
            if self._size.rank:
                product = product + self._low_rank(x, next(parts), next(parts))
            x = product + next(parts)
        return x

    def _low_rank(self, x: Tensor, left: Tensor, right: Tensor) -> Tensor:
        rank, fan_in = self._size.rank, x.shape[-1]
        inner = torch.bmm(x.unsqueeze(1), left.unflatten(-1, (fan_in, rank))) * low_rank_scale(fan_in, rank)
        return torch.bmm(inner, right.unflatten(-1, (rank, -1))).squeeze(1)


def _leaves(block: BlockWeights) -> BlockWeights:
    """Return copies that are parameters."""
    layers = [LayerWeights(*(nn.Parameter(tensor.detach().clone()) for tensor in layer)) for layer in block.layers]
    bias = None if block.head_bias is None else nn.Parameter(block.head_bias.detach().clone())
    return BlockWeights(layers, nn.Parameter(block.head_weight.detach().clone()), bias)
