"""What a report is made of: single runs, and what several seeds of one posterior say together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from vae_flows.checks import Measured, checked
from vae_flows.errors import InvalidInputError, complaint

__all__ = ["Estimate", "PosteriorSummary", "Recorded", "Reference", "RunResult", "Status", "summarize"]

Status = Literal["finished", "failed", "unfinished"]


@checked
@dataclass(frozen=True)
class RunResult:
    """One VAE, trained with one seed and tested.

    Arguments:
        data: Name of the data set.
        posterior: Name of the posterior's flow.
        seed: Seed of the run.
        status: What became of it; the numbers below mean something only for a finished run.
        unit: Unit of the bounds, `"nats"` or `"bits/dim"`.
        negative_elbo: Test −ELBO in `unit`.
        negative_log_likelihood: Importance-sampled −log p(x) of the test images in `unit`, `None` if not computed.
        evaluations_per_solve: Evaluations of the dynamics in one ODE solve, `None` for posteriors without one.
        seconds_per_epoch: Mean duration of an epoch of training.
        parameters: Number of learned values in the whole VAE.
        curve: Validation −ELBO after each epoch in `unit`.
        epoch_seconds: Wall-clock time of each epoch.
        epoch_evaluations: Evaluations of the dynamics in one ODE solve, the mean of each epoch; empty without one.

    Numbers may be NaN or infinite, as those of a run are that has diverged.

    Raises:
        InvalidInputError: An argument is of another kind.
    """

    data: str
    posterior: str
    seed: int
    status: Status = "finished"
    unit: str = "nats"
    negative_elbo: Measured | None = None
    negative_log_likelihood: Measured | None = None
    evaluations_per_solve: Measured | None = None
    seconds_per_epoch: Measured | None = None
    parameters: int | None = None
    curve: tuple[Measured, ...] = ()
    epoch_seconds: tuple[Measured, ...] = ()
    epoch_evaluations: tuple[Measured, ...] = ()

    def to_record(self) -> RunResult:
        """Return the run itself, as `vf.Run` returns one of these."""
        return self


class Recorded(Protocol):
    """What tables and plots take for a run: a `RunResult` of these, or the `vf.Run` of a folder."""

    def to_record(self) -> RunResult:
        """Return its numbers."""
        ...


@dataclass(frozen=True)
class Estimate:
    r"""Mean and sample standard deviation :math:`\sqrt{\sum_i (x_i - \bar x)^2 / (n - 1)}` of `count` numbers.

    Example:
        >>> estimate = Estimate.of([82.0, 83.0, 84.0])
        >>> estimate.text(), estimate.count
        ('83.00 ± 1.00', 3)
    """

    mean: float
    std: float | None
    count: int

    @classmethod
    @checked
    def of(cls, values: Sequence[float]) -> Estimate:
        """Summarise `values`; a single one has no standard deviation.

        Raises:
            InvalidInputError: There are no values.
        """
        if not values:
            raise InvalidInputError(complaint("Estimate.of", "at least one value", "none"))
        std = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), std, len(values))

    @checked
    def text(self, decimals: int = 2) -> str:
        """Word it as *mean ± std*, or the mean alone."""
        if decimals < 0:
            raise InvalidInputError(complaint("Estimate.text decimals", "an integer of at least 0", decimals))
        mean = f"{self.mean:.{decimals}f}"
        return mean if self.std is None else f"{mean} ± {self.std:.{decimals}f}"


@dataclass(frozen=True)
class Reference:
    """Published numbers to stand beside one's own.

    Arguments:
        source: Who published them, as the head of a column.
        negative_elbo: Test −ELBO by posterior.
        notes: What a reader must know to compare.
    """

    source: str
    negative_elbo: Mapping[str, Estimate]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PosteriorSummary:
    """All seeds of one posterior on one data set; an estimate is `None` where no finished run has the number."""

    data: str
    posterior: str
    unit: str
    finished: int
    failed: int
    unfinished: int
    negative_elbo: Estimate | None
    negative_log_likelihood: Estimate | None
    evaluations_per_solve: Estimate | None
    seconds_per_epoch: Estimate | None
    parameters: int | None


@checked
def summarize(runs: Iterable[RunResult]) -> dict[str, tuple[PosteriorSummary, ...]]:
    """Summarise runs over their seeds, by data set; data sets and posteriors keep the order of their first run.

    Raises:
        InvalidInputError: Finished runs of one posterior are given in different units.

    Example:
        >>> runs = [RunResult("mnist", "planar", seed, negative_elbo=86.0 + seed) for seed in range(3)]
        >>> summarize(runs)["mnist"][0].negative_elbo
        Estimate(mean=87.0, std=1.0, count=3)
    """
    groups: dict[tuple[str, str], list[RunResult]] = {}
    for run in runs:
        groups.setdefault((run.data, run.posterior), []).append(run)
    summaries: dict[str, tuple[PosteriorSummary, ...]] = {}
    for (data, _), group in groups.items():
        summaries[data] = (*summaries.get(data, ()), _summarize_posterior(group))
    return summaries


def _summarize_posterior(runs: Sequence[RunResult]) -> PosteriorSummary:
    finished = [run for run in runs if run.status == "finished"]
    units = {run.unit for run in finished} or {runs[0].unit}
    if len(units) > 1:
        raise InvalidInputError(
            complaint(f"runs of {runs[0].posterior} on {runs[0].data}", "one unit", ", ".join(sorted(units)))
        )
    return PosteriorSummary(
        data=runs[0].data,
        posterior=runs[0].posterior,
        unit=units.pop(),
        finished=len(finished),
        failed=sum(run.status == "failed" for run in runs),
        unfinished=sum(run.status == "unfinished" for run in runs),
        negative_elbo=_estimate(run.negative_elbo for run in finished),
        negative_log_likelihood=_estimate(run.negative_log_likelihood for run in finished),
        evaluations_per_solve=_estimate(run.evaluations_per_solve for run in finished),
        seconds_per_epoch=_estimate(run.seconds_per_epoch for run in finished),
        parameters=next((run.parameters for run in finished), None),
    )


def _estimate(values: Iterable[float | None]) -> Estimate | None:
    known = [value for value in values if value is not None and not math.isnan(value)]
    return Estimate.of(known) if known else None
