"""Time of convolutional decoders without gradients, in their order in memory and in the usual one.

`python -m experiments.speed.memory_order` takes both in turn, so that what changes on the machine meets both alike. The
ratios are of the medians. `--publish` keeps what was found.
"""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import NamedTuple, cast

import torch
import tyro
from torch import nn

from experiments.speed.likelihood_rate import RESULTS
from experiments.speed.measuring import interleave
from vae_flows.networks import ConvDecoder
from vae_flows.persistence.json_files import write_json
from vae_flows.runs.provenance import describe_provenance

__all__ = ["SIZES", "OrderTimes", "measure_orders"]

LATENTS = 64
SIZES = (
    ((1, 28, 28), 1, 16),
    ((1, 28, 28), 1, 500),
    ((1, 28, 20), 256, 100),
    ((3, 32, 32), 1, 200),
)
"""Shapes of a picture, parameters per pixel and pictures at once."""


class OrderTimes(NamedTuple):
    """Median seconds of decoding one batch, in both orders."""

    event_shape: tuple[int, int, int]
    parameters_per_pixel: int
    batch_size: int
    own: float
    usual: float

    @property
    def ratio(self) -> float:
        """How many times as long the usual order takes."""
        return self.usual / self.own


@torch.no_grad()
def measure_orders(event_shape: tuple[int, int, int], parameters: int, batch_size: int, rounds: int) -> OrderTimes:
    """Time the decoder of one size.

    Example:
        >>> measure_orders((1, 8, 8), 1, batch_size=2, rounds=2).batch_size
        2
    """
    body, z = ConvDecoder(LATENTS, event_shape, parameters).body, torch.randn(batch_size, LATENTS)
    # The same layers, one after the other, which leaves the order in memory to them.
    steps = {"own": partial(body, z), "usual": partial(nn.Sequential.forward, cast("nn.Sequential", body), z)}
    seconds = {order: median(times) for order, times in interleave(steps, rounds).items()}
    return OrderTimes(event_shape, parameters, batch_size, **seconds)


def main(rounds: int = 7, publish: bool = False) -> None:
    """Measure all sizes and print the times.

    Arguments:
        rounds: Rounds of each size.
        publish: Write experiments/results/likelihood/memory_order.json.
    """
    found = [measure_orders(*size, rounds) for size in SIZES]
    for times in found:
        size = "×".join(map(str, times.event_shape))
        print(f"{size}, {times.parameters_per_pixel} per pixel, {times.batch_size} at once", end=": ")
        print(f"{times.own:.4f} s, {times.usual:.4f} s in the usual order, {times.ratio:.2f} times as long")
    if publish:
        rows = [{**times._asdict(), "ratio": times.ratio} for times in found]
        write_json(
            RESULTS / "memory_order.json", {"rows": rows, "threads": torch.get_num_threads(), **describe_provenance()}
        )


if __name__ == "__main__":
    tyro.cli(main)
