"""Gated layers h · sigmoid(g): linear maps, convolutions and transposed convolutions.

A gate multiplies features by a sigmoid (Dauphin et al. 2017, "Language Modeling with Gated Convolutional Networks");
there is no other activation.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from vae_flows.checks import checked, described, require_finite
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.tensors.kernels import only_reached_taps
from vae_flows.tensors.shapes import check_last_dimension, check_like, is_dense

__all__ = ["GatedConv2d", "GatedConvTranspose2d", "GatedLinear"]


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
        self.convolution = _Conv2d(in_channels, 2 * out_channels, kernel_size, stride, padding)

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
        output_padding: Rows and columns added at the end, which a stride leaves open: a number, or (rows, columns).

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
        output_padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        _check_convolution("GatedConvTranspose2d", in_channels, out_channels, kernel_size, stride, padding)
        added = (output_padding,) if isinstance(output_padding, int) else output_padding
        if not all(0 <= size < stride for size in added):
            expected = f"at least 0 and less than stride = {stride}"
            raise InvalidInputError(complaint("GatedConvTranspose2d output_padding", expected, output_padding))
        self.convolution = _ConvTranspose2d(in_channels, 2 * out_channels, kernel_size, stride, padding, output_padding)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x (B, in_channels, H, W)` to `(B, out_channels, H', W')`."""
        _check_feature_maps(self, self.convolution, x)
        return F.glu(self.convolution(x), dim=1)


class _Conv2d(nn.Conv2d):
    """A convolution whose weights have their gradients on pictures of any size."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - PyTorch's name
        """Map `input (B, in_channels, H, W)` to `(B, out_channels, H', W')`."""
        padding = cast("tuple[int, int]", self.padding)
        fine = input.shape[2:]
        coarse = [
            (side + 2 * zeros - taps) // step + 1
            for side, zeros, taps, step in zip(fine, padding, self.kernel_size, self.stride, strict=True)
        ]
        weight = only_reached_taps(self.weight, coarse, fine, self.stride, padding)
        return self._conv_forward(input, weight, self.bias)


class _ConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution that adds its bias to the product, and whose weights have their gradients.

    Given the bias, oneDNN takes another kernel for bfloat16 on processors without matrix tiles, and up to four times as
    long (torch 2.14).
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002 - PyTorch's name
        """Map `input (B, in_channels, H, W)` to `(B, out_channels, H', W')`; `output_size` is not taken."""
        padding = cast("tuple[int, int]", self.padding)
        added = cast("tuple[int, int]", self.output_padding)
        coarse = input.shape[2:]
        fine = [
            (side - 1) * step - 2 * zeros + taps + more
            for side, zeros, taps, step, more in zip(coarse, padding, self.kernel_size, self.stride, added, strict=True)
        ]
        weight = only_reached_taps(self.weight, coarse, fine, self.stride, padding)
        product = F.conv_transpose2d(input, weight, stride=self.stride, padding=padding, output_padding=added)
        return product if self.bias is None else product + self.bias.to(product.dtype)[:, None, None]


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
