"""What the comparison finds, as records that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

__all__ = ["Comparison", "Measurement", "Products", "ScalingPoint", "SizeResult", "StepsPoint"]


@dataclass(frozen=True)
class Measurement:
    """What one competitor did at one size.

    Arguments:
        competitor: Its name.
        absent: Why there is nothing, in a few words; empty where there is.
        seconds: Time of a step, one entry a round.
        forward_evaluations: Evaluations of the dynamics in the forward solve.
        backward_evaluations: Evaluations in the backward pass; `None` where the competitor does not tell.
        errors: Relative distance from a solve in double precision at a tight tolerance: `end`, `log_det`, and the
            gradients `context`, `start`, `shared`, `head`. Empty where the dynamics are others.
        step_bytes: Peak memory above what was held before the first step; `None` where it was not measured.
        process_bytes: Peak memory of the whole process over the steps.
    """

    competitor: str
    absent: str = ""
    seconds: tuple[float, ...] = ()
    forward_evaluations: int | None = None
    backward_evaluations: int | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    step_bytes: int | None = None
    process_bytes: int | None = None

    @property
    def median(self) -> float | None:
        """Median time of a step."""
        return median(self.seconds) if self.seconds else None

    @property
    def gradient_error(self) -> float | None:
        """Largest relative error of a gradient."""
        gradients = [error for name, error in self.errors.items() if name not in ("end", "log_det")]
        return max(gradients, default=None)

    @property
    def value_error(self) -> float | None:
        """Largest relative error of a value."""
        return max((self.errors[name] for name in ("end", "log_det") if name in self.errors), default=None)


@dataclass(frozen=True)
class SizeResult:
    """All competitors at one size.

    Arguments:
        size: Name of the size.
        measurements: One a competitor.
        multiply_adds: Those that one step of this library cannot do without.
        rates: Multiply-adds a second of a large matrix product, one entry a round.
    """

    size: str
    measurements: tuple[Measurement, ...]
    multiply_adds: int | None = None
    rates: tuple[float, ...] = ()

    def find(self, competitor: str) -> Measurement:
        """Return the measurement of a competitor; an absent one where it took no part."""
        found = (entry for entry in self.measurements if entry.competitor == competitor)
        return next(found, Measurement(competitor, "took no part"))

    def ratio(self, competitor: str, baseline: str) -> float | None:
        """Return how many times longer a step of `competitor` takes: the median of the rounds' ratios."""
        pairs = zip(self.find(competitor).seconds, self.find(baseline).seconds, strict=False)
        ratios = [theirs / ours for theirs, ours in pairs]
        return median(ratios) if ratios else None

    def memory_ratio(self, competitor: str, baseline: str) -> float | None:
        """Return the memory of a step of `competitor` over that of `baseline`."""
        theirs, ours = self.find(competitor).step_bytes, self.find(baseline).step_bytes
        return theirs / ours if theirs and ours else None

    def floor_ratio(self, competitor: str) -> float | None:
        """Return how many times longer a step takes than its matrix products alone, in the median of the rounds."""
        seconds = self.find(competitor).seconds
        if not seconds or self.multiply_adds is None:
            return None
        return median(taken * rate / self.multiply_adds for taken, rate in zip(seconds, self.rates, strict=True))

    @property
    def floor_seconds(self) -> float | None:
        """Median time of the matrix products alone."""
        return self.multiply_adds / median(self.rates) if self.multiply_adds and self.rates else None


@dataclass(frozen=True)
class ScalingPoint:
    """Cost of one evaluation of value and log-density change by one method.

    Arguments:
        method: Its name.
        dim: D.
        forward_seconds: Median time of the evaluation alone.
        seconds: Median time of the evaluation and its gradient.
    """

    method: str
    dim: int
    forward_seconds: float
    seconds: float


@dataclass(frozen=True)
class Products:
    """Time of products with the Jacobian of f, over that of f alone.

    Arguments:
        size: Name of the size.
        value_seconds: Median time of f.
        ratios: Median ratio by product.
    """

    size: str
    value_seconds: float
    ratios: Mapping[str, float]


@dataclass(frozen=True)
class StepsPoint:
    """Cost of a forward and backward pass in one gradient mode over a number of fixed steps.

    Arguments:
        mode: Its name.
        steps: Number of steps.
        seconds: Median time of a pass.
        step_bytes: Peak memory above what was held before the first pass.
    """

    mode: str
    steps: int
    seconds: float
    step_bytes: int


@dataclass(frozen=True)
class Comparison:
    """The whole comparison.

    Arguments:
        settings: Tolerance, rounds, threads and the like.
        versions: Of the packages.
        hardware: Of the machine.
        commit: Of this code.
        sizes: One entry a size.
        steps: Cost of the gradient modes against the number of steps.
        scaling: Cost against D.
        products: Products with the Jacobian, `None` where measuring them failed.
        failures: What failed of these three, in words.
    """

    settings: Mapping[str, Any]
    versions: Mapping[str, str | None]
    hardware: Mapping[str, Any]
    commit: Mapping[str, Any]
    sizes: tuple[SizeResult, ...]
    steps: tuple[StepsPoint, ...]
    scaling: tuple[ScalingPoint, ...]
    products: Products | None
    failures: tuple[str, ...] = ()

    def find(self, size: str) -> SizeResult:
        """Return the results of a size; empty ones where it was not measured."""
        return next((result for result in self.sizes if result.size == size), SizeResult(size, ()))
