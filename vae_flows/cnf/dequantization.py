r"""From levels to real numbers and back: densities of quantised images by a continuous flow.

A density p(y) over :math:`[0, 1]^D` gives the level k of each pixel, of L levels, the probability of the cell
:math:`[k/L, (k+1)/L)^D`. Noise q(y | x) within the cell of x gives a lower bound of it, as an approximate posterior
does: :math:`\log P(x) \ge E_q[\log p(y) - \log q(y \mid x)]` (Theis et al. 2016, section 3.1; Ho et al. 2019, section
3.1).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vae_flows.checks import checked, described, require_sample_shape
from vae_flows.cnf.image_flow import ImageFlow
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.ode.work_counts import WorkCount
from vae_flows.persistence.configuration import register_class
from vae_flows.tensors.known_values import known
from vae_flows.tensors.shapes import is_dense, require_image_shape

__all__ = [
    "Dequantization",
    "Dequantized",
    "QuantizedDensity",
    "QuantizedEvaluation",
    "UniformDequantization",
    "VariationalDequantization",
]

_UNIFORM_SCALE = 1.6  # of a logistic-normal density that is about uniform
_ROUNDING = 1e-3  # of k / (L − 1) in single precision, in levels
_SMALLEST_SCALE = 1e-3


class Dequantized(NamedTuple):
    """A draw of y within the cells of images.

    Arguments:
        y: `(N, C, H, W)`, in (0, 1).
        log_q: log q(y | x) in nats, `(N,)`.
    """

    y: Tensor
    log_q: Tensor


class Dequantization(nn.Module, ABC):
    """The law q(y | x) of real numbers y within the cell of each pixel of x.

    Arguments:
        levels: L, the number of levels of a pixel.

    Raises:
        InvalidInputError: There are fewer than two.
    """

    @checked
    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        if levels < 2:
            raise InvalidInputError(complaint(f"{type(self).__name__} levels", "an integer of at least 2", levels))
        self.levels = levels

    def forward(self, images: Tensor) -> Dequantized:
        """Draw y = (k + u) / L for `images (N, C, H, W)` with pixels k / (L − 1).

        Raises:
            InvalidInputError: A pixel has none of the levels.
        """
        level = self._level(images)
        shares, log_q = self.noise(images)
        return Dequantized((level + shares) / self.levels, log_q + images.shape[1:].numel() * math.log(self.levels))

    @abstractmethod
    def noise(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Draw u in (0, 1), of the shape of the images, and return it with log q(u | x), `(N,)`."""

    def quantize(self, y: Tensor) -> Tensor:
        """Return the images in whose cells y lies; what lies outside of [0, 1] becomes black or white.

        Example:
            >>> UniformDequantization(levels=2).quantize(torch.tensor([0.2, 0.7]))
            tensor([0., 1.])
        """
        if not is_dense(y):
            subject = f"y of {type(self).__name__}.quantize"
            raise InvalidInputError(complaint(subject, "a floating-point tensor", described(y)))
        return (y * self.levels).floor().clamp(0, self.levels - 1) / (self.levels - 1)

    def _level(self, images: Tensor) -> Tensor:
        if not is_dense(images) or images.dim() != 4:
            expected = "a floating-point tensor (N, C, H, W)"
            raise InvalidInputError(complaint(f"images of {type(self).__name__}", expected, described(images)))
        scaled = images * (self.levels - 1)
        level = scaled.round()
        wrong = ~((scaled - level).abs() <= _ROUNDING) | (level < 0) | (level >= self.levels)
        if known(wrong.any()):
            expected = f"pixels of {self.levels} levels between 0 and 1"
            got = f"a pixel of {images[wrong][0].item():.6g}"
            remedy = "Give the data's number of levels."
            raise InvalidInputError(complaint(f"images of {type(self).__name__}", expected, got, remedy))
        return level

    def extra_repr(self) -> str:
        return f"levels={self.levels}"


@register_class("UniformDequantization")
class UniformDequantization(Dequantization):
    """Uniform noise: q(y | x) is constant on the cell of x (Uria et al. 2013; Theis et al. 2016).

    Arguments:
        levels: L.

    Example:
        >>> y, log_q = UniformDequantization(levels=2)(torch.ones(3, 1, 2, 2))
        >>> bool((y >= 0.5).all()), log_q.exp()
        (True, tensor([16., 16., 16.]))
    """

    def noise(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return torch.rand_like(images), images.new_zeros(len(images))


@register_class("VariationalDequantization")
class VariationalDequantization(Dequantization):
    r"""Learned noise: u = σ(m + s ε), with m and s of each pixel from convolutions over the image.

    It bounds log P(x) more tightly than uniform noise can (Ho et al. 2019, "Flow++", section 3.1, whose noise is a
    deeper flow). Fresh, it is about uniform: m = 0 and s = 1.6.

    Arguments:
        image_shape: (C, H, W).
        levels: L.
        hidden_channels: Channels of both hidden layers.

    Raises:
        InvalidInputError: An argument is out of range.

    Example:
        >>> noise = VariationalDequantization((1, 4, 4))
        >>> y, log_q = noise(torch.ones(3, 1, 4, 4))
        >>> y.shape, log_q.shape
        (torch.Size([3, 1, 4, 4]), torch.Size([3]))
    """

    @checked
    def __init__(self, image_shape: Sequence[int], levels: int = 256, hidden_channels: int = 32) -> None:
        super().__init__(levels)
        require_positive("VariationalDequantization", hidden_channels=hidden_channels)
        self.image_shape = require_image_shape("VariationalDequantization", image_shape)
        self.hidden_channels = hidden_channels
        channels = self.image_shape[0]
        last = nn.Conv2d(hidden_channels, 2 * channels, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.network = nn.Sequential(
            nn.Conv2d(channels, hidden_channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(hidden_channels, hidden_channels, 3, padding=1),
            nn.SiLU(),
            last,
        )

    def noise(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if images.shape[1:] != self.image_shape:
            expected = f"images (N, {', '.join(map(str, self.image_shape))})"
            raise InvalidInputError(complaint("VariationalDequantization images", expected, described(images)))
        loc, raw = self.network(2 * images - 1).chunk(2, 1)
        scale = _UNIFORM_SCALE * F.softplus(raw + math.log(math.e - 1)) + _SMALLEST_SCALE
        draw = torch.randn_like(loc)
        logits = loc + scale * draw
        log_normal = -0.5 * (draw.square() + math.log(2 * math.pi)) - scale.log()
        log_slope = F.logsigmoid(logits) + F.logsigmoid(-logits)
        return torch.sigmoid(logits), (log_normal - log_slope).flatten(1).sum(1)


class QuantizedEvaluation(NamedTuple):
    """What one evaluation of quantised images has found.

    Arguments:
        bound: A draw of the lower bound of log P(x), in nats, `(N,)`.
        bits_per_dim: The same as an upper bound of −log₂ P(x) / D, `(N,)`.
        regularization: What the evaluation adds to the loss, `(N,)`; `None` for nothing.
        work: What the solves have cost.
    """

    bound: Tensor
    bits_per_dim: Tensor
    regularization: Tensor | None
    work: WorkCount | None


@register_class("QuantizedDensity")
class QuantizedDensity(nn.Module):
    r"""P(x) of images with L levels a pixel, by a flow p(y) over real numbers and noise q(y | x).

    Arguments:
        flow: p(y), with y in (0, 1).
        dequantization: q(y | x); uniform noise and 256 levels by default.

    Raises:
        InvalidInputError: The flow has no logits, so that y would be any real number, or the shapes differ.

    Example:
        >>> density = QuantizedDensity(ImageFlow((1, 4, 4), hidden_channels=(8,)), UniformDequantization(levels=2))
        >>> found = density(torch.ones(5, 1, 4, 4))
        >>> found.bits_per_dim.shape
        torch.Size([5])
        >>> found.bits_per_dim.mean().backward()
        >>> density.sample(3).unique().tolist()
        [0.0, 1.0]
    """

    @checked
    def __init__(self, flow: ImageFlow, dequantization: Dequantization | None = None) -> None:
        super().__init__()
        if flow.logits is None:
            raise InvalidInputError(
                complaint("QuantizedDensity flow", "an ImageFlow with a logit_margin", "one of any real numbers")
            )
        self.flow = flow
        self.dequantization = UniformDequantization() if dequantization is None else dequantization
        shape = getattr(self.dequantization, "image_shape", flow.image_shape)
        if shape != flow.image_shape:
            expected = f"noise for images of shape {flow.image_shape}, as the flow's"
            raise InvalidInputError(complaint("QuantizedDensity dequantization", expected, shape))

    def forward(self, images: Tensor) -> QuantizedEvaluation:
        """Draw the bound of `images (N, C, H, W)` with pixels k / (L − 1).

        Raises:
            InvalidInputError: Images of another shape, or with other levels.
        """
        shape = self.flow.image_shape
        if not isinstance(images, Tensor) or images.shape[1:] != shape:
            expected = f"images (N, {', '.join(map(str, shape))})"
            raise InvalidInputError(complaint("QuantizedDensity images", expected, described(images)))
        y, log_q = self.dequantization(images)
        found = self.flow().evaluate(y)
        bound = found.log_q - log_q
        bits = -bound / (self.flow.latent_dim * math.log(2))
        return QuantizedEvaluation(bound, bits, found.regularization, found.work)

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        """Draw images, `(count, C, H, W)`, with pixels k / (L − 1)."""
        require_sample_shape("QuantizedDensity count", (count,))
        return self.dequantization.quantize(self.flow().sample((count,)))
