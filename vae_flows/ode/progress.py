"""Where a solve stands: its work is counted, its cap kept, and its failure worded."""

from __future__ import annotations

from vae_flows.errors import IntegrationError
from vae_flows.ode.work_counts import WorkCount, WorkMeter

__all__ = ["SolveProgress", "WorkCount", "WorkMeter"]


class SolveProgress:
    """Counts the work of one solve with a `WorkMeter`, keeps the cap, and knows where the solve stands.

    Arguments:
        meter: The meter, which runs as the solve proceeds.
        max_evaluations: Cap on evaluations, forward or backward.
    """

    def __init__(self, meter: WorkMeter, max_evaluations: int) -> None:
        self.meter = meter
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
            self.meter.backward_evaluations += 1
        else:
            self.meter.forward_evaluations += 1
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
            self.meter.largest_error_ratio = max(self.meter.largest_error_ratio, ratio)

    def accept(self) -> None:
        """Count an accepted step."""
        self.meter.accepted_steps += not self._backward

    def reject(self) -> None:
        """Count a rejected step."""
        self.meter.rejected_steps += not self._backward

    def error(self, what: str) -> IntegrationError:
        """Word a failure of this solve."""
        meter = self.meter
        return IntegrationError(
            f"ODE solve failed: {what} (t = {self._t}, step {self._step_size}, "
            f"{meter.forward_evaluations} evaluations forward, {meter.backward_evaluations} backward, "
            f"{meter.accepted_steps} steps accepted, {meter.rejected_steps} rejected). "
            "Loosen rtol and atol, shorten integration_time, lower the learning rate or clip gradients, "
            "check the input for extreme values, or raise max_evaluations.",
            t=self._t,
            step_size=self._step_size,
            evaluations=meter.forward_evaluations + meter.backward_evaluations,
        )
