"""What every competitor computes: one posterior's dynamics, its inputs and its cotangents, the same for all."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vae_flows.cnf import MLPDynamics
from vae_flows.cnf.amortization import AmortizationName
from vae_flows.flows import FFJORD

__all__ = [
    "BIAS",
    "CONCAT",
    "INTEGRATION_TIME",
    "LARGE",
    "LOW_RANK",
    "SIZES",
    "TINY_CONCAT",
    "TINY_LOW_RANK",
    "TOLERANCE",
    "WIDE_BIAS",
    "Block",
    "Pass",
    "Problem",
    "Size",
    "draw_pass",
    "low_rank_scale",
    "make_problem",
]

TOLERANCE = 1e-5
INTEGRATION_TIME = 0.5
_SEED = 0


@dataclass(frozen=True)
class Size:
    """The size of an amortised posterior; defaults are those of the paper's experiments.

    Example:
        >>> Size((512, 512), "low_rank", rank=20).name, Size((2048,), "bias").name
        ('512-512 rank 20', '2048 bias')
    """

    hidden_dims: tuple[int, ...]
    amortization: AmortizationName  # `concat` is how zuko does it
    rank: int = 0  # of the amortised weight updates, where there are any
    num_blocks: int = 1
    latent_dim: int = 64
    context_dim: int = 256
    batch: int = 100
    spread: float = 2.0  # of what the heads emit: fresh heads emit no update, and the solve would be easy

    @property
    def name(self) -> str:
        """What the size is called in tables."""
        blocks = f", {self.num_blocks} blocks" if self.num_blocks > 1 else ""
        amortization = f"rank {self.rank}" if self.rank else self.amortization
        return f"{'-'.join(map(str, self.hidden_dims))} {amortization}{blocks}"

    @property
    def fans(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each layer of one block."""
        return list(pairwise((self.latent_dim, *self.hidden_dims, self.latent_dim)))

    @property
    def split_sizes(self) -> list[int]:
        """How a block's amortised values are laid out, layer by layer: U, V and bias, or the bias alone."""
        if not self.rank:
            biases = [fan_out for _, fan_out in self.fans]
            return biases if self.amortization == "bias" else biases[:1]
        return [size for ins, outs in self.fans for size in (ins * self.rank, self.rank * outs, outs)]

    def multiply_adds(self, forward_evaluations: int, differentiated_evaluations: int) -> int:
        """Count the multiply-adds of the matrix products that one forward and backward pass cannot do without.

        These are the head's; in each evaluation those of the rows of values through all layers, and of the tangents
        through the inner layers; once per solve those of the tangents through the first and last layer, which are
        constant. The backward pass of a product is two products of the same cost, or one where an input is the noise.

        Arguments:
            forward_evaluations: Evaluations made by the forward solves of all blocks together.
            differentiated_evaluations: Those among them that the end depends on.
        """
        costs = [fan_in * fan_out + self.rank * (fan_in + fan_out) for fan_in, fan_out in self.fans]
        evaluation = sum(costs) + sum(costs[1:-1])
        once = 3 * self.context_dim * sum(self.split_sizes) + 2 * (costs[0] + costs[-1])
        evaluations = forward_evaluations + 2 * differentiated_evaluations
        return self.batch * (evaluations * evaluation + self.num_blocks * once)


LOW_RANK = Size((512, 512), "low_rank", rank=20)
LARGE = Size((1024, 1024), "low_rank", rank=64, num_blocks=2)
BIAS, WIDE_BIAS = Size((512, 512), "bias"), Size((2048,), "bias")
CONCAT = Size((512, 512), "concat")
SIZES = (LOW_RANK, LARGE, Size((2048,), "low_rank", rank=20), BIAS, WIDE_BIAS, CONCAT)
TINY_LOW_RANK = Size((16, 16), "low_rank", rank=2, num_blocks=2, latent_dim=4, context_dim=8, batch=5, spread=0.5)
TINY_CONCAT = replace(TINY_LOW_RANK, hidden_dims=(16,), amortization="concat", rank=0, num_blocks=1)


class Block(NamedTuple):
    """The parameters of one flow: layers x, t -> W x + w t + c, and the head from the context to amortised values."""

    layers: list[Any]  # with `weight (out, in)`, `bias (out,)` and `time_weight (out,)`
    head: nn.Linear

    def derivative(self, size: Size, t: Tensor, x: Tensor, amortized: Tensor) -> Tensor:
        """Return dz/dt at `x (N, D)`, of what the head has emitted: the formula, for automatic differentiation."""
        parts = iter(amortized.split(size.split_sizes, -1))
        for place, layer in enumerate(self.layers):
            x = F.softplus(x) if place else x
            product = F.linear(x, layer.weight, layer.bias) + t * layer.time_weight
            if size.rank:
                left, right = next(parts).unflatten(-1, (-1, size.rank)), next(parts).unflatten(-1, (size.rank, -1))
                inner = torch.bmm(x.unsqueeze(1), left) * low_rank_scale(x.shape[-1], size.rank)
                product = product + torch.bmm(inner, right).squeeze(1)
            # The context is an input of the first layer alone in `concat`, which emits no more.
            x = product + next(parts, 0)
        return x


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One forward and backward pass of a posterior: what goes in, and the cotangents of what comes out."""

    context: Tensor  # (N, C), differentiated
    start: Tensor  # (N, D), differentiated
    of_end: Tensor  # (N, D)
    of_log_det: Tensor  # (N,)

    def double(self) -> Self:
        """Return a copy in double precision."""
        parts = {name: value for name, value in vars(self).items() if isinstance(value, Tensor | nn.Module)}
        return replace(self, **{name: copy.deepcopy(value).double() for name, value in parts.items()})


@dataclass(frozen=True, kw_only=True)
class Problem(Pass):
    """The pass of a continuous flow, which is this library's: the others take their weights from it."""

    size: Size
    flow: FFJORD
    probes: Tensor  # Hutchinson's noise, one draw per block, (blocks, N, D)

    def blocks(self) -> list[Block]:
        """Return the parameters, block by block."""
        flow = self.flow.cnf
        return [
            Block(list(cast(MLPDynamics, dynamics).layers), cast(nn.Linear, amortization.head))
            for dynamics, amortization in zip(flow.dynamics, flow.amortizations, strict=True)
        ]

    def weights(self) -> dict[str, Tensor]:
        """Return all parameters; the first word of a name tells the group, `shared` or `head`."""
        named = self.flow.named_parameters()
        return {f"{'head' if '.head.' in name else 'shared'} {name}": weight for name, weight in named}


def make_problem(size: Size) -> Problem:
    """Draw a problem of the given size in single precision, the same one every time."""
    batch, dim = size.batch, size.latent_dim
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        flow = FFJORD(
            dim,
            size.context_dim,
            hidden_dims=size.hidden_dims,
            num_blocks=size.num_blocks,
            amortization=size.amortization,
            rank=size.rank or None,
            integration_time=INTEGRATION_TIME,
        )
        for amortization in flow.cnf.amortizations:
            nn.init.normal_(cast(nn.Linear, amortization.head).weight, std=size.spread / size.context_dim**0.5)
        return Problem(
            size=size,
            flow=flow,
            **draw_pass(batch, dim, size.context_dim),
            probes=torch.randn(size.num_blocks, batch, dim),
        )


def draw_pass(batch: int, latent_dim: int, context_dim: int) -> dict[str, Tensor]:
    """Draw the fields of a `Pass` from the global generator."""
    widths = {"context": (context_dim,), "start": (latent_dim,), "of_end": (latent_dim,), "of_log_det": ()}
    return {name: torch.randn(batch, *width) for name, width in widths.items()}


def low_rank_scale(fan_in: int, rank: int) -> float:
    """Return the factor by which this library scales what the context emits for U."""
    return 1 / (rank * fan_in**0.5)
