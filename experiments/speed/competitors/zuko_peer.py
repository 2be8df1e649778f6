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

from experiments.speed.competitors.competitor import TorchCompetitor
from experiments.speed.problems import INTEGRATION_TIME, TOLERANCE, Block, Problem, Size

__all__ = ["Peer"]


class Peer(TorchCompetitor):
    """zuko's flow of the widths and weights of a problem."""

    def __init__(self, problem: Problem) -> None:
        self._flows = nn.ModuleList(_flow(problem.size, block) for block in problem.blocks())
        super().__init__(problem, dict(self._flows.named_parameters()), len(self._flows))
        self._evaluations_so_far = 0
        for flow in self._flows:
            cast(FFJTransform, flow).ode.register_forward_hook(self._count_one)

    def solve(self, block: int, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        return self._flows[block](context).call_and_ladj(z)

    def count(self) -> int:
        return self._evaluations_so_far

    def _count_one(self, *_: object) -> None:
        self._evaluations_so_far += 1


def _flow(size: Size, block: Block) -> FFJTransform:
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
    rows = block.head.weight.split(size.split_sizes)[2 if size.rank else 0]
    with torch.no_grad():
        inputs = first.in_features - size.latent_dim - size.context_dim
        first.weight[:, inputs:] = torch.cat([block.layers[0].weight, rows], 1)
        for linear, layer in zip((first, *others), block.layers, strict=True):
            cast(Tensor, linear.bias).copy_(layer.bias)
        for linear, layer in zip(others, block.layers[1:], strict=True):
            linear.weight.copy_(layer.weight)
    return flow
