"""zuko's continuous normalizing flow, with the context as an input of its first layer.

Widths, shared weights and tolerance are equal, the dynamics are not: the context shifts the first layer alone, time is
embedded in sines and cosines, the largest error is bounded where the others bound its root mean square, and the
log-determinant is divided by 100 before its error is. Gradients are of an adjoint that restarts at each accepted step.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from zuko.flows.continuous import FFJTransform
from zuko.nn import Linear

from experiments.speed.competitors import TorchCompetitor
from experiments.speed.problems import INTEGRATION_TIME, TOLERANCE, BlockWeights, Problem, Size

__all__ = ["ZukoPeer"]


class ZukoPeer(TorchCompetitor):
    """zuko's flow of the widths and weights of a problem."""

    def __init__(self, problem: Problem) -> None:
        self._flows = nn.ModuleList(_flow(problem.size, block) for block in problem.blocks())
        super().__init__(problem, dict(self._flows.named_parameters()))
        self._evaluations = 0
        self._forward_evaluations = 0
        for flow in self._flows:
            cast(FFJTransform, flow).ode.register_forward_hook(self._count)

    def forward(self) -> tuple[Tensor, Tensor]:
        self._evaluations = 0
        z, total = self.start, torch.zeros_like(self.problem.of_log_det)
        for flow in self._flows:
            z, log_det = flow(self.context).call_and_ladj(z)
            total = total + log_det
        self._forward_evaluations = self._evaluations
        return z, total

    def evaluations(self) -> tuple[int, int]:
        return self._forward_evaluations, self._evaluations - self._forward_evaluations

    def _count(self, *_: object) -> None:
        self._evaluations += 1


def _flow(size: Size, block: BlockWeights) -> FFJTransform:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flow = FFJTransform(
            size.latent_dim,
            size.context_dim,
            atol=TOLERANCE,
            rtol=TOLERANCE,
            exact=False,
            hidden_features=size.hidden_dims,
            activation=nn.Softplus,
        )
    cast(Tensor, flow.times)[1] = INTEGRATION_TIME
    first, *others = (module for module in flow.ode if isinstance(module, Linear))
    # The rows that emit the first layer's shift; what else the head emits has no counterpart in zuko.
    rows = block.head_weight.split(size.split_sizes)[2 if size.rank else 0]
    with torch.no_grad():
        inputs = first.in_features - size.latent_dim - size.context_dim
        first.weight[:, inputs:] = torch.cat([block.layers[0].weight, rows], 1)
        for linear, layer in zip((first, *others), block.layers, strict=True):
            cast(Tensor, linear.bias).copy_(layer.bias)
        for linear, layer in zip(others, block.layers[1:], strict=True):
            linear.weight.copy_(layer.weight)
    return flow
