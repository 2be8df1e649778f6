from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vae_flows.errors import InvalidInputError
from vae_flows.networks import (
    ConvDecoder,
    ConvEncoder,
    GatedConv2d,
    GatedConvTranspose2d,
    GatedLinear,
    MLPDecoder,
    MLPEncoder,
)

ROUNDING = 1e-12  # float64, a handful of operations

MNIST, FREY, COLOUR = (1, 28, 28), (1, 28, 20), (3, 8, 12)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def gated_convolution(inputs: int, outputs: int, kernel: int) -> int:
    return (inputs * kernel + 1) * 2 * outputs


NETWORKS = {
    "conv-encoder": partial(ConvEncoder, MNIST),
    "conv-encoder-frey": partial(ConvEncoder, FREY, context_dim=10),
    "conv-encoder-colour": partial(ConvEncoder, COLOUR),
    "mlp-encoder": partial(MLPEncoder, COLOUR, hidden_dims=(7, 5), context_dim=6),
    "mlp-encoder-flat": partial(MLPEncoder, MNIST, hidden_dims=(), context_dim=6),
    "conv-decoder": partial(ConvDecoder, 64, MNIST),
    "conv-decoder-frey": partial(ConvDecoder, 4, FREY, parameters_per_pixel=256),
    "conv-decoder-colour": partial(ConvDecoder, 4, COLOUR, parameters_per_pixel=5),
    "mlp-decoder": partial(MLPDecoder, 4, COLOUR, hidden_dims=(7, 5), parameters_per_pixel=3),
    "mlp-decoder-flat": partial(MLPDecoder, 4, MNIST, hidden_dims=()),
}
Network = ConvEncoder | MLPEncoder | ConvDecoder | MLPDecoder


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    return NETWORKS[request.param]()


def event_shapes(network: Network) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of one input and of one output."""
    if isinstance(network, ConvEncoder | MLPEncoder):
        return network.image_shape, (network.context_dim,)
    channels, height, width = network.image_shape
    return (network.latent_dim,), (channels * network.parameters_per_pixel, height, width)


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


@pytest.mark.parametrize("batch", [(), (2,), (3, 2)])
def test_batches_of_any_shape_pass(network: Network, batch: tuple[int, ...]):
    inputs, outputs = event_shapes(network)
    assert network(torch.rand(*batch, *inputs)).shape == (*batch, *outputs)


def test_the_batch_is_processed_example_by_example(network: Network):
    x = torch.rand(2, 3, *event_shapes(network)[0])
    torch.testing.assert_close(network(x)[1, 2], network(x[1, 2]), rtol=1e-4, atol=1e-5)  # float32 convolutions


def test_gradients_reach_every_parameter(network: Network):
    network(torch.rand(2, *event_shapes(network)[0])).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_only_gates_are_nonlinear(network: Network):
    leaves = {type(module) for module in network.modules() if not list(module.children())}
    assert leaves <= {nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Flatten, nn.Unflatten}


def test_convolutional_encoder_has_the_benchmarks_parameters():
    layers = [(1, 32, 25), (32, 32, 25), (32, 64, 25), (64, 64, 25), (64, 64, 25), (64, 256, 49)]
    assert count(ConvEncoder(MNIST)) == sum(gated_convolution(*layer) for layer in layers)
    layers[-1] = (64, 256, 35)
    assert count(ConvEncoder(FREY)) == sum(gated_convolution(*layer) for layer in layers)


def test_convolutional_decoder_has_the_benchmarks_parameters():
    # A transposed convolution holds as many weights as a convolution of the same sizes.
    layers = [(64, 64, 49), (64, 64, 25), (64, 32, 25), (32, 32, 25), (32, 32, 25), (32, 32, 25)]
    body = sum(gated_convolution(*layer) for layer in layers)
    assert count(ConvDecoder(64, MNIST)) == body + (32 + 1)
    layers[0] = (64, 64, 35)
    body = sum(gated_convolution(*layer) for layer in layers)
    head = (32 * 25 + 1) * 256 + (256 + 1) * 256
    assert count(ConvDecoder(64, FREY, parameters_per_pixel=256)) == body + head


def test_perceptrons_have_the_parameters_of_their_layers():
    assert count(MLPEncoder(MNIST, (300,), 200)) == 785 * 600 + 301 * 400
    assert count(MLPDecoder(32, MNIST, (300,), 2)) == 33 * 600 + 301 * 784 * 2


@pytest.mark.parametrize("encoder", ["conv-encoder", "mlp-encoder-flat"])
@pytest.mark.parametrize(
    "images",
    [
        torch.rand(2, 1, 28, 20),
        torch.rand(2, 3, 28, 28),
        torch.rand(2, 784),
        torch.ones(2, 1, 28, 28, dtype=torch.int64),
    ],
    ids=["width", "channels", "flat", "integer"],
)
def test_wrong_images_are_refused(encoder: str, images: torch.Tensor):
    with pytest.raises(InvalidInputError, match=r"Encoder images: expected .* \(\*batch, 1, 28, 28\), got .*shape"):
        NETWORKS[encoder]()(images)


@pytest.mark.parametrize("latents", [torch.randn(2, 5), torch.ones(2, 4, dtype=torch.int64), torch.tensor(1.0)])
def test_wrong_latents_are_refused(latents: torch.Tensor):
    with pytest.raises(InvalidInputError, match=r"MLPDecoder latents: expected .* \(\*batch, 4\)"):
        NETWORKS["mlp-decoder"]()(latents)


@pytest.mark.parametrize("shape", [(1, 30, 28), (1, 28, 27)])
def test_convolutions_want_sides_divisible_by_four(shape: tuple[int, int, int]):
    with pytest.raises(InvalidInputError, match="ConvEncoder image_shape: expected height and width divisible by 4"):
        ConvEncoder(shape)
    with pytest.raises(InvalidInputError, match="ConvDecoder image_shape: expected height and width divisible by 4"):
        ConvDecoder(4, shape)


def test_wrong_sizes_are_refused():
    with pytest.raises(InvalidInputError, match="MLPEncoder image_shape: expected"):
        MLPEncoder((28, 28))
    with pytest.raises(InvalidInputError, match="MLPEncoder width: expected a positive integer, got 0"):
        MLPEncoder(MNIST, hidden_dims=(0,))
    with pytest.raises(InvalidInputError, match="ConvEncoder context_dim: expected a positive integer"):
        ConvEncoder(MNIST, context_dim=0)
    with pytest.raises(InvalidInputError, match="ConvDecoder parameters_per_pixel: expected a positive integer"):
        ConvDecoder(4, MNIST, parameters_per_pixel=0)
