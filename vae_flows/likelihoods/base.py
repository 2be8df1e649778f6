"""The contract of every likelihood: a module that turns a decoder's output into a distribution."""

from __future__ import annotations

from abc import abstractmethod

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from vae_flows.checks import checked, described
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.tensors.shapes import broadcasts, is_dense

__all__ = ["IndependentValues", "Likelihood"]


class Likelihood(nn.Module):
    """A family of distributions over images, conditioned by a decoder's output.

    `likelihood(parameters)` maps parameters `(*batch, C * parameters_per_pixel, H, W)` to a distribution with batch
    shape `(*batch)` and event shape `(C, H, W)`, whose mean is in [0, 1]. It works as `pyro.sample(..., obs=x)`.

    Arguments:
        parameters_per_pixel: Numbers that the decoder emits for each pixel of each channel.
        event_dim: Number of dimensions of one observation; 3 for images `(C, H, W)`.
    """

    @checked
    def __init__(self, parameters_per_pixel: int, event_dim: int = 3) -> None:
        super().__init__()
        require_positive(type(self).__name__, parameters_per_pixel=parameters_per_pixel, event_dim=event_dim)
        self.parameters_per_pixel = parameters_per_pixel
        self.event_dim = event_dim

    @abstractmethod
    def forward(self, parameters: Tensor) -> TorchDistribution:
        """Return the distribution of images for parameters `(*batch, C * parameters_per_pixel, H, W)`."""

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Return log p(x) in nats, shape `(*sample, *batch)`.

        Arguments:
            parameters: Decoder outputs `(*sample, *batch, C * parameters_per_pixel, H, W)`.
            x: Images `(*batch, C, H, W)`, which broadcast against the parameters. They are not checked here: `check`
                does that, once, where images enter.

        Raises:
            InvalidInputError: The images have another shape than the parameters describe.
        """
        distribution = self(parameters)
        if not is_dense(x) or x.device != parameters.device:
            expected = f"a floating-point tensor on {parameters.device}"
            raise InvalidInputError(complaint(f"{type(self).__name__} images", expected, described(x)))
        batch, event = x.shape[: -self.event_dim], x.shape[-self.event_dim :]
        if event != distribution.event_shape or not broadcasts(batch, distribution.batch_shape):
            raise InvalidInputError(
                complaint(
                    f"{type(self).__name__} images",
                    f"shape (*batch, {', '.join(map(str, distribution.event_shape))}) with *batch of the parameters",
                    f"shape {tuple(x.shape)} for a batch {tuple(distribution.batch_shape)}",
                    "Build the decoder for these images.",
                )
            )
        return distribution.log_prob(x)

    def check(self, x: Tensor) -> None:
        """Check that images can be scored: floating point, finite, in [0, 1].

        Raises:
            InvalidInputError: They cannot; the message says why and what to do.
        """
        name = f"{type(self).__name__} images"
        if not is_dense(x):
            remedy = "Scale them: x.float() / 255 for 8-bit images."
            expected = "a floating-point tensor with values in [0, 1]"
            raise InvalidInputError(complaint(name, expected, described(x), remedy))
        if x.numel() == 0 or x.is_meta:
            return
        low, high = torch.stack(torch.aminmax(x)).tolist()  # NaN propagates into both; one transfer from the device
        if not (low >= 0 and high <= 1):
            remedy = "Scale the images to [0, 1], and look for NaN and infinities."
            raise InvalidInputError(complaint(name, "finite values in [0, 1]", f"values from {low} to {high}", remedy))

    def check_parameters(self, parameters: Tensor) -> None:
        """Check that a decoder's output is a floating-point tensor with the dimensions of an observation.

        Raises:
            InvalidInputError: It is not.
        """
        if not is_dense(parameters) or parameters.dim() < self.event_dim:
            expected = f"a floating-point tensor of {self.event_dim} dimensions or more"
            raise InvalidInputError(complaint(f"{type(self).__name__} parameters", expected, described(parameters)))

    def extra_repr(self) -> str:
        return f"parameters_per_pixel={self.parameters_per_pixel}, event_dim={self.event_dim}"


class IndependentValues(dist.Independent):  # pyright: ignore[reportAttributeAccessIssue]
    """`Independent` that can also sum over the values of no observations at all."""

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base_dist.log_prob(value).sum(tuple(range(-self.reinterpreted_batch_ndims, 0)))
