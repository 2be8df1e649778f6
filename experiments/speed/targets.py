"""What the comparison should reach, and what it did."""

from __future__ import annotations

from typing import NamedTuple

from experiments.speed.competitors.roster import BASELINE, DIFFRAX, EXACT, PUBLISHED, ZUKO
from experiments.speed.problems import BIAS, CONCAT, LARGE, LOW_RANK, WIDE_BIAS
from experiments.speed.speed_records import Comparison

__all__ = ["GIGABYTE", "Target", "judge"]

GIGABYTE = 1e9


class Target(NamedTuple):
    """A number that is wanted, beside the one that was measured."""

    text: str
    limit: float
    at_least: bool  # or at most
    measured: float | None

    @property
    def verdict(self) -> str:
        """`met`, `short` or `not measured`."""
        if self.measured is None:
            return "not measured"
        met = self.measured >= self.limit if self.at_least else self.measured <= self.limit
        return "met" if met else "short"


def judge(comparison: Comparison) -> list[Target]:
    """Return all targets."""
    low_rank, bias, wide_bias, concat, large = (
        comparison.find(size.name) for size in (LOW_RANK, BIAS, WIDE_BIAS, CONCAT, LARGE)
    )
    process = large.find(BASELINE).process_bytes
    entries = [entry for result in comparison.sizes for entry in result.measurements if entry.forward_evaluations]
    worst = max((entry.gradient_error for entry in entries if entry.gradient_error is not None), default=None)
    faster = ((low_rank, DIFFRAX, 1.5), (bias, DIFFRAX, 1.15), (concat, ZUKO, 2.5))
    return [
        Target(f"times faster than the {PUBLISHED}, {low_rank.size}", 45, True, low_rank.ratio(PUBLISHED, BASELINE)),
        Target(f"share of its memory, {low_rank.size}", 0.25, False, low_rank.memory_ratio(BASELINE, PUBLISHED)),
        *(
            Target(f"times faster than {peer}, {result.size}", limit, True, result.ratio(peer, BASELINE))
            for result, peer, limit in faster
        ),
        *(
            Target(f"time over the matrix products alone, {result.size}", 1.6, False, result.floor_ratio(BASELINE))
            for result in (low_rank, bias)
        ),
        *(
            Target(f"exact trace over Hutchinson, {result.size}", 1.1, False, result.ratio(EXACT, BASELINE))
            for result in (bias, wide_bias)
        ),
        Target(f"GB of the process, {large.size}", 3, False, None if process is None else process / GIGABYTE),
        Target("largest relative error of a gradient, all with equal dynamics", 1e-4, False, worst),
    ]
