"""Time of convolutional networks, in their own order in memory and in the usual one.

They are decoders without gradients, and encoder and decoder of the benchmark in bfloat16, forward and backward.
`python -m experiments.speed.memory_order` takes both orders in turn, so that what changes on the machine meets both
alike. The ratios are of the medians. `--publish` keeps what was found.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import NamedTuple, cast

import torch
import tyro
from torch import Tensor, nn

from experiments.speed.likelihood_rate import RESULTS
from experiments.speed.measuring import interleave
from vae_flows.networks import ConvDecoder, ConvEncoder
from vae_flows.persistence.json_files import write_json
from vae_flows.runs.provenance import describe_provenance

__all__ = ["SIZES", "OrderTimes", "TrainingTimes", "measure_orders", "measure_training"]

LATENTS, TRAINING_BATCH = 64, 100
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


class TrainingTimes(NamedTuple):
    """Median seconds of one batch forward and backward in bfloat16, in both orders, and in float32."""

    event_shape: tuple[int, int, int]
    batch_size: int
    own: float
    usual: float
    float32: float

    @property
    def ratio(self) -> float:
        """How many times as long the usual order takes."""
        return self.usual / self.own

    @property
    def ratio_of_float32(self) -> float:
        """How many times as long float32 takes."""
        return self.float32 / self.own


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


def measure_training(event_shape: tuple[int, int, int], batch_size: int, rounds: int) -> TrainingTimes:
    """Time encoder and decoder of one size, as training with `bf16-mixed` and with `32-true` computes them.

    Example:
        >>> measure_training((1, 8, 8), batch_size=2, rounds=2).batch_size
        2
    """
    bodies = ConvEncoder(event_shape).body, ConvDecoder(LATENTS, event_shape).body
    inputs = torch.rand(batch_size, *event_shape), torch.randn(batch_size, LATENTS)

    def step(forward: Callable[[nn.Sequential, Tensor], Tensor], in_bfloat16: bool) -> None:
        for body, x in zip(bodies, inputs, strict=True):
            with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
                found = forward(cast("nn.Sequential", body), x)
            found.float().square().mean().backward()
            body.zero_grad()

    steps = {
        "own": partial(step, nn.Sequential.__call__, True),
        "usual": partial(step, nn.Sequential.forward, True),
        "float32": partial(step, nn.Sequential.__call__, False),
    }
    seconds = {order: median(times) for order, times in interleave(steps, rounds).items()}
    return TrainingTimes(event_shape, batch_size, **seconds)


def main(rounds: int = 7, publish: bool = False) -> None:
    """Measure all sizes and print the times.

    Arguments:
        rounds: Rounds of each size.
        publish: Write experiments/results/likelihood/memory_order.json.
    """
    orders = [measure_orders(*size, rounds) for size in SIZES]
    for times in orders:
        size = "×".join(map(str, times.event_shape))
        print(f"{size}, {times.parameters_per_pixel} per pixel, {times.batch_size} at once", end=": ")
        print(f"{times.own:.4f} s, {times.usual:.4f} s in the usual order, {times.ratio:.2f} times as long")
    training = measure_training((1, 28, 28), TRAINING_BATCH, rounds)
    print(f"forward and backward in bfloat16, {training.batch_size} at once", end=": ")
    print(f"{training.own:.4f} s, {training.usual:.4f} s in the usual order, {training.ratio:.2f} times as long")
    print(f"in float32: {training.float32:.4f} s, {training.ratio_of_float32:.2f} times as long")
    if publish:
        rows = [{**times._asdict(), "ratio": times.ratio} for times in orders]
        ratios = {"ratio": training.ratio, "ratio_of_float32": training.ratio_of_float32}
        found = {"rows": rows, "training": {**training._asdict(), **ratios}, "threads": torch.get_num_threads()}
        write_json(RESULTS / "memory_order.json", {**found, **describe_provenance()})


if __name__ == "__main__":
    tyro.cli(main)
