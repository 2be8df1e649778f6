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

from vae_flows.checks import checked, described, require_finite
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.persistence.configuration import register_class
from vae_flows.tensors.shapes import check_last_dimension, check_like, is_dense

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

    @checked
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        require_positive("GatedLinear", in_features=in_features, out_features=out_features)
        self.linear = nn.Linear(in_features, 2 * out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x (*batch, in_features)` to `(*batch, out_features)`."""
        check_last_dimension("GatedLinear input", x, self.linear.in_features)
        check_like("GatedLinear input", x, self)
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

    @checked
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__()
        _check_convolution("GatedConv2d", in_channels, out_channels, kernel_size, stride, padding)
        self.convolution = nn.Conv2d(in_channels, 2 * out_channels, kernel_size, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x (B, in_channels, H, W)` to `(B, out_channels, H', W')`."""
        _check_feature_maps(self, self.convolution, x)
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

    @checked
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
        _check_convolution("GatedConvTranspose2d", in_channels, out_channels, kernel_size, stride, padding)
        if not 0 <= output_padding < stride:
            raise InvalidInputError(
                complaint(
                    "GatedConvTranspose2d output_padding", f"at least 0 and less than stride = {stride}", output_padding
                )
            )
        self.convolution = nn.ConvTranspose2d(
            in_channels, 2 * out_channels, kernel_size, stride, padding, output_padding
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `x (B, in_channels, H, W)` to `(B, out_channels, H', W')`."""
        _check_feature_maps(self, self.convolution, x)
        return F.glu(self.convolution(x), dim=1)


def _check_convolution(
    owner: str, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int], stride: int, padding: int
) -> None:
    require_positive(owner, in_channels=in_channels, out_channels=out_channels, stride=stride)
    sides = (kernel_size,) if isinstance(kernel_size, int) else kernel_size
    require_positive(owner, **{f"kernel_size[{place}]": side for place, side in enumerate(sides)})
    require_finite(owner, at_least=0, padding=padding)


def _check_feature_maps(layer: nn.Module, convolution: nn.Conv2d | nn.ConvTranspose2d, x: Tensor) -> None:
    subject = f"{type(layer).__name__} input"
    if not is_dense(x) or x.dim() != 4 or x.shape[1] != convolution.in_channels:
        expected = f"a floating-point tensor of shape (B, {convolution.in_channels}, H, W)"
        raise InvalidInputError(complaint(subject, expected, described(x)))
    check_like(subject, x, layer)


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
        if not is_dense(x) or tuple(x.shape[-3:]) != self.image_shape:
            raise InvalidInputError(
                complaint(
                    f"{type(self).__name__} images",
                    f"a floating-point tensor of shape (*batch, {', '.join(map(str, self.image_shape))})",
                    described(x),
                    "image_shape is (channels, height, width) of one image.",
                )
            )
        check_like(f"{type(self).__name__} images", x, self)
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
        subject = f"{type(self).__name__} latents"
        check_last_dimension(subject, z, self.latent_dim, "latent_dim must be that of the posterior.")
        check_like(subject, z, self)
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

    @checked
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

    @checked
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

    @checked
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

    @checked
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
