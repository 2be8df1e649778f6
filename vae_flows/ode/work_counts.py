"""What solves cost: counts, which are values, and the meter that a running solve turns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["WorkCount", "WorkMeter", "total_work"]


@dataclass(frozen=True)
class WorkCount:
    """What one solve, or several together, have cost up to a moment.

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

    @classmethod
    def total(cls, counts: Iterable[WorkCount]) -> WorkCount:
        """Return the sum of the counts of several solves; of the error ratios, the largest.

        Example:
            >>> WorkCount.total([WorkCount(6, accepted_steps=1), WorkCount(12, accepted_steps=2)]).forward_evaluations
            18
        """
        counts = list(counts)
        return cls(
            sum(count.forward_evaluations for count in counts),
            sum(count.backward_evaluations for count in counts),
            sum(count.accepted_steps for count in counts),
            sum(count.rejected_steps for count in counts),
            max((count.largest_error_ratio for count in counts), default=0.0),
        )


@dataclass
class WorkMeter:
    """The running count of one solve: it goes on in the backward pass, which comes when the solve's result is long out.

    Arguments:
        forward_evaluations: As in `WorkCount`, and so are the others.
        backward_evaluations: See there.
        accepted_steps: See there.
        rejected_steps: See there.
        largest_error_ratio: See there.

    Example:
        >>> meter = WorkMeter()
        >>> before = meter.read()
        >>> meter.forward_evaluations += 6
        >>> before.forward_evaluations, meter.read().forward_evaluations
        (0, 6)
    """

    forward_evaluations: int = 0
    backward_evaluations: int = 0
    accepted_steps: int = 0
    rejected_steps: int = 0
    largest_error_ratio: float = 0.0

    def read(self) -> WorkCount:
        """Return the count as it stands."""
        return WorkCount(
            self.forward_evaluations,
            self.backward_evaluations,
            self.accepted_steps,
            self.rejected_steps,
            self.largest_error_ratio,
        )


def total_work(meters: Iterable[WorkMeter]) -> WorkCount | None:
    """Return what the meters read together, `None` where there are none."""
    counts = [meter.read() for meter in meters]
    return WorkCount.total(counts) if counts else None
