"""Gated layers against their formula h · sigmoid(g), and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vae_flows.errors import InvalidInputError
from vae_flows.networks import GatedConv2d, GatedConvTranspose2d, GatedLinear

ROUNDING = 1e-12  # float64, a handful of operations


def test_gated_linear_multiplies_the_first_half_by_the_sigmoid_of_the_second():
    layer = GatedLinear(3, 5).double()
    x = torch.randn(2, 3, dtype=torch.float64)
    h, g = torch.chunk(x @ layer.linear.weight.T + layer.linear.bias, 2, dim=-1)
    torch.testing.assert_close(layer(x), h * torch.sigmoid(g), rtol=ROUNDING, atol=ROUNDING)


def test_gated_convolution_multiplies_the_first_channels_by_the_sigmoid_of_the_others():
    layer = GatedConv2d(2, 3, 5, stride=2, padding=2).double()
    x = torch.randn(4, 2, 8, 6, dtype=torch.float64)
    assert layer.convolution.bias is not None
    h, g = (
        F.conv2d(x, weight, bias, stride=2, padding=2)
        for weight, bias in zip(layer.convolution.weight.chunk(2), layer.convolution.bias.chunk(2), strict=True)
    )
    torch.testing.assert_close(layer(x), h * torch.sigmoid(g), rtol=ROUNDING, atol=ROUNDING)


def test_gated_transposed_convolution_multiplies_the_first_channels_by_the_sigmoid_of_the_others():
    layer = GatedConvTranspose2d(2, 3, 5, stride=2, padding=2, output_padding=1).double()
    x = torch.randn(4, 2, 4, 3, dtype=torch.float64)
    assert layer.convolution.bias is not None
    weights = layer.convolution.weight.chunk(2, dim=1)  # (in, out, height, width)
    h, g = (
        F.conv_transpose2d(x, weight, bias, stride=2, padding=2, output_padding=1)
        for weight, bias in zip(weights, layer.convolution.bias.chunk(2), strict=True)
    )
    torch.testing.assert_close(layer(x), h * torch.sigmoid(g), rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize(("stride", "added"), [(1, 0), (2, 1), (2, (0, 1))])
def test_the_transposed_convolution_and_its_gradients_are_those_of_torch(stride: int, added: int | tuple[int, int]):
    ours = GatedConvTranspose2d(2, 3, 5, stride, padding=2, output_padding=added).double().convolution
    theirs = nn.ConvTranspose2d(2, 6, 5, stride, padding=2, output_padding=added).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, 2, 4, 3, dtype=torch.float64)
    found, expected = ours(x), theirs(x)
    weights = torch.randn_like(expected)
    torch.testing.assert_close(found, expected, rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(
        torch.autograd.grad((found * weights).sum(), list(ours.parameters())),
        torch.autograd.grad((expected * weights).sum(), list(theirs.parameters())),
        rtol=ROUNDING,
        atol=ROUNDING,
    )


def test_hooks_of_the_transposed_convolution_are_called():
    layer = GatedConvTranspose2d(2, 3, 5, padding=2)
    seen: list[torch.Size] = []
    layer.convolution.register_forward_hook(lambda _layer, _arguments, result: seen.append(result.shape))
    layer(torch.zeros(1, 2, 4, 4))
    assert seen == [(1, 6, 4, 4)]


@pytest.mark.parametrize("layer", [GatedConv2d(2, 3, 5, padding=2), GatedConvTranspose2d(2, 3, 5, padding=2)])
def test_gates_of_bfloat16_with_channels_last_are_those_in_the_usual_order(layer: GatedConv2d | GatedConvTranspose2d):
    layer.bfloat16()
    # Whole numbers make the sums exact in either order, and the gates round once for each operation.
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(torch.randint(-1, 2, weight.shape))
    x = torch.randint(0, 2, (4, 2, 6, 5)).bfloat16()
    found = layer(x.contiguous(memory_format=torch.channels_last))
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, layer(x), rtol=3 * 2**-8, atol=0.0)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_gradients_of_gates_of_bfloat16_are_those_of_the_formula(order: torch.memory_format):
    layer = GatedConv2d(2, 2, 1).bfloat16()
    with torch.no_grad():  # the features are the first channel, the gates the second one, both exactly
        layer.convolution.weight.copy_(torch.eye(2).repeat_interleave(2, dim=0)[..., None, None])
        layer.convolution.bias.zero_()  # pyright: ignore[reportOptionalMemberAccess]
    x = torch.randn(4, 2, 6, 5).bfloat16().contiguous(memory_format=order).requires_grad_()
    (found,) = torch.autograd.grad(layer(x)[:, 0].sum(), x)
    h, gate = x.detach().double()[:, 0], torch.sigmoid(x.detach().double()[:, 1])
    expected = torch.stack([gate, h * gate * (1 - gate)], dim=1)
    # At most four roundings to 8 bits, of numbers of at most one and of at most |h|.
    torch.testing.assert_close(found.double(), expected, rtol=0.0, atol=4 * 2**-8 * max(1.0, float(h.abs().max())))


def test_the_rows_and_columns_that_a_stride_leaves_open_may_differ():
    layer = GatedConvTranspose2d(2, 3, 5, stride=2, padding=2, output_padding=(1, 0))
    assert layer(torch.zeros(1, 2, 4, 4)).shape == (1, 3, 8, 7)


@pytest.mark.parametrize("added", [2, -1, (0, 2), (-1, 0)])
def test_output_padding_is_less_than_the_stride(added: int | tuple[int, int]):
    with pytest.raises(InvalidInputError, match="output_padding: expected at least 0 and less than stride = 2"):
        GatedConvTranspose2d(2, 3, 5, stride=2, padding=2, output_padding=added)
