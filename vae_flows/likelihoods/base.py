"""The contract of every likelihood: a module that turns a decoder's output into a distribution."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn

from vae_flows.checks import checked, described, require_sample_shape
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.tensors.shapes import broadcasts, check_finite, is_dense

__all__ = ["COUNTS", "REAL", "UNIT_INTERVAL", "IndependentValues", "Likelihood", "Support"]


class Support(NamedTuple):
    """The values that a likelihood has a probability for: finite ones between two bounds."""

    expected: str
    remedy: str
    low: float = -math.inf
    high: float = math.inf
    integers: bool = False

    def has(self, x: Tensor) -> bool:
        """Whether all values are in it; one transfer from the device."""
        low, high = torch.stack(torch.aminmax(x)).tolist()  # NaN propagates into both
        is_between = math.isfinite(low) and math.isfinite(high) and self.low <= low and high <= self.high
        return is_between and not (self.integers and bool((x != x.round()).any()))

    def first_outside(self, x: Tensor) -> str:
        """Describe the first value that is not in it, and where it is."""
        outside = ~(torch.isfinite(x) & (x >= self.low) & (x <= self.high))
        if self.integers:
            outside |= x != x.round()
        index = tuple(outside.nonzero()[0].tolist())
        return f"{x[index].item()} at {index}"


REAL = Support("finite values", "Look for NaN and infinities.")
UNIT_INTERVAL = Support(
    "finite values in [0, 1]", "Scale the images to [0, 1], and look for NaN and infinities.", 0.0, 1.0
)
COUNTS = Support("counts 0, 1, 2, …", "Give the counts themselves, not scaled.", 0.0, integers=True)


class Likelihood(nn.Module):
    """A family of distributions over images or other values, conditioned by a decoder's output.

    `likelihood(parameters)` maps parameters `(*batch, C * parameters_per_pixel, H, W)` to a distribution with batch
    shape `(*batch)` and event shape `(C, H, W)`. It works as `pyro.sample(..., obs=x)`.

    Arguments:
        parameters_per_pixel: Numbers that the decoder emits for each pixel of each channel.
        event_dim: Number of dimensions of one observation; 3 for images `(C, H, W)`.
    """

    support: ClassVar[Support] = REAL
    is_discrete: ClassVar[bool] = False
    """Whether `log_prob` is of probabilities rather than of a density."""

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
                does that, once, where data enter.

        Raises:
            InvalidInputError: The values have another shape than the parameters describe.
        """
        distribution = self(parameters)
        if not is_dense(x) or x.device != parameters.device:
            expected = f"a floating-point tensor on {parameters.device}"
            raise InvalidInputError(complaint(f"{type(self).__name__} values", expected, described(x)))
        batch, event = x.shape[: -self.event_dim], x.shape[-self.event_dim :]
        if event != distribution.event_shape or not broadcasts(batch, distribution.batch_shape):
            raise InvalidInputError(
                complaint(
                    f"{type(self).__name__} values",
                    f"shape (*batch, {', '.join(map(str, distribution.event_shape))}) with *batch of the parameters",
                    f"shape {tuple(x.shape)} for a batch {tuple(distribution.batch_shape)}",
                    "Build the decoder for these data.",
                )
            )
        return distribution.log_prob(x)

    def mean(self, parameters: Tensor) -> Tensor:
        """Return the mean of p(x | z), `(*batch, C, H, W)`."""
        return self(parameters).mean

    def sample(self, parameters: Tensor, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw observations `(*sample_shape, *batch, C, H, W)` from p(x | z).

        Raises:
            InvalidInputError: The decoder's output is not finite.
        """
        self.check_parameters(parameters)
        check_finite(f"{type(self).__name__} parameters", parameters)
        require_sample_shape(f"{type(self).__name__}.sample", sample_shape)
        return self(parameters).sample(Size(sample_shape))

    @checked
    def log_bin_size(self, levels: int) -> float:
        """Return log of the size of the bin of a value that is one of `levels` equidistant ones in [0, 1].

        Where data are such levels k / (levels - 1), as those of `vae_flows.data.Images` are, the density of a value
        times the bin 1 / (levels - 1) stands for its probability. A likelihood that `is_discrete` has probabilities
        already, and the bin counts nothing. Evaluation tells bits per dimension by it.

        Arguments:
            levels: Number of levels; 256 for 8-bit images.

        Returns:
            −log(levels − 1) in nats for densities, 0 for probabilities.

        Raises:
            InvalidInputError: Fewer than two levels.
        """
        if levels < 2:
            subject = f"{type(self).__name__}.log_bin_size levels"
            raise InvalidInputError(complaint(subject, "an integer above 1", repr(levels)))
        return 0.0 if self.is_discrete else -math.log(levels - 1)

    def check(self, x: Tensor) -> None:
        """Check that values can be scored: floating point, and in the likelihood's support.

        Raises:
            InvalidInputError: They cannot; the message names the first that is outside, where it is, and what to do.
        """
        name = f"{type(self).__name__} values"
        if not is_dense(x):
            scaled = self.support is UNIT_INTERVAL
            remedy = "Scale them: x.float() / 255 for 8-bit images." if scaled else "Convert them: x.float()."
            expected = f"a floating-point tensor with {self.support.expected.removeprefix('finite ')}"
            raise InvalidInputError(complaint(name, expected, described(x), remedy))
        if x.numel() == 0 or x.is_meta:
            return
        if not self.support.has(x):
            got = self.support.first_outside(x)
            raise InvalidInputError(complaint(name, self.support.expected, got, self.support.remedy))

    def split(self, parameters: Tensor) -> tuple[Tensor, ...]:
        """Return the parameters of each value apart, each `(*batch, C, H, W)` and of single precision or more.

        Raises:
            InvalidInputError: The size of the decoder's output is no multiple of `parameters_per_pixel`.
        """
        self.check_parameters(parameters)
        count, dim = self.parameters_per_pixel, -self.event_dim
        if parameters.shape[dim] % count:
            name, got = f"{type(self).__name__} parameters", f"shape {tuple(parameters.shape)}"
            remedy = f"Build the decoder with parameters_per_pixel={count}."
            raise InvalidInputError(complaint(name, f"a size divisible by {count} in dimension {dim}", got, remedy))
        # Half precision is left here: a sum over values would keep only its first digits.
        wide = parameters.to(torch.promote_types(parameters.dtype, torch.float32))
        return wide.unflatten(dim, (-1, count)).unbind(dim)

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
