"""Kernels of convolutions: which of their taps meet a picture at all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["only_reached_taps"]


def only_reached_taps(
    weight: Tensor, coarse: Sequence[int], fine: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Return a kernel `(…, height, width)` whose taps that meet padding alone are 0, and have the gradient 0.

    Tap t of a convolution meets the picture if 0 ≤ i · stride + t - padding < fine for some 0 ≤ i < coarse. The others
    change no result, so that their gradient is 0; but oneDNN leaves it unset in bfloat16 (torch 2.14): what memory held
    before, up to infinity.

    Arguments:
        weight: The kernel.
        coarse: Sides of the picture with fewer pixels: a convolution's result, a transposed convolution's input.
        fine: Sides of the other one.
        stride: Step from one coarse pixel to the next, in fine ones, along each side.
        padding: Zeros around the fine picture, along each side.

    Returns:
        The kernel itself where each tap meets the picture.

    Example:
        >>> only_reached_taps(torch.ones(3, 3), coarse=(1, 4), fine=(1, 4), stride=(1, 1), padding=(1, 1))
        tensor([[0., 0., 0.],
                [1., 1., 1.],
                [0., 0., 0.]])
    """
    taps = weight.shape[-len(coarse) :]
    reached = [
        [any(0 <= pixel * step + tap - zeros < finer for pixel in range(coarser)) for tap in range(count)]
        for count, coarser, finer, step, zeros in zip(taps, coarse, fine, stride, padding, strict=True)
    ]
    if all(all(side) for side in reached):
        return weight
    rows, columns = (torch.tensor(side, device=weight.device) for side in reached)
    # Not a product: 0 times an unset infinity is no 0.
    return torch.where(rows[:, None] & columns, weight, weight.new_zeros(()))
