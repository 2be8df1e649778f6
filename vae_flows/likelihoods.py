"""Likelihoods p(x | z) of images: modules that turn a decoder's output into a distribution.

A likelihood says how many parameters a pixel takes, what its distribution is, and which images it accepts. Binary
images take a Bernoulli, grey images a categorical over their levels: the benchmark's choice for Frey Faces (van den
Berg et al. 2018, "Sylvester Normalizing Flows for Variational Inference"; Grathwohl et al. 2019, "FFJORD").
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn
from torch.distributions import constraints

from vae_flows.checks import checked, described, require_sample_shape
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.persistence.configuration import register_class
from vae_flows.tensors.shapes import broadcasts, check_expanded, is_dense

__all__ = ["BernoulliLikelihood", "CategoricalLikelihood", "GreyLevels", "Likelihood"]


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


class _IndependentPixels(dist.Independent):  # pyright: ignore[reportAttributeAccessIssue]
    """`Independent` that can also sum over the pixels of no images at all."""

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base_dist.log_prob(value).sum(tuple(range(-self.reinterpreted_batch_ndims, 0)))


@register_class("BernoulliLikelihood")
class BernoulliLikelihood(Likelihood):
    r"""Independent Bernoulli pixels given logits: :math:`\log p(x) = \sum_i x_i l_i - \log(1 + e^{l_i})`.

    Values between 0 and 1 are scored by the same formula, the negative binary cross entropy.

    Arguments:
        event_dim: Number of dimensions of one observation; 3 for images `(C, H, W)`, 1 for vectors.

    Example:
        >>> likelihood = BernoulliLikelihood()
        >>> logits, x = torch.zeros(5, 2, 1, 4, 4), torch.ones(2, 1, 4, 4)
        >>> likelihood.log_prob(logits, x).shape, likelihood(logits).mean.shape
        (torch.Size([5, 2]), torch.Size([5, 2, 1, 4, 4]))
    """

    @checked
    def __init__(self, event_dim: int = 3) -> None:
        super().__init__(parameters_per_pixel=1, event_dim=event_dim)

    def forward(self, parameters: Tensor) -> TorchDistribution:
        self.check_parameters(parameters)
        # Unvalidated: Bernoulli refuses values between 0 and 1, and its log_prob is the fused, stable cross entropy.
        pixels = dist.Bernoulli(logits=parameters, validate_args=False)
        return _IndependentPixels(pixels, self.event_dim, validate_args=False)


@register_class("CategoricalLikelihood")
class CategoricalLikelihood(Likelihood):
    """Independent categorical pixels over equidistant grey levels k / (levels - 1), given one logit a level.

    Images hold grey values in [0, 1]; each is scored at its nearest level.

    Arguments:
        levels: Number of grey levels; 256 for 8-bit images.
        event_dim: Number of dimensions of one observation; 3 for images `(C, H, W)`, 1 for vectors.

    Raises:
        InvalidInputError: Fewer than two levels.

    Example:
        >>> likelihood = CategoricalLikelihood(levels=4)
        >>> logits, x = torch.zeros(2, 4, 5, 5), torch.full((2, 1, 5, 5), 1 / 3)
        >>> (likelihood.log_prob(logits, x) / 25).exp()
        tensor([0.2500, 0.2500])
    """

    @checked
    def __init__(self, levels: int = 256, event_dim: int = 3) -> None:
        if levels < 2:
            raise InvalidInputError(complaint("CategoricalLikelihood levels", "an integer above 1", repr(levels)))
        super().__init__(parameters_per_pixel=levels, event_dim=event_dim)
        self.levels = levels

    def forward(self, parameters: Tensor) -> TorchDistribution:
        self.check_parameters(parameters)
        levels, dim = self.parameters_per_pixel, -self.event_dim
        if parameters.shape[dim] % levels:
            raise InvalidInputError(
                complaint(
                    "CategoricalLikelihood parameters",
                    f"a size divisible by {levels} in dimension {dim}",
                    f"shape {tuple(parameters.shape)}",
                    f"Build the decoder with parameters_per_pixel={levels}.",
                )
            )
        return GreyLevels(parameters.unflatten(dim, (-1, levels)), self.event_dim)


class GreyLevels(TorchDistribution):
    """Independent pixels, each one of L equidistant grey levels in [0, 1].

    Arguments:
        logits: Unnormalised log-probabilities `(*batch, C, L, *rest)`; the levels stay where a convolution leaves them,
            since normalising along that dimension is faster than along a transposed last one.
        event_dim: Number of event dimensions, those of `(C, *rest)`.

    Example:
        >>> grey = GreyLevels(torch.zeros(2, 1, 256, 5, 5), event_dim=3)
        >>> grey.batch_shape, grey.event_shape, grey.mean.unique()
        (torch.Size([2]), torch.Size([1, 5, 5]), tensor([0.5000]))
    """

    @checked
    def __init__(self, logits: Tensor, event_dim: int) -> None:
        require_positive("GreyLevels", event_dim=event_dim)
        if not is_dense(logits) or logits.dim() <= event_dim:
            expected = f"a floating-point tensor of more than {event_dim} dimensions"
            raise InvalidInputError(complaint("GreyLevels logits", expected, described(logits)))
        self.logits = logits
        self._level_dim = -event_dim
        split = logits.dim() - event_dim - 1
        event_shape = logits.shape[split : split + 1] + logits.shape[split + 2 :]
        super().__init__(logits.shape[:split], event_shape, validate_args=False)

    @property
    def num_levels(self) -> int:
        """The number of grey levels, L."""
        return self.logits.shape[self._level_dim]

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        return {"logits": constraints.independent(constraints.real, len(self.event_shape) + 1)}

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.unit_interval, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """The expected grey values `(*batch, *event)`."""
        probabilities = self.logits.softmax(self._level_dim).movedim(self._level_dim, -1)
        return probabilities @ torch.linspace(0, 1, self.num_levels).to(self.logits)

    def expand(self, batch_shape: Sequence[int], _instance: GreyLevels | None = None) -> GreyLevels:
        check_expanded("GreyLevels.expand", self.batch_shape, batch_shape)
        own = self.logits.shape[len(self.batch_shape) :]
        return GreyLevels(self.logits.expand(*batch_shape, *own), len(self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Score grey values `(*sample, *batch, *event)` at their nearest levels.

        Raises:
            InvalidInputError: They have another shape or device. Their range is not checked here: the likelihood does.
        """
        if not is_dense(value) or value.device != self.logits.device or not self._takes(value.shape):
            expected = f"grey values of shape {tuple(self.batch_shape + self.event_shape)} on {self.logits.device}"
            raise InvalidInputError(complaint("GreyLevels.log_prob", expected, described(value)))
        index = (value * (self.num_levels - 1)).round().long().unsqueeze(self._level_dim)
        # Half precision is left here: a sum over pixels would keep only its first digits.
        dtype = torch.promote_types(self.logits.dtype, torch.float32)
        log_probabilities = self.logits.log_softmax(self._level_dim, dtype=dtype)
        # The batch dimensions broadcast; expanding after the softmax keeps its cost that of the parameters.
        dims = len(self.event_shape) + 1
        batch = torch.broadcast_shapes(index.shape[:-dims], self.batch_shape)
        picked = log_probabilities.expand(*batch, *self.logits.shape[-dims:]).gather(
            self._level_dim, index.expand(*batch, *index.shape[-dims:])
        )
        return picked.flatten(len(batch)).sum(-1)

    def _takes(self, shape: Size) -> bool:
        dims = len(self.event_shape)
        return shape[len(shape) - dims :] == self.event_shape and broadcasts(
            shape[: len(shape) - dims], self.batch_shape
        )

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw grey values `(*sample_shape, *batch, *event)`."""
        require_sample_shape("GreyLevels.sample", sample_shape)
        with torch.no_grad():
            logits = self.logits.movedim(self._level_dim, -1)
            index = dist.Categorical(logits=logits, validate_args=False).sample(Size(sample_shape))
            return index.to(logits.dtype) / (self.num_levels - 1)
