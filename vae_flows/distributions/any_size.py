"""Validation of values, which may be empty, in the library's words."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution

from vae_flows.checks import described
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.shapes import is_dense

__all__ = ["OfAnySize", "told_in_own_words"]


class OfAnySize(Distribution):
    """A distribution that does not fail where there is nothing to validate, as torch's check of vectors does."""

    def _validate_sample(self, value: Tensor) -> None:
        event = self.event_shape
        if not is_dense(value) or value.shape[len(value.shape) - len(event) :] != event:
            expected = f"floating-point values of shape (*sample, *batch, {', '.join(map(str, event))})"
            raise InvalidInputError(complaint(f"value of {type(self).__name__}", expected, described(value)))
        if value.numel() and not value.is_meta:
            try:
                super()._validate_sample(value)
            except ValueError as error:
                raise told_in_own_words(self, "value", error) from None


def told_in_own_words(distribution: Distribution, subject: str, error: ValueError) -> InvalidInputError:
    """Return the library's error for what torch's validation of a distribution found."""
    if isinstance(error, InvalidInputError):
        return error
    first = str(error).splitlines()[0]
    expected = "what its constraints allow"
    return InvalidInputError(complaint(f"{subject} of {type(distribution).__name__}", expected, f"others: {first}"))
