"""Taps that meet a picture, against the gradients of convolutions in float64."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn

from vae_flows.networks import GatedConv2d, GatedConvTranspose2d
from vae_flows.tensors.kernels import only_reached_taps

# Kernel, stride and padding, and the sides of a picture that they leave something of.
SHAPES = [
    (*layer, sides)
    for *layer, sides in product((1, 3, 4, 5), (1, 2, 3), (0, 1, 2), ((1, 4), (2, 4), (3, 4), (6, 6)))
    if all(side + 2 * layer[2] >= layer[0] and (side - 1) * layer[1] - 2 * layer[2] + layer[0] >= 1 for side in sides)
]
ROUNDINGS = 2**-5  # a few to 8 bits


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize(("kernel", "stride", "padding", "sides"), SHAPES)
def test_taps_that_change_no_result_are_left_out(
    kind: type[nn.Conv2d | nn.ConvTranspose2d], kernel: int, stride: int, padding: int, sides: tuple[int, int]
):
    convolution = kind(1, 1, kernel, stride, padding).double()
    x = torch.ones(1, 1, *sides).double()
    result = convolution(x)
    (gradient,) = torch.autograd.grad(result.sum(), convolution.weight)
    coarse, fine = (result, x) if kind is nn.Conv2d else (x, result)
    pair = (stride, stride), (padding, padding)
    found = only_reached_taps(torch.ones_like(gradient), coarse.shape[2:], fine.shape[2:], *pair)
    assert torch.equal(found, (gradient > 0).double())


def test_a_kernel_whose_taps_are_all_reached_is_returned_itself():
    weight = torch.ones(2, 3, 5, 5)
    assert only_reached_taps(weight, (3, 3), (3, 3), (1, 1), (2, 2)) is weight


def test_unset_gradients_of_taps_that_are_not_reached_become_zero():
    weight = torch.ones(3, 3, requires_grad=True)
    only_reached_taps(weight, (1, 4), (1, 4), (1, 1), (1, 1)).backward(torch.full((3, 3), torch.inf))
    assert weight.grad is not None
    assert weight.grad.isinf().tolist() == [[False] * 3, [True] * 3, [False] * 3]
    assert weight.grad.nan_to_num(posinf=0.0).count_nonzero() == 0


@pytest.mark.parametrize("kind", [GatedConv2d, GatedConvTranspose2d])
@pytest.mark.parametrize("channels", [(3, 5), (64, 64)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sides", [(1, 1), (2, 2), (1, 5), (3, 4)])
def test_gradients_of_gates_on_small_pictures_in_bfloat16_are_those_of_float32(
    kind: type[GatedConv2d | GatedConvTranspose2d], channels: tuple[int, int], stride: int, sides: tuple[int, int]
):
    layer = kind(*channels, kernel_size=5, stride=stride, padding=2)
    x = torch.randn(5, channels[0], *sides)
    weights = torch.rand_like(layer(x))
    expected = torch.autograd.grad((layer(x) * weights).sum(), list(layer.parameters()))
    # Freed at once, so that what is left unset holds what no gradient is.
    torch.full_like(layer.convolution.weight, 1e5)
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad((layer(x) * weights).sum(), list(layer.parameters()))
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= ROUNDINGS * other.norm()
