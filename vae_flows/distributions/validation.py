"""Validation of parameters and values by the library's errors, where a distribution is to validate them."""

from __future__ import annotations

from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from vae_flows.checks import check_argument, described
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.known_values import known
from vae_flows.tensors.shapes import broadcasts, is_real

__all__ = ["ValidatedDistribution", "check_validate_args"]


class ValidatedDistribution(Distribution):
    """A distribution that tells of wrong parameters and values by `InvalidInputError`, if `validate_args` says so.

    There is nothing to validate in a tensor without numbers, or of the meta device, but its shape.

    Arguments:
        batch_shape: As for every distribution of torch.
        event_shape: Likewise.
        validate_args: Likewise; torch's default where it is `None`.
    """

    def __init__(self, batch_shape: Size, event_shape: Size, validate_args: bool | None = None) -> None:
        check_validate_args(type(self).__name__, validate_args)
        super().__init__(batch_shape, event_shape, validate_args=False)
        self._validate_args = type(self)._validate_args if validate_args is None else validate_args
        if self._validate_args:
            for name, constraint in self.arg_constraints.items():
                _require_within(f"{type(self).__name__} {name}", getattr(self, name), constraint)

    def _validate_sample(self, value: Tensor) -> None:
        subject, event = f"{type(self).__name__} value", self.event_shape
        shape = self.batch_shape + event
        fits = is_real(value) and value.shape[value.dim() - len(event) :] == event and broadcasts(value.shape, shape)
        if not fits:
            expected = f"a tensor of real numbers and shape (*sample, {', '.join(map(str, shape))})"
            raise InvalidInputError(complaint(subject, expected, described(value)))
        try:
            support = self.support
        except NotImplementedError:  # of a base that does not tell it
            return
        _require_within(subject, value, support)


def check_validate_args(subject: str, validate_args: object) -> None:
    """Check that a flag is `True`, `False` or `None`.

    Raises:
        InvalidInputError: It is something else.
    """
    if validate_args is not None and not isinstance(validate_args, bool):
        check_argument(f"{subject} validate_args", validate_args, bool | None)


def _require_within(subject: str, value: Tensor, constraint: constraints.Constraint | None) -> None:
    if constraint is None or not value.numel():
        return
    while isinstance(constraint, constraints.independent):
        constraint = constraint.base_constraint
    within = constraint.check(value)
    if known(within) is False:
        outside = value[~within].flatten()[0].item()
        raise InvalidInputError(complaint(subject, f"values within {constraint}", outside))
