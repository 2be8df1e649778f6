"""What the comparison finds, as records that JSON can hold, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from statistics import linear_regression, median
from typing import Any

__all__ = ["ASYMPTOTIC", "Comparison", "Measurement", "Products", "ScalingPoint", "SizeResult", "StepsPoint"]

ASYMPTOTIC = 128
"""Dimensions from which on exponents are fitted: below, the hidden layers are most of the cost."""

_VALUES = {"end", "log_det"}


@dataclass(frozen=True)
class Measurement:
    """What one competitor did at one size."""

    competitor: str
    absent: str = ""  # why there is nothing, in a few words; empty where there is
    seconds: tuple[float, ...] = ()  # of a step, one entry per round
    first_seconds: float | None = None  # of the set-up with the first step, in which compilers work
    forward_evaluations: int | None = None  # of the dynamics, in the forward solve
    backward_evaluations: int | None = None  # in the backward pass, where the competitor tells
    errors: Mapping[str, float] = field(default_factory=dict)
    """Relative distance from a solve in double precision at a tight tolerance: `end`, `log_det`, and the gradients
    `context`, `start`, `shared`, `head`. Empty where the dynamics are others."""
    step_bytes: int | None = None  # peak memory above what was held before the first step, where it was measured
    process_bytes: int | None = None  # peak memory of the whole process over the steps

    @property
    def median(self) -> float | None:
        """Median time of a step."""
        return _median(self.seconds)

    @property
    def value_error(self) -> float | None:
        """Largest relative error of a value."""
        return max((self.errors[name] for name in self.errors.keys() & _VALUES), default=None)

    @property
    def gradient_error(self) -> float | None:
        """Largest relative error of a gradient."""
        return max((self.errors[name] for name in self.errors.keys() - _VALUES), default=None)


@dataclass(frozen=True)
class SizeResult:
    """All competitors at one size."""

    size: str
    measurements: tuple[Measurement, ...]
    multiply_adds: int | None = None  # that one step of this library cannot do without
    rates: tuple[float, ...] = ()  # multiply-adds per second of a large matrix product, one entry per round

    def find(self, competitor: str) -> Measurement:
        """Return the measurement of a competitor; an absent one where it took no part."""
        found = (entry for entry in self.measurements if entry.competitor == competitor)
        return next(found, Measurement(competitor, "took no part"))

    def ratio(self, competitor: str, baseline: str) -> float | None:
        """Return how many times longer a step of `competitor` takes: the median of the rounds' ratios."""
        pairs = zip(self.find(competitor).seconds, self.find(baseline).seconds, strict=False)
        return _median([theirs / ours for theirs, ours in pairs])

    def memory_ratio(self, competitor: str, baseline: str) -> float | None:
        """Return the memory of a step of `competitor` over that of `baseline`."""
        theirs, ours = self.find(competitor).step_bytes, self.find(baseline).step_bytes
        return theirs / ours if theirs and ours else None

    def floor_ratio(self, competitor: str) -> float | None:
        """Return how many times longer a step takes than its matrix products alone, in the median of the rounds."""
        if self.multiply_adds is None:
            return None
        pairs = zip(self.find(competitor).seconds, self.rates, strict=False)
        return _median([taken * rate / self.multiply_adds for taken, rate in pairs])

    @property
    def floor_seconds(self) -> float | None:
        """Median time of the matrix products alone."""
        return self.multiply_adds / median(self.rates) if self.multiply_adds and self.rates else None


@dataclass(frozen=True)
class ScalingPoint:
    """Median time of one evaluation of value and change of log-density in `dim` dimensions, alone and with gradient."""

    method: str
    dim: int
    forward_seconds: float
    seconds: float


@dataclass(frozen=True)
class Products:
    """Median time of f at a size, and median ratios to it of products with its Jacobian."""

    size: str
    value_seconds: float
    ratios: Mapping[str, float]


@dataclass(frozen=True)
class StepsPoint:
    """Median time and peak memory of a forward and backward pass in one gradient mode over a number of fixed steps."""

    mode: str
    steps: int
    seconds: float
    step_bytes: int  # above what was held before the first pass


@dataclass(frozen=True)
class Comparison:
    """The whole comparison: its settings, where it was made, and all that was found."""

    settings: Mapping[str, Any]
    versions: Mapping[str, str | None]
    hardware: Mapping[str, Any]
    commit: Mapping[str, Any]
    sizes: tuple[SizeResult, ...]
    steps: tuple[StepsPoint, ...]
    scaling: tuple[ScalingPoint, ...]
    products: Products | None  # `None` where measuring them failed
    failures: tuple[str, ...] = ()  # of the last three, in words

    def find(self, size: str) -> SizeResult:
        """Return the results of a size; empty ones where it was not measured."""
        return next((result for result in self.sizes if result.size == size), SizeResult(size, ()))

    def exponent(self, method: str) -> float | None:
        """Return the exponent of the cost of value and gradient in D, fitted where D is large."""
        fitted = [point for point in self.scaling if point.method == method and point.dim >= ASYMPTOTIC]
        if len(fitted) < 2:
            return None
        return linear_regression(*zip(*((log(point.dim), log(point.seconds)) for point in fitted), strict=True)).slope

    def growth(self, mode: str) -> float | None:
        """Return the bytes that each further step takes, between the fewest and the most steps."""
        known = sorted((point.steps, point.step_bytes) for point in self.steps if point.mode == mode)
        if len(known) < 2:
            return None
        (fewest, least), (most, largest) = known[0], known[-1]
        return (largest - least) / (most - fewest)


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
