"""What the comparison should reach, and what it did."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.speed.competitors import BASELINE, DIFFRAX, EXACT, PUBLISHED, ZUKO
from experiments.speed.problems import Size
from experiments.speed.records import Comparison

__all__ = ["Target", "judge"]

GIGABYTE = 1e9
_LOW_RANK = Size((512, 512), "low_rank", rank=20).name
_BIAS, _WIDE_BIAS = Size((512, 512), "bias").name, Size((2048,), "bias").name
_CONCAT = Size((512, 512), "concat").name
_LARGE = Size((1024, 1024), "low_rank", rank=64, num_blocks=2).name


@dataclass(frozen=True)
class Target:
    """A number that is wanted, beside the one that was measured.

    Arguments:
        text: What is compared.
        limit: The number wanted.
        at_least: Whether more is better.
        measured: The number found; `None` where it was not measured.

    Example:
        >>> Target("speed-up", 1.5, at_least=True, measured=1.4).verdict
        'short'
    """

    text: str
    limit: float
    at_least: bool
    measured: float | None

    @property
    def wanted(self) -> str:
        """The limit in words."""
        return f"{'at least' if self.at_least else 'at most'} {self.limit:g}"

    @property
    def verdict(self) -> str:
        """`met`, `short` or `not measured`."""
        if self.measured is None:
            return "not measured"
        met = self.measured >= self.limit if self.at_least else self.measured <= self.limit
        return "met" if met else "short"


def judge(comparison: Comparison) -> list[Target]:
    """Return all targets."""
    low_rank, bias, wide_bias = (comparison.find(name) for name in (_LOW_RANK, _BIAS, _WIDE_BIAS))
    large = comparison.find(_LARGE).find(BASELINE).process_bytes
    errors = [entry.gradient_error for result in comparison.sizes for entry in result.measurements]
    return [
        Target(f"times faster than the {PUBLISHED}, {_LOW_RANK}", 45, True, low_rank.ratio(PUBLISHED, BASELINE)),
        Target(f"share of its memory, {_LOW_RANK}", 0.25, False, low_rank.memory_ratio(BASELINE, PUBLISHED)),
        Target(f"times faster than {DIFFRAX}, {_LOW_RANK}", 1.5, True, low_rank.ratio(DIFFRAX, BASELINE)),
        Target(f"times faster than {DIFFRAX}, {_BIAS}", 1.15, True, bias.ratio(DIFFRAX, BASELINE)),
        Target(f"times faster than {ZUKO}, {_CONCAT}", 2.5, True, comparison.find(_CONCAT).ratio(ZUKO, BASELINE)),
        Target(f"time over the matrix products alone, {_LOW_RANK}", 1.6, False, low_rank.floor_ratio(BASELINE)),
        Target(f"time over the matrix products alone, {_BIAS}", 1.6, False, bias.floor_ratio(BASELINE)),
        Target(f"exact trace over Hutchinson, {_BIAS}", 1.1, False, bias.ratio(EXACT, BASELINE)),
        Target(f"exact trace over Hutchinson, {_WIDE_BIAS}", 1.1, False, wide_bias.ratio(EXACT, BASELINE)),
        Target(f"GB of the process, {_LARGE}", 3, False, None if large is None else large / GIGABYTE),
        Target(
            "largest relative error of a gradient, all with equal dynamics",
            1e-4,
            False,
            max((error for error in errors if error is not None), default=None),
        ),
    ]
