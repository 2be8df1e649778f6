"""What a solver integrates: f(t, z), and beside it the rates of integrals along the path."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

__all__ = ["AugmentedField", "TapedField", "Time"]

Time = float | Tensor


class AugmentedField(ABC):
    """f(t, z) beside the rates of K integrals along the path; of a flow, the first is the trace of the Jacobian."""

    num_integrals: int = 1
    """K."""

    has_pull_back = False
    """Whether the field knows its derivatives better than automatic differentiation does; see `TapedField`."""

    @abstractmethod
    def evaluate(self, t: Time, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return f, of the shape of `z (…, D)`, and the rates `(…, K)`."""

    def value_and_trace(self, t: Time, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return f and the trace, of shape `(…)`."""
        value, integrals = self.evaluate(t, z)
        return value, integrals[..., 0]

    @abstractmethod
    def tensors(self) -> Sequence[Tensor]:
        """Return the tensors that f and the trace depend on, in the form in which they are used."""

    def isolated(self) -> AugmentedField:
        """Return a field none of whose tensors depends on another, for the continuous adjoint.

        Where one tensor was computed from another, the adjoint would count the other's gradient twice.
        """
        return self


class TapedField(AugmentedField):
    """An augmented field that differentiates itself: evaluations leave a tape, from which `pull_back` works."""

    has_pull_back = True

    @abstractmethod
    def record(self, t: Time, z: Tensor) -> tuple[tuple[Tensor, Tensor], object]:
        """Evaluate, and return the tape of the evaluation as well."""

    @abstractmethod
    def pull_back(self, tape: object, value: Tensor, integrals: Tensor, *, of_tensors: bool = True) -> Tensor:
        """Return the cotangent of z for those of f and the rates; note what `collect` needs, unless told not to."""

    def check_captured(self) -> None:
        """Have the next evaluation refuse tensors with gradients that are not among `tensors()`."""

    @abstractmethod
    def collect(self) -> list[Tensor]:
        """Return the gradients of `tensors()` for all that was pulled back since the last call."""
