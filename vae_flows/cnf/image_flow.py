"""Densities of images by continuous flows, at one scale or at several."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Size, Tensor, nn
from torch.distributions.transforms import ReshapeTransform

from vae_flows.checks import checked
from vae_flows.cnf.convolutions import ConvolutionalDynamics
from vae_flows.cnf.density import ContinuousNormalizingFlow
from vae_flows.cnf.divergence import Divergence
from vae_flows.cnf.regularization import Regularizer
from vae_flows.cnf.settings import SharedSettings
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.ode.solver import ODESolver
from vae_flows.ode.work_counts import WorkCount
from vae_flows.persistence.configuration import register_class
from vae_flows.tensors.shapes import ImageShape, require_image_shape
from vae_flows.transforms.base import FusedTransform
from vae_flows.transforms.chain import ChainTransform
from vae_flows.transforms.partial import PartialTransform
from vae_flows.transforms.permutations import PermutationTransform
from vae_flows.transforms.sigmoid import SigmoidTransform

if TYPE_CHECKING:
    from vae_flows.distributions import DiagonalNormal, FlowDistribution

__all__ = ["ImageFlow", "unsqueezing_order"]


@register_class("ImageFlow")
class ImageFlow(SharedSettings, nn.Module):
    r"""p(x) of images x `(C, H, W)` in (0, 1): a Gaussian carried to them by flows with convolutional dynamics.

    From the image to the noise: logits of the pixels; then at each scale `flows_per_scale` flows, and, but for the last
    scale, a squeeze of 2 × 2 pixels into channels, as many flows again, and half of the channels are factored out: they
    are noise already. With one scale, the flows follow each other alone. The trace is estimated in training mode and in
    evaluation mode alike, for D exact directional derivatives cost too much; `eval_divergence="exact"` is for checks.

    Sources:
        Grathwohl et al. (2019), "FFJORD", section 4.1, for the flows; Dinh et al. (2017), "Density estimation using
        Real NVP", sections 3.6 and 4.1, for scales and logits.

    Arguments:
        image_shape: (C, H, W).
        num_scales: Number of scales; the sides have to be divisible by 2 for each but the last.
        flows_per_scale: Flows in sequence before a squeeze, and after it.
        hidden_channels: Channels of the hidden layers of the dynamics.
        strides: Strides of the dynamics' layers, all 1 by default.
        activation: Activation of the dynamics.
        logit_margin: λ of `SigmoidTransform`; `None` where pixels are real numbers, and need no logits.
        integration_time: T of each flow.
        train_integration_time: Whether each T is learned.
        end_time_jitter: Half the range from which each T is drawn in training.
        divergence: Trace in training mode.
        eval_divergence: Trace in evaluation mode.
        solver: Settings of the solver.
        eval_solver: Settings in evaluation mode; by default the same.
        regularizers: `KineticEnergy` or `JacobianNorm` with their weights; they count in training mode.

    Raises:
        InvalidInputError: An argument out of range, or sides that cannot be halved so often.
        UnknownNameError: An unknown name.

    Example:
        >>> flow = ImageFlow((1, 4, 4), num_scales=2, hidden_channels=(8,))
        >>> density = flow()
        >>> density.log_prob(torch.rand(5, 1, 4, 4)).shape
        torch.Size([5])
        >>> density.sample((3,)).shape
        torch.Size([3, 1, 4, 4])
    """

    @checked
    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        num_scales: int = 1,
        flows_per_scale: int = 1,
        hidden_channels: Sequence[int] = (32, 32),
        strides: Sequence[int] | None = None,
        activation: str = "softplus",
        logit_margin: float | None = 1e-6,
        integration_time: float = 1.0,
        train_integration_time: bool = False,
        end_time_jitter: float = 0.0,
        divergence: str | Divergence = "hutchinson",
        eval_divergence: str | Divergence = "hutchinson",
        solver: ODESolver | None = None,
        eval_solver: ODESolver | None = None,
        regularizers: Sequence[Regularizer] = (),
    ) -> None:
        super().__init__()
        require_positive("ImageFlow", num_scales=num_scales, flows_per_scale=flows_per_scale)
        self.image_shape = require_image_shape("ImageFlow", image_shape)
        self.num_scales = num_scales
        self.flows_per_scale = flows_per_scale
        self.hidden_channels = tuple(hidden_channels)
        self.strides = None if strides is None else tuple(strides)
        self.activation = activation
        self.logit_margin = logit_margin
        self.logits = None if logit_margin is None else SigmoidTransform(self.latent_dim, logit_margin, cache_size=0)
        self.flows = nn.ModuleList(
            ContinuousNormalizingFlow(
                [
                    ConvolutionalDynamics(shape, self.hidden_channels, strides=strides, activation=activation)
                    for _ in range(flows_per_scale)
                ],
                integration_time=integration_time,
                train_integration_time=train_integration_time,
                end_time_jitter=end_time_jitter,
                divergence=divergence,
                eval_divergence=eval_divergence,
                solver=solver,
                eval_solver=eval_solver,
                regularizers=regularizers,
            )
            for scale in _scales(self.image_shape, num_scales)
            for shape in scale
            if shape is not None
        )
        self.train_integration_time = train_integration_time

    @property
    def continuous_flows(self) -> Sequence[ContinuousNormalizingFlow]:
        """Its flows, the one next to the image first."""
        return cast("Sequence[ContinuousNormalizingFlow]", self.flows)

    @property
    def latent_dim(self) -> int:
        """D = C H W."""
        return math.prod(self.image_shape)

    @property
    def last_solve(self) -> WorkCount | None:
        """Work of the latest pass through all flows, `None` before the first."""
        counts = [flow.last_solve for flow in self.continuous_flows]
        found = [count for count in counts if count is not None]
        return WorkCount.total(found) if found else None

    def base(self) -> DiagonalNormal:
        """Return the law of the noise, N(0, I), with event shape `(D,)`."""
        # Imported where laws are made: they are Pyro's distributions, without which the rest of the core does.
        from vae_flows.distributions import DiagonalNormal

        zeros = next(self.parameters()).new_zeros(self.latent_dim)
        return DiagonalNormal(zeros, torch.ones_like(zeros), validate_args=False)

    def transform(self) -> FusedTransform:
        """Return the map from noise to images, both laid out as vectors `(*sample, D)`."""
        flows = iter(self.continuous_flows)
        parts: list[FusedTransform] = [] if self.logits is None else [self.logits]
        for scale in _scales(self.image_shape, self.num_scales):
            parts.append(self._of_all(next(flows).transform()))
            if scale.squeezed is not None:
                parts.append(self._of_all(self._unsqueeze(scale.shape)))
                parts.append(self._of_all(next(flows).transform()))
        return parts[0] if len(parts) == 1 else ChainTransform(parts[::-1])

    def forward(self) -> FlowDistribution:
        """Return the law of x, with event shape `(C, H, W)`."""
        from vae_flows.distributions import FlowDistribution

        as_images = ReshapeTransform(Size((self.latent_dim,)), Size(self.image_shape))
        return FlowDistribution(self.base(), [self.transform(), as_images])

    def extra_repr(self) -> str:
        return f"image_shape={self.image_shape}, num_scales={self.num_scales}, flows_per_scale={self.flows_per_scale}"

    def _of_all(self, part: FusedTransform) -> FusedTransform:
        """Return a transform of what is not factored out yet as one of all coordinates."""
        return part if part.latent_dim == self.latent_dim else PartialTransform(part, self.latent_dim)

    def _unsqueeze(self, shape: ImageShape) -> FusedTransform:
        order = unsqueezing_order(shape).to(next(self.parameters()).device)
        return PermutationTransform(order)


class _Scale(NamedTuple):
    """Shapes of the images at one scale."""

    shape: ImageShape
    squeezed: ImageShape | None  # `None` at the last scale


def _scales(image_shape: ImageShape, num_scales: int) -> Iterator[_Scale]:
    """Yield the scales from the finest on, half of whose channels are factored out after the squeeze."""
    shape = image_shape
    for _ in range(num_scales - 1):
        channels, height, width = shape
        if height % 2 or width % 2:
            expected = f"sides that can be halved {num_scales - 1} times, one time less than there are scales"
            remedy = "Lower num_scales, or crop or pad the images."
            raise InvalidInputError(complaint("ImageFlow image_shape", expected, image_shape, remedy))
        yield _Scale(shape, (4 * channels, height // 2, width // 2))
        shape = (2 * channels, height // 2, width // 2)
    yield _Scale(shape, None)


def unsqueezing_order(shape: ImageShape) -> Tensor:
    """Return where each value of an image, laid out as a vector, lies in the squeezed image, `(C H W,)`.

    A squeeze makes one pixel with 4 C channels of each 2 × 2 pixels.

    Example:
        >>> unsqueezing_order((1, 2, 4))
        tensor([0, 2, 1, 3, 4, 6, 5, 7])
    """
    channels, height, width = shape
    places = torch.arange(math.prod(shape)).view(channels, height // 2, 2, width // 2, 2)
    return places.permute(0, 2, 4, 1, 3).reshape(-1).argsort()
