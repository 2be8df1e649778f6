r"""Amortisation: layers that emit, from a context, the per-example part of the dynamics.

| name | what the context h sets | emitted numbers per example |
|---|---|---|
| `concat` | h is one more input of the first layer: its shift | H₁ |
| `bias` | the shift of each layer | Σ out |
| `low_rank` | the shift, and an update U V of rank r of each weight | Σ out + r (in + out) |
| `last_layer` | an update of the whole last layer, weight, shift and time | D (H + 2) |
| `hyper` | an update of the whole network | Σ out (in + 2) |

Every update starts at zero, so that a fresh flow is the shared, small dynamics and training starts stable. In the
low-rank update :math:`U_l V_l` it is V that starts at zero: were both zero, neither would ever receive a gradient.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vae_flows.cnf.layers import LayerUpdate
from vae_flows.errors import refuse_unused, require_positive, unknown_name

__all__ = [
    "Amortization",
    "AmortizationName",
    "BiasAmortization",
    "ConcatAmortization",
    "DenseAmortization",
    "LowRankAmortization",
    "make_amortization",
    "rank_of",
    "upgraded_rank",
]

AmortizationName = Literal["concat", "bias", "low_rank", "last_layer", "hyper"]

_RANK = 20


class Amortization(nn.Module):
    """Maps a context `(*batch, C)` to one `LayerUpdate` for each layer of the dynamics."""

    @abstractmethod
    def forward(self, context: Tensor) -> list[LayerUpdate]:
        """Return the updates, with batch shape `context.shape[:-1]`."""


class BiasAmortization(Amortization):
    """A shift b_l(h) of each layer: the cheapest amortisation, whose trace keeps the shared closed form.

    Arguments:
        widths: Widths of the dynamics' layers, from the latent dimension to the latent dimension.
        context_dim: C.
    """

    def __init__(self, widths: Sequence[int], context_dim: int) -> None:
        super().__init__()
        self._sizes = list(widths[1:])
        self.head = nn.Linear(context_dim, sum(self._sizes))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, context: Tensor) -> list[LayerUpdate]:
        return [LayerUpdate(bias=bias) for bias in self.head(context).split(self._sizes, -1)]


class ConcatAmortization(Amortization):
    """The context as one more input of the first layer, W [z, h]: a shift of the first layer, linear in h.

    Arguments:
        widths: Widths of the dynamics' layers, from the latent dimension to the latent dimension.
        context_dim: C.
    """

    def __init__(self, widths: Sequence[int], context_dim: int) -> None:
        super().__init__()
        self._others = len(widths) - 2
        self.head = nn.Linear(context_dim, widths[1], bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, context: Tensor) -> list[LayerUpdate]:
        return [LayerUpdate(bias=self.head(context)), *[LayerUpdate()] * self._others]


class DenseAmortization(Amortization):
    """An update of weight, shift and dependence on time of whole layers, from a linear hypernetwork (Ha et al. 2017).

    Arguments:
        widths: Widths of the dynamics' layers, from the latent dimension to the latent dimension.
        context_dim: C.
        last_only: Whether the last layer alone is updated.
    """

    def __init__(self, widths: Sequence[int], context_dim: int, *, last_only: bool) -> None:
        super().__init__()
        fans = list(pairwise(widths))
        self._constant = len(fans) - 1 if last_only else 0
        self._fans = fans[self._constant :]
        self._sizes = [size for fan_in, fan_out in self._fans for size in (fan_in * fan_out, fan_out, fan_out)]
        self.head = nn.Linear(context_dim, sum(self._sizes))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, context: Tensor) -> list[LayerUpdate]:
        parts = self.head(context).split(self._sizes, -1)
        updates = [
            # Divided by the width for the reason that low-rank updates are.
            LayerUpdate(bias=bias, dense=weight.unflatten(-1, fan) / fan[0], time_weight=time_weight)
            for fan, weight, bias, time_weight in zip(self._fans, parts[0::3], parts[1::3], parts[2::3], strict=True)
        ]
        return [*[LayerUpdate()] * self._constant, *updates]


class LowRankAmortization(Amortization):
    """A shift b_l(h) and an update U_l(h) V_l(h) of each weight (van den Berg et al. 2018; Grathwohl et al. 2019).

    What the context emits for U is divided by r √in. Steps of an adaptive optimiser move all of its entries at once and
    alike; undivided, they add up over rank and width, and the dynamics run away at learning rates that suit the rest.

    Arguments:
        widths: Widths of the dynamics' layers, from the latent dimension to the latent dimension.
        context_dim: C.
        rank: r, the inner width of U V.

    Raises:
        InvalidInputError: The rank is not a positive integer.
    """

    def __init__(self, widths: Sequence[int], context_dim: int, rank: int) -> None:
        super().__init__()
        require_positive("LowRankAmortization", rank=rank)
        self._rank = rank
        self._fans = list(pairwise(widths))
        self._sizes = [size for fan_in, fan_out in self._fans for size in (fan_in * rank, rank * fan_out, fan_out)]
        self.head = nn.Linear(context_dim, sum(self._sizes))
        self._initialize()

    def forward(self, context: Tensor) -> list[LayerUpdate]:
        # split, not slices: the gradients of slices would each be padded with zeros to the width of the whole head.
        parts = self.head(context).split(self._sizes, -1)
        return [
            LayerUpdate(
                bias,
                left.unflatten(-1, (fan_in, self._rank)) / (self._rank * math.sqrt(fan_in)),
                right.unflatten(-1, (self._rank, fan_out)),
            )
            for (fan_in, fan_out), left, right, bias in zip(
                self._fans, parts[0::3], parts[1::3], parts[2::3], strict=True
            )
        ]

    @torch.no_grad()
    def _initialize(self) -> None:
        """Draw what U is made of from about the standard normal distribution, and set V and b to zero."""
        weights, biases = self.head.weight.split(self._sizes), self.head.bias.split(self._sizes)
        for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            if index % 3 == 0:
                bias.normal_()
            else:
                weight.zero_()
                bias.zero_()


def rank_of(owner: str, amortization: str, rank: int | None) -> int | None:
    """Return the rank of an amortisation's updates: what is given, by default 20, or `None` where they have no rank.

    Raises:
        InvalidInputError: One is given to an amortisation without; the message begins with `owner`.

    Example:
        >>> rank_of("FFJORD", "low_rank", None), rank_of("FFJORD", "bias", None)
        (20, None)
    """
    if amortization == "low_rank":
        return _RANK if rank is None else rank
    refuse_unused(owner, f"amortization={amortization!r}", rank=rank)
    return None


def upgraded_rank(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a configuration without the rank that earlier releases gave to every amortisation.

    Example:
        >>> upgraded_rank({"amortization": "bias", "rank": 20})
        {'amortization': 'bias', 'rank': None}
    """
    return config if config.get("amortization", "low_rank") == "low_rank" else {**config, "rank": None}


def make_amortization(name: str, widths: Sequence[int], context_dim: int, rank: int | None = None) -> Amortization:
    """Return the amortisation called `name`.

    Arguments:
        name: `concat`, `bias`, `low_rank`, `last_layer` or `hyper`.
        widths: Widths of the dynamics' layers, from the latent dimension to the latent dimension.
        context_dim: C.
        rank: r, for `low_rank` alone; 20 by default.

    Raises:
        UnknownNameError: There is no such amortisation.
        InvalidInputError: A rank for another one, or one that is not positive.

    Example:
        >>> updates = make_amortization("low_rank", (2, 16, 2), context_dim=8, rank=3)(torch.zeros(5, 8))
        >>> [tuple(tensor.shape) for tensor in updates[0].tensors()]
        [(5, 16), (5, 2, 3), (5, 3, 16)]
    """
    makers: dict[str, Callable[[], Amortization]] = {
        "concat": lambda: ConcatAmortization(widths, context_dim),
        "bias": lambda: BiasAmortization(widths, context_dim),
        "low_rank": lambda: LowRankAmortization(widths, context_dim, _RANK if rank is None else rank),
        "last_layer": lambda: DenseAmortization(widths, context_dim, last_only=True),
        "hyper": lambda: DenseAmortization(widths, context_dim, last_only=False),
    }
    if name not in makers:
        raise unknown_name("amortization", name, makers)
    rank = rank_of("make_amortization", name, rank)
    return makers[name]()
