"""The same dynamics solved by torchode, in whose batches every example takes steps of its own.

Dormand-Prince steps, differentiated automatically with the sizes of the steps held fixed, as the others' gradients are.
Eager: its compiled form takes no dynamics that differentiate themselves, as the estimate of a trace does.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from experiments.speed.competitors.competitor import TorchCompetitor
from experiments.speed.problems import INTEGRATION_TIME, TOLERANCE, Problem

__all__ = ["Peer"]

torchode: Any = import_module("torchode")  # its annotations are types of tensors that no type checker knows


class Peer(TorchCompetitor):
    """torchode on a problem."""

    def __init__(self, problem: Problem) -> None:
        self._blocks = problem.blocks()
        super().__init__(problem, problem.weights(), len(self._blocks))
        self._size, self._probes = problem.size, problem.probes
        self._evaluations_so_far = 0

    def solve(self, block: int, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        parameters, probe = self._blocks[block], self._probes[block]
        amortized = parameters.head(context)

        def derivative(t: Tensor, state: Tensor) -> Tensor:
            self._evaluations_so_far += 1
            latents = state[:, :-1]
            slope = parameters.derivative(self._size, t.unsqueeze(-1), latents, amortized)
            (product,) = torch.autograd.grad(slope, latents, probe, create_graph=True)
            return torch.cat([slope, (product * probe).sum(-1, keepdim=True)], -1)

        term = torchode.ODETerm(derivative, with_stats=False)
        solver = torchode.AutoDiffAdjoint(
            torchode.Dopri5(term),
            torchode.IntegralController(TOLERANCE, TOLERANCE, term=term),
            backprop_through_step_size_control=False,
        )
        start, times = torch.cat([z, z.new_zeros(len(z), 1)], -1), z.new_zeros(len(z))
        end = solver.solve(torchode.InitialValueProblem(start, times, times + INTEGRATION_TIME)).ys[:, -1]
        return end[:, :-1], end[:, -1]

    def count(self) -> int:
        return self._evaluations_so_far
