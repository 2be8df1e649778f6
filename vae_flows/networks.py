"""Encoders and decoders with gated layers: the benchmark's convolutional pair and multilayer perceptrons.

The convolutional networks are those of van den Berg et al. (2018), "Sylvester Normalizing Flows for Variational
Inference", on which FFJORD was measured (Grathwohl et al. 2019, "FFJORD: Free-form Continuous Dynamics for Scalable
Reversible Generative Models"). A gate multiplies features by a sigmoid (Dauphin et al. 2017, "Language Modeling with
Gated Convolutional Networks"); there is no other activation.

Encoders map images `(*batch, C, H, W)` to features `(*batch, context_dim)`; decoders map latents `(*batch, latent_dim)`
to parameters `(*batch, C * parameters_per_pixel, H, W)`, of which those of one colour channel are neighbours: reshape
to `(*batch, C, parameters_per_pixel, H, W)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from vae_flows.configuration import register_class
from vae_flows.errors import InvalidInputError, complaint, require_positive

__all__ = [
    "ConvDecoder",
    "ConvEncoder",
    "GatedConv2d",
    "GatedConvTranspose2d",
    "GatedLinear",
    "MLPDecoder",
    "MLPEncoder",
]

ImageShape = tuple[int, int, int]


class GatedLinear(nn.Module):
    """The gated layer h · sigmoid(g), where one linear map of the input gives both h and g.

    Arguments:
        in_features: Size of the input vectors.
        out_features: Size of the output vectors.

    Example:
        >>> import torch
        >>> GatedLinear(3, 5)(torch.zeros(2, 3)).shape
        torch.Size([2, 5])
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, 2 * out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x (*batch, in_features)` to `(*batch, out_features)`."""
        return F.glu(self.linear(x), dim=-1)


class GatedConv2d(nn.Module):
    """The gated layer h · sigmoid(g), where one convolution of the input gives both h and g.

    Arguments:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel, or (height, width).
        stride: Step of the kernel.
        padding: Zeros added on every side.

    Example:
        >>> import torch
        >>> GatedConv2d(1, 4, kernel_size=5, stride=2, padding=2)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 4, 4, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, 2 * out_channels, kernel_size, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x (B, in_channels, H, W)` to `(B, out_channels, H', W')`."""
        return F.glu(self.convolution(x), dim=1)


class GatedConvTranspose2d(nn.Module):
    """The gated layer h · sigmoid(g), where one transposed convolution of the input gives both h and g.

    Arguments:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel, or (height, width).
        stride: Step by which the output is finer than the input.
        padding: Zeros left out on every side.
        output_padding: Rows and columns added at the end, which a stride leaves open.

    Example:
        >>> import torch
        >>> layer = GatedConvTranspose2d(4, 1, kernel_size=5, stride=2, padding=2, output_padding=1)
        >>> layer(torch.zeros(2, 4, 4, 4)).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int = 1,
        padding: int = 0,
        output_padding: int = 0,
    ) -> None:
        super().__init__()
        self.convolution = nn.ConvTranspose2d(
            in_channels, 2 * out_channels, kernel_size, stride, padding, output_padding
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `x (B, in_channels, H, W)` to `(B, out_channels, H', W')`."""
        return F.glu(self.convolution(x), dim=1)


class _ImageEncoder(nn.Module):
    """What encoders share: the check of the images, and batch shapes of any length."""

    def __init__(self, image_shape: ImageShape, context_dim: int, body: nn.Module) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.context_dim = context_dim
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Map images `x (*batch, C, H, W)` to features `(*batch, context_dim)`.

        Raises:
            InvalidInputError: The images have another shape, or are not floating point.
        """
        if not x.is_floating_point() or tuple(x.shape[-3:]) != self.image_shape:
            raise InvalidInputError(
                complaint(
                    f"{type(self).__name__} images",
                    f"a floating-point tensor of shape (*batch, {', '.join(map(str, self.image_shape))})",
                    f"{x.dtype} of shape {tuple(x.shape)}",
                    "image_shape is (channels, height, width) of one image.",
                )
            )
        batch = x.shape[:-3]
        return self.body(x.reshape(-1, *self.image_shape)).reshape(*batch, self.context_dim)


class _ImageDecoder(nn.Module):
    """What decoders share: the check of the latents, and batch shapes of any length."""

    def __init__(self, latent_dim: int, image_shape: ImageShape, parameters_per_pixel: int, body: nn.Module) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.image_shape = image_shape
        self.parameters_per_pixel = parameters_per_pixel
        self.body = body

    def forward(self, z: Tensor) -> Tensor:
        """Map latents `z (*batch, latent_dim)` to likelihood parameters `(*batch, C * parameters_per_pixel, H, W)`.

        Raises:
            InvalidInputError: The latents have another size, or are not floating point.
        """
        if not z.is_floating_point() or z.dim() == 0 or z.shape[-1] != self.latent_dim:
            raise InvalidInputError(
                complaint(
                    f"{type(self).__name__} latents",
                    f"a floating-point tensor of shape (*batch, {self.latent_dim})",
                    f"{z.dtype} of shape {tuple(z.shape)}",
                    "latent_dim must be that of the posterior.",
                )
            )
        channels, height, width = self.image_shape
        parameters = self.body(z.reshape(-1, self.latent_dim))
        return parameters.reshape(*z.shape[:-1], channels * self.parameters_per_pixel, height, width)


@register_class("ConvEncoder")
class ConvEncoder(_ImageEncoder):
    """The benchmark's encoder: six gated convolutions, the last of which sees the whole feature map.

    Layers (in, out, kernel, stride, padding), all gated: (C, 32, 5, 1, 2), (32, 32, 5, 2, 2), (32, 64, 5, 1, 2),
    (64, 64, 5, 2, 2), (64, 64, 5, 1, 2), (64, context_dim, (H/4, W/4), 1, 0).

    Arguments:
        image_shape: (C, H, W) of one image, H and W divisible by 4.
        context_dim: Size of the features.

    Raises:
        InvalidInputError: A size is not positive, or a side is not divisible by 4.

    Example:
        >>> import torch
        >>> ConvEncoder((1, 28, 28))(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 256])
    """

    def __init__(self, image_shape: Sequence[int], context_dim: int = 256) -> None:
        require_positive("ConvEncoder", context_dim=context_dim)
        shape = channels, height, width = _checked_shape("ConvEncoder", image_shape, divisor=4)
        body = nn.Sequential(
            GatedConv2d(channels, 32, 5, 1, 2),
            GatedConv2d(32, 32, 5, 2, 2),
            GatedConv2d(32, 64, 5, 1, 2),
            GatedConv2d(64, 64, 5, 2, 2),
            GatedConv2d(64, 64, 5, 1, 2),
            GatedConv2d(64, context_dim, (height // 4, width // 4), 1, 0),
        )
        super().__init__(shape, context_dim, body)


@register_class("ConvDecoder")
class ConvDecoder(_ImageDecoder):
    """The benchmark's decoder: six gated transposed convolutions and a head for the likelihood's parameters.

    Layers (in, out, kernel, stride, padding), all gated, those of stride 2 with output padding 1:
    (latent_dim, 64, (H/4, W/4), 1, 0), (64, 64, 5, 1, 2), (64, 32, 5, 2, 2), (32, 32, 5, 1, 2), (32, 32, 5, 2, 2),
    (32, 32, 5, 1, 2). The head is a 1×1 convolution to one parameter a pixel, or, for several, a 5×5 convolution to 256
    channels and a 1×1 convolution.

    Arguments:
        latent_dim: Size of the latents.
        image_shape: (C, H, W) of one image, H and W divisible by 4.
        parameters_per_pixel: 1 for Bernoulli logits, the number of grey levels for a categorical likelihood.

    Raises:
        InvalidInputError: A size is not positive, or a side is not divisible by 4.

    Example:
        >>> import torch
        >>> ConvDecoder(64, (1, 28, 20), parameters_per_pixel=256)(torch.zeros(2, 64)).shape
        torch.Size([2, 256, 28, 20])
    """

    def __init__(self, latent_dim: int, image_shape: Sequence[int], parameters_per_pixel: int = 1) -> None:
        require_positive("ConvDecoder", latent_dim=latent_dim, parameters_per_pixel=parameters_per_pixel)
        shape = channels, height, width = _checked_shape("ConvDecoder", image_shape, divisor=4)
        outputs = channels * parameters_per_pixel
        head = (
            [nn.Conv2d(32, outputs, 1)]
            if parameters_per_pixel == 1
            else [nn.Conv2d(32, 256, 5, padding=2), nn.Conv2d(256, outputs, 1)]
        )
        body = nn.Sequential(
            nn.Unflatten(1, (latent_dim, 1, 1)),
            GatedConvTranspose2d(latent_dim, 64, (height // 4, width // 4), 1, 0),
            GatedConvTranspose2d(64, 64, 5, 1, 2),
            GatedConvTranspose2d(64, 32, 5, 2, 2, output_padding=1),
            GatedConvTranspose2d(32, 32, 5, 1, 2),
            GatedConvTranspose2d(32, 32, 5, 2, 2, output_padding=1),
            GatedConvTranspose2d(32, 32, 5, 1, 2),
            *head,
        )
        super().__init__(latent_dim, shape, parameters_per_pixel, body)


@register_class("MLPEncoder")
class MLPEncoder(_ImageEncoder):
    """Gated linear layers from flattened images to features.

    Arguments:
        image_shape: (C, H, W) of one image.
        hidden_dims: Widths of the layers before the one that emits the features.
        context_dim: Size of the features.

    Raises:
        InvalidInputError: A size is not positive.

    Example:
        >>> import torch
        >>> MLPEncoder((1, 28, 28), hidden_dims=(300,), context_dim=300)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 300])
    """

    def __init__(
        self, image_shape: Sequence[int], hidden_dims: Sequence[int] = (300, 300), context_dim: int = 256
    ) -> None:
        shape = _checked_shape("MLPEncoder", image_shape)
        layers = _gated_layers("MLPEncoder", [math.prod(shape), *hidden_dims, context_dim])
        super().__init__(shape, context_dim, nn.Sequential(nn.Flatten(), *layers))
        self.hidden_dims = tuple(hidden_dims)


@register_class("MLPDecoder")
class MLPDecoder(_ImageDecoder):
    """Gated linear layers from latents, and a linear layer to the likelihood's parameters.

    Arguments:
        latent_dim: Size of the latents.
        image_shape: (C, H, W) of one image.
        hidden_dims: Widths of the gated layers.
        parameters_per_pixel: 1 for Bernoulli logits, the number of grey levels for a categorical likelihood.

    Raises:
        InvalidInputError: A size is not positive.

    Example:
        >>> import torch
        >>> MLPDecoder(32, (1, 28, 28), hidden_dims=(300,))(torch.zeros(2, 32)).shape
        torch.Size([2, 1, 28, 28])
    """

    def __init__(
        self,
        latent_dim: int,
        image_shape: Sequence[int],
        hidden_dims: Sequence[int] = (300, 300),
        parameters_per_pixel: int = 1,
    ) -> None:
        require_positive("MLPDecoder", parameters_per_pixel=parameters_per_pixel)
        shape = _checked_shape("MLPDecoder", image_shape)
        widths = [latent_dim, *hidden_dims]
        layers = _gated_layers("MLPDecoder", widths)
        head = nn.Linear(widths[-1], math.prod(shape) * parameters_per_pixel)
        super().__init__(latent_dim, shape, parameters_per_pixel, nn.Sequential(*layers, head))
        self.hidden_dims = tuple(hidden_dims)


def _gated_layers(owner: str, widths: Sequence[int]) -> list[nn.Module]:
    for width in widths:
        require_positive(owner, width=width)
    return [GatedLinear(before, after) for before, after in pairwise(widths)]


def _checked_shape(owner: str, image_shape: Sequence[int], divisor: int = 1) -> ImageShape:
    shape = tuple(image_shape)
    if len(shape) != 3 or not all(isinstance(size, int) and size > 0 for size in shape):
        raise InvalidInputError(complaint(f"{owner} image_shape", "(channels, height, width)", repr(image_shape)))
    if shape[1] % divisor or shape[2] % divisor:
        raise InvalidInputError(
            complaint(
                f"{owner} image_shape",
                f"height and width divisible by {divisor}",
                f"{shape[1]} × {shape[2]}",
                "Pad the images, or use the MLP networks.",
            )
        )
    return shape
