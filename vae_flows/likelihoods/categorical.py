"""The categorical likelihood of grey levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from vae_flows.checks import checked, described, require_sample_shape
from vae_flows.distributions.validation import ValidatedDistribution
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.likelihoods.base import UNIT_INTERVAL, Likelihood
from vae_flows.likelihoods.registry import register_likelihood
from vae_flows.persistence.configuration import register_class
from vae_flows.tensors.shapes import broadcast_shapes, broadcasts, check_expanded, check_finite, is_dense

__all__ = ["CategoricalLikelihood", "GreyLevels"]


@register_likelihood("categorical")
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
        >>> import torch
        >>> likelihood = CategoricalLikelihood(levels=4)
        >>> logits, x = torch.zeros(2, 4, 5, 5), torch.full((2, 1, 5, 5), 1 / 3)
        >>> (likelihood.log_prob(logits, x) / 25).exp()
        tensor([0.2500, 0.2500])
    """

    support = UNIT_INTERVAL
    is_discrete = True

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
        return GreyLevels(parameters.unflatten(dim, (-1, levels)), self.event_dim, validate_args=False)


class GreyLevels(ValidatedDistribution, TorchDistribution):
    """Independent pixels, each one of L equidistant grey levels in [0, 1].

    Arguments:
        logits: Unnormalised log-probabilities `(*batch, C, L, *rest)`; the levels stay where a convolution leaves them,
            since normalising along that dimension is faster than along a transposed last one.
        event_dim: Number of event dimensions, those of `(C, *rest)`.
        validate_args: As for every distribution of torch.

    Raises:
        InvalidInputError: Logits of another kind or with too few dimensions; where arguments are validated, NaN.

    Example:
        >>> grey = GreyLevels(torch.zeros(2, 1, 256, 5, 5), event_dim=3)
        >>> grey.batch_shape, grey.event_shape, grey.mean.unique()
        (torch.Size([2]), torch.Size([1, 5, 5]), tensor([0.5000]))
    """

    @checked
    def __init__(self, logits: Tensor, event_dim: int, validate_args: bool | None = None) -> None:
        require_positive("GreyLevels", event_dim=event_dim)
        if not is_dense(logits) or logits.dim() <= event_dim:
            expected = f"a floating-point tensor of more than {event_dim} dimensions"
            raise InvalidInputError(complaint("GreyLevels logits", expected, described(logits)))
        self.logits = logits
        self._level_dim = -event_dim
        split = logits.dim() - event_dim - 1
        event_shape = logits.shape[split : split + 1] + logits.shape[split + 2 :]
        super().__init__(logits.shape[:split], event_shape, validate_args=validate_args)

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
        new = GreyLevels(self.logits.expand(*batch_shape, *own), len(self.event_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Score grey values `(*sample, *batch, *event)` at their nearest levels.

        Raises:
            InvalidInputError: They have another shape or device, or lie outside of [0, 1]. On an accelerator that is
                looked at only where arguments are validated, as the likelihood has done it already.
        """
        if not is_dense(value) or value.device != self.logits.device or not self._takes(value.shape):
            expected = f"grey values of shape {tuple(self.batch_shape + self.event_shape)} on {self.logits.device}"
            raise InvalidInputError(complaint("GreyLevels.log_prob", expected, described(value)))
        if self._validate_args:
            self._validate_sample(value)
        index = (value * (self.num_levels - 1)).round().long().unsqueeze(self._level_dim)
        # Half precision is left here: a sum over pixels would keep only its first digits.
        dtype = torch.promote_types(self.logits.dtype, torch.float32)
        log_probabilities = self.logits.log_softmax(self._level_dim, dtype=dtype)
        # The batch dimensions broadcast; expanding after the softmax keeps its cost that of the parameters.
        dims = len(self.event_shape) + 1
        batch = broadcast_shapes(index.shape[:-dims], self.batch_shape)
        log_probabilities = log_probabilities.expand(*batch, *self.logits.shape[-dims:])
        try:
            picked = log_probabilities.gather(self._level_dim, index.expand(*batch, *index.shape[-dims:]))
        except RuntimeError:
            self._validate_sample(value)
            raise
        return picked.flatten(len(batch)).sum(-1)

    def _takes(self, shape: Size) -> bool:
        dims = len(self.event_shape)
        return shape[len(shape) - dims :] == self.event_shape and broadcasts(
            shape[: len(shape) - dims], self.batch_shape
        )

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw grey values `(*sample_shape, *batch, *event)`.

        Raises:
            InvalidInputError: The logits give no probabilities, being NaN or infinite.
        """
        require_sample_shape("GreyLevels.sample", sample_shape)
        shape = self._extended_shape(Size(sample_shape))
        if not shape.numel():
            return self.logits.new_empty(shape)
        with torch.no_grad():
            logits = self.logits.movedim(self._level_dim, -1)
            levels = dist.Categorical(logits=logits, validate_args=False)
            check_finite("probabilities of GreyLevels", levels.probs)
            index = levels.sample(Size(sample_shape))
            return index.to(logits.dtype) / (self.num_levels - 1)
