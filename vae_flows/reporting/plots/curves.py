"""How training went: −ELBO by epoch and by wall-clock time, and evaluations per solve by epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.extras import needing
from vae_flows.reporting.plots.looks import MUTED, looks_of
from vae_flows.reporting.plots.sheets import Plot, Sheet, Width, add_legend, dress, new_plot, sheet_of
from vae_flows.reporting.summaries import Recorded, RunResult

with needing("plots"):
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

__all__ = ["plot_curves", "plot_elbo_by_time", "plot_evaluations_by_epoch"]

Array = NDArray[np.float64]
MARKERS = 5
"""Markers on a line, about: they tell lines apart in grey."""
WIDEST = 4.0
"""A line whose last half ends further above the best than this many times what is typical does not set the scale."""
MINUTES, HOURS = 180.0, 3 * 3600.0
"""Durations from which on an axis is in minutes, or hours."""


class Band(NamedTuple):
    """The seeds of one posterior: mean, least and largest value at each place, `(n,)` each."""

    x: Array
    mean: Array
    low: Array
    high: Array
    seeds: int


@checked
def plot_curves(runs: Iterable[Recorded], *, title: str = "", width: Width = "screen") -> Plot:
    """Draw validation −ELBO by epoch: one line per posterior, the mean of its seeds within the band of their range.

    A line goes as far as all of its seeds were trained. The axis is zoomed to the last half of the lines, where they
    differ, for the first epochs would hide it; the legend says of a line where all of it lies above.

    Arguments:
        runs: Runs on one data set; those without a curve are left out.
        title: Line above the plot.
        width: `"screen"`, `"column"` or `"page"` of a paper, or inches.

    Raises:
        InvalidInputError: No run has a curve, runs are in different units, or the width is none.

    Example:
        >>> figure = plot_curves([RunResult("mnist", "planar", 0, curve=(120.0, 101.0, 99.0))], title="mnist")
        >>> figure.axes[0].get_xlabel()
        'epoch'
    """
    records = _records(runs, lambda run: bool(run.curve), "a curve")
    bands = _bands(records, lambda group: _by_epoch([run.curve for run in group]))
    label = f"validation −ELBO ({records[0].unit})"
    return _plot_bands(bands, sheet_of(width), title, "epoch", label, zoomed=True)


@checked
def plot_elbo_by_time(runs: Iterable[Recorded], *, title: str = "", width: Width = "screen") -> Plot:
    r"""Draw what each posterior reaches in a given time: the lowest validation −ELBO so far by seconds of training.

    Of seeds :math:`s` with :math:`b_s(t) = \min_{t_e \le t} \text{−ELBO}_e`, the mean and the range, between the first
    time at which all have finished an epoch and the last at which all were still training.

    Arguments:
        runs: Runs on one data set, made on one machine; those without durations are left out.
        title: Line above the plot.
        width: `"screen"`, `"column"` or `"page"` of a paper, or inches.

    Raises:
        InvalidInputError: No run has a curve and durations, runs are in different units, or the width is none.

    Example:
        >>> run = RunResult("mnist", "planar", 0, curve=(120.0, 99.0, 101.0), epoch_seconds=(2.0, 2.0, 3.0))
        >>> plot_elbo_by_time([run]).axes[0].lines[0].get_xydata().tolist()
        [[2.0, 120.0], [4.0, 99.0], [7.0, 99.0]]
    """
    records = _records(runs, lambda run: bool(run.curve and run.epoch_seconds), "a curve and durations of its epochs")
    bands = _bands(records, _by_time)
    longest = max(float(band.x[-1]) for band in bands.values())
    unit, seconds = ("h", 3600.0) if longest >= HOURS else ("min", 60.0) if longest >= MINUTES else ("s", 1.0)
    bands = {name: band._replace(x=band.x / seconds) for name, band in bands.items()}
    label = f"lowest validation −ELBO so far ({records[0].unit})"
    return _plot_bands(bands, sheet_of(width), title, f"wall-clock time of training ({unit})", label, True, steps=True)


@checked
def plot_evaluations_by_epoch(runs: Iterable[Recorded], *, title: str = "", width: Width = "screen") -> Plot:
    """Draw the evaluations of the dynamics per forward solve by epoch, the mean of the seeds within their range.

    Arguments:
        runs: Runs; those of posteriors that make no solves are left out.
        title: Line above the plot.
        width: `"screen"`, `"column"` or `"page"` of a paper, or inches.

    Raises:
        InvalidInputError: No run has counts, or the width is none.

    Example:
        >>> run = RunResult("mnist", "ffjord", 0, epoch_evaluations=(14.0, 20.5))
        >>> plot_evaluations_by_epoch([run]).axes[0].lines[0].get_ydata().tolist()
        [14.0, 20.5]
    """
    records = _records(runs, lambda run: bool(run.epoch_evaluations), "evaluations by epoch", one_unit=False)
    bands = _bands(records, lambda group: _by_epoch([run.epoch_evaluations for run in group]))
    figure = _plot_bands(bands, sheet_of(width), title, "epoch", "evaluations per solve", zoomed=False)
    _, high = figure.axes[0].get_ylim()
    figure.axes[0].set_ylim(0, high)
    return figure


def _records(
    runs: Iterable[Recorded], has: Callable[[RunResult], bool], what: str, *, one_unit: bool = True
) -> Sequence[RunResult]:
    records = [run.to_record() for run in runs]
    drawn = [record for record in records if has(record)]
    units = {record.unit for record in drawn}
    if not drawn or (one_unit and len(units) != 1):
        got = f"units {', '.join(sorted(units))}" if drawn else f"{len(records)} without it"
        raise InvalidInputError(complaint("runs", f"runs in one unit that have {what}", got))
    return drawn


def _bands(records: Sequence[RunResult], band_of: Callable[[Sequence[RunResult]], Band]) -> dict[str, Band]:
    names = dict.fromkeys(record.posterior for record in records)
    return {name: band_of([record for record in records if record.posterior == name]) for name in names}


def _by_epoch(curves: Sequence[Sequence[float]]) -> Band:
    length = min(map(len, curves))
    values = np.asarray([curve[:length] for curve in curves], dtype=np.float64)
    return _band(np.arange(1.0, length + 1), values)


def _by_time(runs: Sequence[RunResult]) -> Band:
    """Return the seeds' lowest values so far whenever an epoch of one of them ends, while all of them train."""
    lengths = [min(len(run.curve), len(run.epoch_seconds)) for run in runs]
    ends = [np.cumsum(run.epoch_seconds[:length]) for run, length in zip(runs, lengths, strict=True)]
    curves = [np.fmin.accumulate(run.curve[:length]) for run, length in zip(runs, lengths, strict=True)]
    first, last = max(end[0] for end in ends), min(end[-1] for end in ends)
    times = np.unique(np.concatenate(ends))
    # A seed that ends before another's first epoch leaves one time, at which both have a value.
    times = times[(times >= first) & (times <= max(first, last))]
    values = [curve[np.searchsorted(end, times, side="right") - 1] for end, curve in zip(ends, curves, strict=True)]
    return _band(times, np.asarray(values, dtype=np.float64))


def _band(x: Array, values: Array) -> Band:
    values = np.where(np.isfinite(values), values, np.nan)  # a run that diverged leaves a gap
    return Band(x, values.mean(0), values.min(0), values.max(0), len(values))


def _plot_bands(
    bands: Mapping[str, Band], sheet: Sheet, title: str, x: str, y: str, zoomed: bool, *, steps: bool = False
) -> Plot:
    figure, panels = new_plot(sheet, 2.9 if sheet.is_narrow else 0.48 * sheet.width, title=title)
    axes, looks, handles = panels[0, 0], looks_of(bands), []
    for name, band in bands.items():
        colour, dashes, marker = looks[name]
        style: dict[str, Any] = {"color": colour, "linewidth": sheet.line}
        places = max(1, len(band.x) // MARKERS)
        own = {"linestyle": dashes, "marker": marker, "markersize": 3 * sheet.line, "markevery": (places - 1, places)}
        drawn = "steps-post" if steps else "default"
        if band.seeds > 1:
            step: Any = "post" if steps else None
            axes.fill_between(band.x, band.low, band.high, color=colour, alpha=0.18, linewidth=0, step=step)
        axes.plot(band.x, band.mean, drawstyle=drawn, **style, **own)
        handles.append(Line2D([], [], **style, **{**own, "markevery": None}))
    above: set[str] = set()
    if zoomed and (limits := _limits(bands.values())):
        axes.set_ylim(limits)
        above = {name for name, band in bands.items() if not np.any(band.mean <= limits[1])}
    dress(axes, sheet, x=x, y=y, grid="y")
    _limit_x(axes, bands.values(), axes.get_ylim()[1])
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=x == "epoch"))
    # From top to bottom as the lines end, so that the eye finds one by its place.
    order = sorted(range(len(handles)), key=lambda place: -np.nan_to_num(list(bands.values())[place].mean[-1]))
    names = list(bands)
    labels = [f"{names[place]}{' (above the axis)' if names[place] in above else ''}" for place in order]
    seeds = sorted({band.seeds for band in bands.values()})
    if seeds != [1]:
        told = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        told = f"mean and range of {told} seeds"
        axes.set_title(told, loc="right", fontsize=sheet.font - 0.5, color=MUTED)
    add_legend(figure, sheet, [handles[place] for place in order], labels)
    return figure


def _limit_x(axes: Axes, bands: Iterable[Band], high: float) -> None:
    """Begin where the first line comes into sight."""
    bands = list(bands)
    seen = [float(band.x[max(0, np.argmax(band.low <= high) - 1)]) for band in bands if np.any(band.low <= high)]
    first, last = min(seen, default=float(bands[0].x[0])), max(float(band.x[-1]) for band in bands)
    margin = 0.02 * (last - first) or 0.5
    axes.set_xlim(first - margin, last + margin)


def _limits(bands: Iterable[Band]) -> tuple[float, float] | None:
    """Return limits that show the last half of the lines, but for those that lie far above the others.

    Example:
        >>> x = np.arange(4.0)
        >>> low, high = _limits([Band(x, *[np.array([900.0, 100.0, 12.0, 10.0])] * 3, 1)])
        >>> round(low, 1), round(high, 1)
        (9.9, 12.1)
    """
    late = [(band.low[len(band.low) // 2 :], band.high[len(band.high) // 2 :]) for band in bands]
    known = [(np.nanmin(low), np.nanmax(high)) for low, high in late if not np.isnan(low).all()]
    if not known:
        return None
    low = min(least for least, _ in known)
    reached = np.array([most - low for _, most in known])
    high = low + min(reached.max(), WIDEST * float(np.median(reached)))
    margin = 0.05 * (high - low) or 0.5
    return (float(low - margin), float(high + margin)) if math.isfinite(high) else None
