"""What a solver integrates: f(t, z), and beside it the rates of integrals along the path.

A field is a function of t, of z and of its `tensors()`, and of nothing else that has a gradient. All that differentiate
a solve by a backward pass of their own rely on that one list: it is the list of inputs of their autograd functions, and
gradients end there. So none is lost, and where one tensor was computed from another, the other's is counted once: what
reaches it through the first is passed on by the graph outside of the solve.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from vae_flows.ode.compilation import warn_uncompiled

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
        """Return the tensors that f and the rates depend on, in the form in which they are used."""

    def compiled(self) -> AugmentedField:
        """Return the field with its evaluations compiled; itself, with a warning, where none can be."""
        warn_uncompiled(f"{type(self).__name__} has no evaluation that is fused")
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

    def check_tape(self, tape: object) -> None:
        """Check that no tensor with a gradient beside z and `tensors()` went into an evaluation.

        Raises:
            InvalidInputError: One did, whose gradient would be lost.
        """
        del tape

    @abstractmethod
    def collect(self) -> list[Tensor]:
        """Return the gradients of `tensors()` for all that was pulled back since the last call."""
