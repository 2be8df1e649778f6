"""Encoders and decoders: shapes, the benchmark's layers, gradients, descriptions, refusals."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from torch import nn

from vae_flows.errors import InvalidInputError
from vae_flows.networks import (
    ConvDecoder,
    ConvEncoder,
    MLPDecoder,
    MLPEncoder,
    count_parameters,
)
from vae_flows.persistence.configuration import build, describe

# Each of up to eleven layers rounds to 8 bits, once forward and twice backward, independently of the others; thrice for
# what layers add to it.
BFLOAT16 = 3 * 2**-8 * 33**0.5
MNIST, FREY, COLOUR, ODD, TINY = (1, 28, 28), (1, 28, 20), (3, 8, 12), (2, 17, 23), (2, 5, 5)


def gated_convolution(inputs: int, outputs: int, kernel: int) -> int:
    return (inputs * kernel + 1) * 2 * outputs


NETWORKS = {
    "conv-encoder": partial(ConvEncoder, MNIST),
    "conv-encoder-frey": partial(ConvEncoder, FREY, context_dim=10),
    "conv-encoder-colour": partial(ConvEncoder, COLOUR),
    "conv-encoder-odd": partial(ConvEncoder, ODD),
    "conv-encoder-tiny": partial(ConvEncoder, TINY),
    "conv-encoder-halved": partial(ConvEncoder, TINY, num_halvings=3),
    "mlp-encoder": partial(MLPEncoder, COLOUR, hidden_dims=(7, 5), context_dim=6),
    "mlp-encoder-flat": partial(MLPEncoder, MNIST, hidden_dims=(), context_dim=6),
    "mlp-encoder-vectors": partial(MLPEncoder, (5,), hidden_dims=(7,), context_dim=6),
    "mlp-encoder-sequences": partial(MLPEncoder, (5, 2), hidden_dims=(7,), context_dim=6),
    "conv-decoder": partial(ConvDecoder, 64, MNIST),
    "conv-decoder-frey": partial(ConvDecoder, 4, FREY, parameters_per_pixel=256),
    "conv-decoder-colour": partial(ConvDecoder, 4, COLOUR, parameters_per_pixel=5),
    "conv-decoder-odd": partial(ConvDecoder, 4, ODD),
    "conv-decoder-tiny": partial(ConvDecoder, 4, TINY, parameters_per_pixel=2),
    "conv-decoder-halved": partial(ConvDecoder, 4, TINY, num_halvings=3),
    "mlp-decoder": partial(MLPDecoder, 4, COLOUR, hidden_dims=(7, 5), parameters_per_pixel=3),
    "mlp-decoder-flat": partial(MLPDecoder, 4, MNIST, hidden_dims=()),
    "mlp-decoder-vectors": partial(MLPDecoder, 4, (5,), hidden_dims=(7,), parameters_per_pixel=2),
    "mlp-decoder-sequences": partial(MLPDecoder, 4, (5, 2), hidden_dims=(7,), parameters_per_pixel=2),
}
Network = ConvEncoder | MLPEncoder | ConvDecoder | MLPDecoder


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    return NETWORKS[request.param]()


def event_shapes(network: Network) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of one input and of one output."""
    if isinstance(network, ConvEncoder | MLPEncoder):
        return network.event_shape, (network.context_dim,)
    channels, *rest = network.event_shape
    return (network.latent_dim,), (channels * network.parameters_per_pixel, *rest)


@pytest.mark.parametrize("batch", [(), (2,), (3, 2)])
def test_batches_of_any_shape_pass(network: Network, batch: tuple[int, ...]):
    inputs, outputs = event_shapes(network)
    assert network(torch.rand(*batch, *inputs)).shape == (*batch, *outputs)


def test_the_batch_is_processed_example_by_example(network: Network):
    x = torch.rand(2, 3, *event_shapes(network)[0])
    torch.testing.assert_close(network(x)[1, 2], network(x[1, 2]), rtol=1e-4, atol=1e-5)  # float32 convolutions


def test_values_without_gradients_are_those_with_them_and_lie_in_memory_alike(network: Network):
    # Decoders compute on channels last where no gradients are wanted: the order of sums is another.
    network.double()
    x = torch.rand(3, 2, *event_shapes(network)[0], dtype=torch.float64)
    expected = network(x)
    for wanted in (torch.no_grad(), torch.inference_mode()):
        with wanted:
            found = network(x)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)  # rounding of sums of some 1,600 terms
        assert found.stride() == expected.stride()
        assert found.is_contiguous()


@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16_gives_values_and_gradients_of_float32_that_lie_in_memory_alike(network: Network, autocast: bool):
    x = torch.rand(5, *event_shapes(network)[0])
    expected = network(x)
    weights = list(network.parameters())
    pulled = torch.cat([gradient.flatten() for gradient in torch.autograd.grad(expected.square().sum(), weights)])
    if autocast:
        with torch.autocast("cpu", torch.bfloat16):
            found = network(x)
    else:
        network.bfloat16()
        found = network(x.bfloat16())
        weights = list(network.parameters())
    gradients = torch.autograd.grad(found.float().square().sum(), weights)
    assert found.dtype == torch.bfloat16
    assert found.stride() == expected.stride()
    assert (found.float() - expected).norm() <= BFLOAT16 * expected.norm()
    missed = torch.cat([gradient.float().flatten() for gradient in gradients]) - pulled
    assert missed.norm() <= BFLOAT16 * pulled.norm()


@pytest.mark.parametrize("autocast", [True, False])
def test_networks_of_bfloat16_are_mapped_and_differentiated_by_transforms(network: Network, autocast: bool):
    x = torch.rand(2, 3, *event_shapes(network)[0])

    def loss(x: torch.Tensor) -> torch.Tensor:
        return network(x).float().square().sum()

    expected = torch.func.vmap(network)(x), torch.func.vmap(torch.func.grad(loss))(x)
    if not autocast:
        network.bfloat16()
        x = x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = torch.func.vmap(network)(x), torch.func.vmap(torch.func.grad(loss))(x)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.float() - theirs).norm() <= BFLOAT16 * theirs.norm()


def test_networks_are_mapped_without_gradients(network: Network):
    x = torch.rand(2, 3, *event_shapes(network)[0])
    with torch.no_grad():
        found = torch.vmap(network)(x)
        torch.testing.assert_close(found, network(x), rtol=1e-4, atol=1e-5)  # float32 convolutions


def test_gradients_reach_every_parameter(network: Network):
    network(torch.rand(2, *event_shapes(network)[0])).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_only_gates_are_nonlinear(network: Network):
    linear = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Flatten, nn.Unflatten)
    assert all(isinstance(module, linear) for module in network.modules() if not list(module.children()))


def test_convolutional_encoder_has_the_benchmarks_parameters():
    layers = [(1, 32, 25), (32, 32, 25), (32, 64, 25), (64, 64, 25), (64, 64, 25), (64, 256, 49)]
    assert count_parameters(ConvEncoder(MNIST)) == sum(gated_convolution(*layer) for layer in layers)
    layers[-1] = (64, 256, 35)
    assert count_parameters(ConvEncoder(FREY)) == sum(gated_convolution(*layer) for layer in layers)


def test_convolutional_decoder_has_the_benchmarks_parameters():
    # A transposed convolution holds as many weights as a convolution of the same sizes.
    layers = [(64, 64, 49), (64, 64, 25), (64, 32, 25), (32, 32, 25), (32, 32, 25), (32, 32, 25)]
    body = sum(gated_convolution(*layer) for layer in layers)
    assert count_parameters(ConvDecoder(64, MNIST)) == body + (32 + 1)
    layers[0] = (64, 64, 35)
    body = sum(gated_convolution(*layer) for layer in layers)
    head = (32 * 25 + 1) * 256 + (256 + 1) * 256
    assert count_parameters(ConvDecoder(64, FREY, parameters_per_pixel=256)) == body + head


def test_perceptrons_have_the_parameters_of_their_layers():
    assert count_parameters(MLPEncoder(MNIST, (300,), 200)) == 785 * 600 + 301 * 400
    assert count_parameters(MLPDecoder(32, MNIST, (300,), 2)) == 33 * 600 + 301 * 784 * 2


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
    with pytest.raises(InvalidInputError, match=r"Encoder input: expected .* \(\*batch, 1, 28, 28\), got .*shape"):
        NETWORKS[encoder]()(images)


@pytest.mark.parametrize("latents", [torch.randn(2, 5), torch.ones(2, 4, dtype=torch.int64), torch.tensor(1.0)])
def test_wrong_latents_are_refused(latents: torch.Tensor):
    with pytest.raises(InvalidInputError, match=r"MLPDecoder latents: expected .* \(\*batch, 4\)"):
        NETWORKS["mlp-decoder"]()(latents)


@pytest.mark.parametrize(
    ("shape", "halvings"),
    [
        ((1, 8, 8), 0),
        ((1, 9, 2), 1),
        ((1, 28, 28), 2),
        ((1, 28, 20), 2),
        ((3, 32, 32), 2),
        ((3, 33, 8), 3),
        ((1, 1, 64), 3),
    ],
)
def test_pictures_are_halved_until_eight_by_eight_are_left(shape: tuple[int, int, int], halvings: int):
    assert ConvEncoder(shape).num_halvings == ConvDecoder(4, shape).num_halvings == halvings


def test_the_layer_between_feature_map_and_vector_does_not_grow_with_the_picture():
    def count_alike(side: int) -> tuple[int, int]:
        return count_parameters(ConvEncoder((3, side, side))), count_parameters(ConvDecoder(64, (3, side, side)))

    further_halving = gated_convolution(64, 64, 25) * 2
    assert count_alike(64) == tuple(count + further_halving for count in count_alike(32))


@pytest.mark.parametrize("network", [ConvEncoder, partial(ConvDecoder, 4)])
def test_a_picture_is_halved_no_further_than_to_one_pixel(network: partial[ConvDecoder] | type[ConvEncoder]):
    assert network(TINY, num_halvings=3).num_halvings == 3
    for halvings in (-1, 4):
        with pytest.raises(InvalidInputError, match="num_halvings: expected from 0 to 3 for 5 × 5 pixels"):
            network(TINY, num_halvings=halvings)


@pytest.mark.parametrize("network", [ConvEncoder, partial(ConvDecoder, 4)])
@pytest.mark.parametrize("shape", [(13,), (28, 28), (3, 1, 28, 28)])
def test_convolutions_are_for_pictures(network: partial[ConvDecoder] | type[ConvEncoder], shape: tuple[int, ...]):
    with pytest.raises(InvalidInputError, match=r"event_shape: expected \(channels, height, width\).*take MLPEncoder"):
        network(shape)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_built_again_from_their_descriptions(name: str):
    network = NETWORKS[name]()
    again = build(json.loads(json.dumps(describe(network))))
    again.load_state_dict(network.state_dict())
    x = torch.rand(2, *event_shapes(network)[0])
    assert torch.equal(again(x), network(x))


def test_wrong_sizes_are_refused():
    for shape in ((), (28, 0), (True, 28)):
        with pytest.raises(InvalidInputError, match="event_shape: expected"):
            MLPEncoder(shape)
    with pytest.raises(InvalidInputError, match="MLPEncoder width: expected a positive integer, got 0"):
        MLPEncoder(MNIST, hidden_dims=(0,))
    with pytest.raises(InvalidInputError, match="ConvEncoder context_dim: expected a positive integer"):
        ConvEncoder(MNIST, context_dim=0)
    with pytest.raises(InvalidInputError, match="ConvDecoder parameters_per_pixel: expected a positive integer"):
        ConvDecoder(4, MNIST, parameters_per_pixel=0)
