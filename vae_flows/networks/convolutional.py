"""Gated convolutions for pictures of any size: those of the benchmark, with as many halvings as the size asks for.

At 28×28 and 28×20 they are the networks of van den Berg et al. (2018), "Sylvester Normalizing Flows for Variational
Inference", on which FFJORD was measured (Grathwohl et al. 2019, "FFJORD: Free-form Continuous Dynamics for Scalable
Reversible Generative Models"). Larger pictures are halved more often, smaller ones less often, so that the layer
between feature map and vector, which holds most of the weights, does not grow with the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.networks.base import EventDecoder, EventEncoder, require_event_shape
from vae_flows.networks.gates import GatedConv2d, GatedConvTranspose2d
from vae_flows.persistence.configuration import register_class
from vae_flows.tensors.known_values import functorch_is_active

__all__ = ["ConvDecoder", "ConvEncoder"]

COARSEST_SIDE = 8
FINE_CHANNELS, COARSE_CHANNELS = 32, 64
HEAD_CHANNELS = 256
# Pictures of any size were halved twice, before they were halved by their size.
EARLIER_HALVINGS = {"num_halvings": 2}


@register_class("ConvEncoder")
class ConvEncoder(EventEncoder):
    """Gated convolutions that halve pictures, and a last one that sees the whole feature map.

    Layers (in, out, kernel, stride, padding), all gated; for two halvings, as at 28×28: (C, 32, 5, 1, 2),
    (32, 32, 5, 2, 2), (32, 64, 5, 1, 2), (64, 64, 5, 2, 2), (64, 64, 5, 1, 2), (64, context_dim, (H/4, W/4), 1, 0).
    Each further halving is a pair (64, 64, 5, 1, 2), (64, 64, 5, 2, 2). Odd sides are halved upwards.

    Arguments:
        event_shape: `(C, H, W)` of one picture.
        context_dim: Size of the features.
        num_halvings: Number of layers of stride 2; by default the least that leaves at most 8×8.

    Raises:
        InvalidInputError: A size is not positive, or a picture cannot be halved so often.

    Example:
        >>> import torch
        >>> ConvEncoder((1, 28, 28))(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 256])
        >>> ConvEncoder((3, 64, 47)).num_halvings
        3
    """

    earlier_arguments = EARLIER_HALVINGS

    @checked
    def __init__(self, event_shape: Sequence[int], context_dim: int = 256, num_halvings: int | None = None) -> None:
        require_positive("ConvEncoder", context_dim=context_dim)
        shape = channels, height, width = _picture_shape("ConvEncoder", event_shape)
        halvings = _halvings("ConvEncoder", height, width, num_halvings)
        layers: list[nn.Module] = []
        for stage in range(halvings):
            features = _channels(stage)
            layers += [GatedConv2d(channels, features, 5, 1, 2), GatedConv2d(features, features, 5, 2, 2)]
            channels = features
        layers += [
            GatedConv2d(channels, COARSE_CHANNELS, 5, 1, 2),
            GatedConv2d(COARSE_CHANNELS, context_dim, (_halved(height, halvings), _halved(width, halvings)), 1, 0),
        ]
        super().__init__(shape, context_dim, nn.Sequential(*layers))
        self.num_halvings = halvings


@register_class("ConvDecoder")
class ConvDecoder(EventDecoder):
    """Gated transposed convolutions that double a feature map, and a head for the likelihood's parameters.

    Layers (in, out, kernel, stride, padding), all gated; for two doublings, as at 28×28: (latent_dim, 64, (H/4,
    W/4), 1, 0), (64, 64, 5, 1, 2), (64, 32, 5, 2, 2), (32, 32, 5, 1, 2), (32, 32, 5, 2, 2), (32, 32, 5, 1, 2). Each
    further doubling is a pair (64, 64, 5, 2, 2), (64, 64, 5, 1, 2). Doublings have output padding 1 to even sides,
    none to odd ones. The head is a 1×1 convolution to one parameter per pixel, or, for several, a 5×5 convolution to
    256 channels and a 1×1 convolution.

    Arguments:
        latent_dim: Size of the latents.
        event_shape: `(C, H, W)` of one picture.
        parameters_per_pixel: Parameters for each value of a picture, as the likelihood says: 1 for Bernoulli logits,
            the number of grey levels for a categorical likelihood.
        num_halvings: Number of layers of stride 2; by default the least that starts from at most 8×8.

    Raises:
        InvalidInputError: A size is not positive, or a picture cannot be halved so often.

    Example:
        >>> import torch
        >>> ConvDecoder(64, (1, 28, 20), parameters_per_pixel=256)(torch.zeros(2, 64)).shape
        torch.Size([2, 256, 28, 20])
        >>> ConvDecoder(64, (3, 17, 23))(torch.zeros(2, 64)).shape
        torch.Size([2, 3, 17, 23])
    """

    earlier_arguments = EARLIER_HALVINGS

    @checked
    def __init__(
        self,
        latent_dim: int,
        event_shape: Sequence[int],
        parameters_per_pixel: int = 1,
        num_halvings: int | None = None,
    ) -> None:
        require_positive("ConvDecoder", latent_dim=latent_dim, parameters_per_pixel=parameters_per_pixel)
        shape = channels, height, width = _picture_shape("ConvDecoder", event_shape)
        halvings = _halvings("ConvDecoder", height, width, num_halvings)
        # Before the others: the order in which layers are made decides which initial weights follow from a seed.
        head = _head(FINE_CHANNELS if halvings else COARSE_CHANNELS, channels, parameters_per_pixel)
        features = COARSE_CHANNELS
        layers: list[nn.Module] = [
            nn.Unflatten(1, (latent_dim, 1, 1)),
            GatedConvTranspose2d(latent_dim, features, (_halved(height, halvings), _halved(width, halvings)), 1, 0),
            GatedConvTranspose2d(features, features, 5, 1, 2),
        ]
        for stage in reversed(range(halvings)):
            # A side n becomes 2n - 1, or 2n with padding.
            added = (1 - _halved(height, stage) % 2, 1 - _halved(width, stage) % 2)
            finer = _channels(stage - 1)
            layers += [
                GatedConvTranspose2d(features, finer, 5, 2, 2, output_padding=added),
                GatedConvTranspose2d(finer, finer, 5, 1, 2),
            ]
            features = finer
        super().__init__(latent_dim, shape, parameters_per_pixel, _Decoding(*layers, *head))
        self.num_halvings = halvings


class _Decoding(nn.Sequential):
    """The layers of a decoder, between which feature maps lie in memory as is fastest; the result lies as usual."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that nn.Sequential gives it
        for layer in self:
            input = layer(_in_fastest_order(input))  # noqa: A001
        return input.contiguous()


def _in_fastest_order(x: Tensor) -> Tensor:
    """Return feature maps with channels last, where transposed convolutions on a processor take less time so.

    That is without gradients; with them they take more. Transformed and compiled functions keep the usual order, as the
    first cannot have another one, and a program is to run anywhere.
    """
    if x.dim() != 4 or x.device.type != "cpu" or torch.is_grad_enabled():
        return x
    if torch.compiler.is_compiling() or functorch_is_active():
        return x
    return x.contiguous(memory_format=torch.channels_last)


def _head(features: int, channels: int, parameters_per_pixel: int) -> list[nn.Module]:
    outputs = channels * parameters_per_pixel
    if parameters_per_pixel == 1:
        return [nn.Conv2d(features, outputs, 1)]
    return [nn.Conv2d(features, HEAD_CHANNELS, 5, padding=2), nn.Conv2d(HEAD_CHANNELS, outputs, 1)]


def _picture_shape(owner: str, event_shape: Sequence[int]) -> tuple[int, int, int]:
    shape = require_event_shape(f"{owner} event_shape", event_shape)
    if len(shape) != 3:
        remedy = "For data that are no pictures take MLPEncoder and MLPDecoder."
        raise InvalidInputError(complaint(f"{owner} event_shape", "(channels, height, width)", shape, remedy))
    return shape


def _channels(stage: int) -> int:
    """Return the channels of a stage of the encoder, counted from the picture."""
    return FINE_CHANNELS if stage <= 0 else COARSE_CHANNELS


def _halvings(owner: str, height: int, width: int, asked: int | None) -> int:
    most = (max(height, width) - 1).bit_length()  # which leave one pixel
    if asked is not None:
        if not 0 <= asked <= most:
            expected = f"from 0 to {most} for {height} × {width} pixels"
            raise InvalidInputError(complaint(f"{owner} num_halvings", expected, asked))
        return asked
    halvings = 0
    while max(_halved(height, halvings), _halved(width, halvings)) > COARSEST_SIDE:
        halvings += 1
    return halvings


def _halved(side: int, times: int) -> int:
    """Return the side after that many halvings, each of which rounds up: what a stride of 2 makes of it."""
    return -(-side // 2**times)
