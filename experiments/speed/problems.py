"""What every competitor computes: one posterior's dynamics, its inputs and its cotangents, the same for all."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from vae_flows.cnf import MLPDynamics
from vae_flows.cnf.amortization import AmortizationName
from vae_flows.errors import unknown_name
from vae_flows.flows import FFJORD

__all__ = [
    "INTEGRATION_TIME",
    "SIZES",
    "TINY_SIZES",
    "TOLERANCE",
    "BlockWeights",
    "LayerWeights",
    "Problem",
    "Size",
    "find_size",
    "low_rank_scale",
    "make_problem",
    "multiply_adds",
    "named_weights",
]

TOLERANCE = 1e-5
INTEGRATION_TIME = 0.5
_SEED = 0


@dataclass(frozen=True)
class Size:
    """The size of an amortised posterior; defaults are those of the paper's experiments.

    Arguments:
        hidden_dims: Widths of the dynamics' hidden layers.
        amortization: What the context sets: `low_rank`, `bias`, or `concat`, which is how zuko does it.
        rank: Rank of the amortised weight updates, where there are any.
        num_blocks: Flows in sequence.
        latent_dim: D.
        context_dim: C.
        batch: Examples in a batch.
        spread: Standard deviation of what the heads emit: fresh heads emit no update, and the solve would be easy.
        with_published: Whether the published formulation is measured here, which takes seconds a step.

    Example:
        >>> Size((512, 512), "low_rank", rank=20).name, Size((2048,), "bias").name
        ('512-512 rank 20', '2048 bias')
    """

    hidden_dims: tuple[int, ...]
    amortization: AmortizationName
    rank: int = 0
    num_blocks: int = 1
    latent_dim: int = 64
    context_dim: int = 256
    batch: int = 100
    spread: float = 2.0
    with_published: bool = False

    @property
    def name(self) -> str:
        """What the size is called in tables and on the command line."""
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


SIZES = (
    Size((512, 512), "low_rank", rank=20, with_published=True),
    Size((1024, 1024), "low_rank", rank=64, num_blocks=2),
    Size((2048,), "low_rank", rank=20),
    Size((512, 512), "bias"),
    Size((2048,), "bias"),
    Size((512, 512), "concat"),
)
_TINY = Size((16, 16), "low_rank", rank=2, num_blocks=2, latent_dim=4, context_dim=8, batch=5, spread=0.5)
TINY_SIZES = (
    replace(_TINY, with_published=True),
    replace(_TINY, hidden_dims=(16,), amortization="concat", rank=0, num_blocks=1),
)


def find_size(name: str) -> Size:
    """Return the size called `name`.

    Raises:
        UnknownNameError: There is no such size.
    """
    sizes = {size.name: size for size in (*TINY_SIZES, *SIZES)}
    if name not in sizes:
        raise unknown_name("size", name, sizes)
    return sizes[name]


class LayerWeights(NamedTuple):
    """The shared part of a layer, x, t -> W x + w t + c."""

    weight: Tensor  # (out, in)
    bias: Tensor  # (out,)
    time_weight: Tensor  # (out,)


class BlockWeights(NamedTuple):
    """The parameters of one block: layers, and the linear head from the context to the amortised values."""

    layers: list[LayerWeights]
    head_weight: Tensor  # (amortised values, C)
    head_bias: Tensor | None


@dataclass(frozen=True)
class Problem:
    """One forward and backward pass: what goes in, and the cotangents of what comes out.

    Arguments:
        size: The size.
        flow: This library's flow, from which the others take their weights.
        context: `(N, C)`, differentiated.
        start: z(0), `(N, D)`, differentiated.
        probes: Hutchinson's noise, one draw a block, `(blocks, N, D)`.
        of_end: Cotangent of z(T), `(N, D)`.
        of_log_det: Cotangent of the log-determinant, `(N,)`.
    """

    size: Size
    flow: FFJORD
    context: Tensor
    start: Tensor
    probes: Tensor
    of_end: Tensor
    of_log_det: Tensor

    def blocks(self) -> list[BlockWeights]:
        """Return the parameters, block by block."""
        pairs = zip(self.flow.cnf.dynamics, self.flow.cnf.amortizations, strict=True)
        return [_block_weights(cast(MLPDynamics, dynamics), amortization) for dynamics, amortization in pairs]

    def double(self) -> Problem:
        """Return a copy in double precision."""
        tensors = {name: value.detach().double() for name, value in vars(self).items() if isinstance(value, Tensor)}
        return Problem(size=self.size, flow=copy.deepcopy(self.flow).double(), **cast(Mapping[str, Any], tensors))


def make_problem(size: Size) -> Problem:
    """Draw a problem of the given size in single precision, the same one every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        flow = FFJORD(
            size.latent_dim,
            size.context_dim,
            hidden_dims=size.hidden_dims,
            num_blocks=size.num_blocks,
            amortization=size.amortization,
            rank=max(size.rank, 1),
            integration_time=INTEGRATION_TIME,
        )
        for amortization in flow.cnf.amortizations:
            nn.init.normal_(cast(nn.Linear, amortization.head).weight, std=size.spread / size.context_dim**0.5)
        batch, dim = size.batch, size.latent_dim
        return Problem(
            size=size,
            flow=flow,
            context=torch.randn(batch, size.context_dim),
            start=torch.randn(batch, dim),
            probes=torch.randn(size.num_blocks, batch, dim),
            of_end=torch.randn(batch, dim),
            of_log_det=torch.randn(batch),
        )


def named_weights(blocks: Sequence[BlockWeights]) -> dict[str, Tensor]:
    """Return all weights by name; the first word of a name tells the group, `shared` or `head`.

    Example:
        >>> list(named_weights(make_problem(TINY_SIZES[1]).blocks()))[-2:]
        ['shared 0.1 time_weight', 'head 0 weight']
    """
    named: dict[str, Tensor] = {}
    for number, block in enumerate(blocks):
        for place, layer in enumerate(block.layers):
            named |= {f"shared {number}.{place} {name}": tensor for name, tensor in layer._asdict().items()}
        named[f"head {number} weight"] = block.head_weight
        if block.head_bias is not None:
            named[f"head {number} bias"] = block.head_bias
    return named


def low_rank_scale(fan_in: int, rank: int) -> float:
    """Return the factor by which this library scales what the context emits for U."""
    return 1 / (rank * fan_in**0.5)


def multiply_adds(size: Size, forward_evaluations: int, differentiated_evaluations: int) -> int:
    """Count the multiply-adds of the matrix products that one forward and backward pass cannot do without.

    These are the head's; in each evaluation those of the rows of values through all layers, and of the tangents through
    the inner layers; once a solve those of the tangents through the first and last layer, which are constant. The
    backward pass of a product is two products of the same cost, or one where an input is the noise.

    Arguments:
        size: The size.
        forward_evaluations: Evaluations made by the forward solves of all blocks together.
        differentiated_evaluations: Those among them that the end depends on.
    """
    costs = [fan_in * fan_out + size.rank * (fan_in + fan_out) for fan_in, fan_out in size.fans]
    evaluation = sum(costs) + sum(costs[1:-1])
    once = 3 * size.context_dim * sum(size.split_sizes) + 2 * (costs[0] + costs[-1])
    evaluations = forward_evaluations + 2 * differentiated_evaluations
    return size.batch * (evaluations * evaluation + size.num_blocks * once)


def _block_weights(dynamics: MLPDynamics, amortization: nn.Module) -> BlockWeights:
    layers = [
        LayerWeights(layer.weight, layer.bias, cast(Tensor, layer.time_weight))
        for layer in cast(Iterable[Any], dynamics.layers)
    ]
    head = cast(nn.Linear, amortization.head)
    return BlockWeights(layers, head.weight, head.bias)
