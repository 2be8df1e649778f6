"""What a solve has cost, and how its failure is worded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vae_flows.errors import IntegrationError

__all__ = ["SolveProgress", "WorkCount"]


@dataclass
class WorkCount:
    """What one solve has cost; what the backward pass costs is added when it runs.

    Arguments:
        forward_evaluations: Evaluations of the dynamics in the forward solve.
        backward_evaluations: Evaluations made by the backward pass: the continuous adjoint's solve, or the stages that
            `recompute` repeats. Plain backpropagation makes none.
        accepted_steps: Steps taken forward.
        rejected_steps: Steps tried forward and thrown away.
        largest_error_ratio: Largest estimated error of an accepted step over its tolerance; 0 where the method
            estimates none or does not tell.
    """

    forward_evaluations: int = 0
    backward_evaluations: int = 0
    accepted_steps: int = 0
    rejected_steps: int = 0
    largest_error_ratio: float = 0.0

    def add(self, other: WorkCount) -> None:
        """Add the counts of another solve; of the error ratios, keep the larger."""
        self.forward_evaluations += other.forward_evaluations
        self.backward_evaluations += other.backward_evaluations
        self.accepted_steps += other.accepted_steps
        self.rejected_steps += other.rejected_steps
        self.largest_error_ratio = max(self.largest_error_ratio, other.largest_error_ratio)

    @classmethod
    def total(cls, counts: Iterable[WorkCount]) -> WorkCount:
        """Return the sum of the counts of several solves."""
        total = cls()
        for count in counts:
            total.add(count)
        return total


class SolveProgress:
    """Counts the work of one solve into a `WorkCount`, keeps the cap, and knows where the solve stands.

    Arguments:
        work: Filled as the solve proceeds.
        max_evaluations: Cap on evaluations, forward or backward.
    """

    def __init__(self, work: WorkCount, max_evaluations: int) -> None:
        self.work = work
        self._backward = False
        self._max_evaluations = max_evaluations
        self._evaluations = 0  # of this solve, forward, or of the latest pass backward
        self._t: float | None = None
        self._step_size: float | None = None

    def evaluate(self) -> None:
        """Count an evaluation.

        Raises:
            IntegrationError: The cap is exceeded.
        """
        if self._backward:
            self.work.backward_evaluations += 1
        else:
            self.work.forward_evaluations += 1
        self._evaluations += 1
        if self._evaluations > self._max_evaluations:
            raise self.error(f"the cap of {self._max_evaluations} evaluations was met")

    def require(self, evaluations: int) -> None:
        """Check that the cap allows for a number of evaluations, before anything is made for them.

        Raises:
            IntegrationError: It does not.
        """
        if self._evaluations + evaluations > self._max_evaluations:
            needed = f"{evaluations} evaluations" if evaluations < 10**9 else f"{evaluations:.1e} evaluations"
            raise self.error(f"the steps need {needed}, above the cap of {self._max_evaluations}")

    def start_backward(self) -> None:
        """Count what follows as a backward pass, with a cap of its own."""
        self._backward = True
        self._evaluations = 0

    def attempt(self, t: float, step_size: float) -> None:
        """Note a step that is about to be tried."""
        self._t, self._step_size = t, step_size

    def note_error(self, ratio: float) -> None:
        """Note the error ratio of an attempted step."""
        if ratio <= 1 and not self._backward:
            self.work.largest_error_ratio = max(self.work.largest_error_ratio, ratio)

    def accept(self) -> None:
        """Count an accepted step."""
        self.work.accepted_steps += not self._backward

    def reject(self) -> None:
        """Count a rejected step."""
        self.work.rejected_steps += not self._backward

    def error(self, what: str) -> IntegrationError:
        """Word a failure of this solve."""
        work = self.work
        return IntegrationError(
            f"ODE solve failed: {what} (t = {self._t}, step {self._step_size}, "
            f"{work.forward_evaluations} evaluations forward, {work.backward_evaluations} backward, "
            f"{work.accepted_steps} steps accepted, {work.rejected_steps} rejected). "
            "Loosen rtol and atol, shorten integration_time, lower the learning rate or clip gradients, "
            "check the input for extreme values, or raise max_evaluations.",
            t=self._t,
            step_size=self._step_size,
            evaluations=work.forward_evaluations + work.backward_evaluations,
        )
