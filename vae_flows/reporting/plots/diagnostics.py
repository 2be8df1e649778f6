"""Diagnostics as pictures: ranks of calibration, tails of importance weights, and the parts of the inference gap."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.evaluation import CalibrationResult, InferenceGap, WeightDiagnostics
from vae_flows.extras import needing
from vae_flows.reporting.plots.generated import _subscript as subscript
from vae_flows.reporting.plots.looks import COLOURS, FAINT, INK, MUTED, looks_of
from vae_flows.reporting.plots.sheets import Plot, Width, add_legend, dress, name_rows, new_plot, sheet_of, write_beside

with needing("plots"):
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

__all__ = ["plot_calibration_ecdf", "plot_inference_gaps", "plot_pareto_k", "plot_rank_histograms"]

BAND = "#C9C9C9"
HATCHES = ("", "////")
MOST_PANELS = 12


@checked
def plot_rank_histograms(
    result: CalibrationResult,
    *,
    num_bins: int = 20,
    probability: float = 0.95,
    names: Sequence[str] | None = None,
    title: str = "",
    width: Width = "screen",
) -> Plot:
    """Draw the ranks of simulation-based calibration as histograms, over the interval of a bin of uniform ranks.

    Arguments:
        result: The ranks; of more than twelve parameters the first twelve are drawn.
        num_bins: Bins, a divisor of L + 1.
        probability: Of the interval, each bin by itself.
        names: Of the parameters, by default z₁, z₂, ….
        title: Line above the panels.
        width: `"screen"`, `"column"` or `"page"` of a paper, or inches.

    Raises:
        InvalidInputError: `num_bins` is no divisor, the probability or the width is none, or names are too many or few.

    Example:
        >>> import torch
        >>> ranks = CalibrationResult(torch.arange(100).repeat(2).unsqueeze(-1), num_draws=99)
        >>> bars = plot_rank_histograms(ranks, num_bins=4).axes[0].containers[0]
        >>> [float(bar.get_height()) for bar in bars]
        [50.0, 50.0, 50.0, 50.0]
    """
    histogram, sheet = result.histogram(num_bins, probability), sheet_of(width)
    labels = _parameter_names("plot_rank_histograms", result, names)
    shown = min(len(labels), MOST_PANELS)
    across = min(shown, 2 if sheet.is_narrow else 4)
    down = -(-shown // across)
    figure, panels = new_plot(sheet, 0.55 + 1.3 * down, down, across, title=title, sharey=True)
    edges = np.linspace(0, result.num_draws + 1, num_bins + 1)
    for place, axes in enumerate(panels.flat):
        if place >= shown:
            axes.remove()
            continue
        axes.axhspan(histogram.lower, histogram.upper, color=BAND, linewidth=0, zorder=0)
        axes.axhline(len(result.ranks) / num_bins, color=MUTED, linewidth=0.8, zorder=1)
        counts = histogram.counts[:, place].double().numpy()
        axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=COLOURS[5], edgecolor="white", alpha=0.85)
        below = place + across >= shown
        dress(axes, sheet, title=labels[place], x=f"rank, {result.num_draws} draws" if below else "")
        axes.set_xlim(0, result.num_draws + 1)
        axes.locator_params(axis="x", nbins=4)
        if place % across == 0:
            axes.set_ylabel("simulations", fontsize=sheet.font, color=INK)
    handles = [Patch(color=COLOURS[5]), Patch(color=BAND)]
    add_legend(figure, sheet, handles, ["ranks", f"{100 * probability:g} % of uniform bins"])
    return figure


@checked
def plot_calibration_ecdf(
    result: CalibrationResult,
    *,
    probability: float = 0.95,
    names: Sequence[str] | None = None,
    title: str = "",
    width: Width = "screen",
) -> Plot:
    """Draw the ECDF of ranks less the uniform one, in the band that holds at all points at once.

    Above the band, posteriors are too high; below, too low; first above and then below, too narrow; the other way, too
    wide. A line that leaves the band is drawn thick.

    Source: Säilynoja, Bürkner and Vehtari (2022), "Graphical test for discrete uniformity and its applications in
    goodness-of-fit evaluation and multiple sample comparison".

    Arguments:
        result: The ranks.
        probability: With which uniform ranks stay within the band.
        names: Of the parameters, by default z₁, z₂, ….
        title: Line above the plot.
        width: `"screen"`, `"column"` or `"page"` of a paper, or inches.

    Raises:
        InvalidInputError: The probability or the width is none, or names are too many or too few.

    Example:
        >>> import torch
        >>> ranks = CalibrationResult(torch.arange(100).unsqueeze(-1), num_draws=99)
        >>> len(plot_calibration_ecdf(ranks).axes[0].lines)  # the parameter, and zero
        2
    """
    band, sheet = result.ecdf_band(probability), sheet_of(width)
    labels = _parameter_names("plot_calibration_ecdf", result, names)
    figure, panels = new_plot(sheet, 2.4 if sheet.is_narrow else 0.4 * sheet.width, title=title)
    axes, points = panels[0, 0], band.points.numpy()
    axes.fill_between(points, band.lower.numpy(), band.upper.numpy(), color=BAND, linewidth=0)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    handles: list[Patch | Line2D] = []
    for place, (label, look) in enumerate(looks_of(labels).items()):
        inside = bool(band.is_inside[place])
        style = {"color": look.colour, "linestyle": look.dashes, "linewidth": sheet.line * (0.8 if inside else 1.8)}
        axes.plot(points, band.differences[:, place].numpy(), **style)
        labels[place] = label if inside else f"{label} (leaves the band)"
        handles.append(Line2D([], [], **style))
    dress(axes, sheet, x="rank / number of draws", y="ECDF − uniform", grid="y")
    axes.set_xlim(0, 1)
    told = f"{100 * band.probability:.3g} % of uniform ranks"
    add_legend(figure, sheet, [*handles[:MOST_PANELS], Patch(color=BAND)], [*labels[:MOST_PANELS], told])
    return figure


@checked
def plot_pareto_k(diagnostics: Mapping[str, WeightDiagnostics], *, title: str = "", width: Width = "screen") -> Plot:
    """Draw the Pareto k̂ of each example's importance weights, smallest first, and the threshold of reliability.

    Weights without a tail, all of them equal, have k̂ = −∞; they are counted at the lower edge.

    Source: Vehtari et al. (2024), "Pareto smoothed importance sampling".

    Arguments:
        diagnostics: By posterior, as `vae_flows.evaluation.diagnose_weights` returns them.
        title: Line above the plot.
        width: `"screen"`, `"column"` or `"page"` of a paper, or inches.

    Raises:
        InvalidInputError: There are none, or the width is none.

    Example:
        >>> import torch
        >>> found = WeightDiagnostics(torch.tensor([50.0, 9.0]), torch.tensor([0.9, 0.1]), 100)
        >>> plot_pareto_k({"planar": found}).axes[0].lines[0].get_ydata().round(2).tolist()
        [0.1, 0.9]
    """
    if not diagnostics or not all(found.pareto_k.numel() for found in diagnostics.values()):
        raise InvalidInputError(complaint("plot_pareto_k diagnostics", "those of one example or more", "none"))
    sheet = sheet_of(width)
    figure, panels = new_plot(sheet, 2.6 if sheet.is_narrow else 0.42 * sheet.width, title=title)
    axes, looks, handles, labels = panels[0, 0], looks_of(diagnostics), [], []
    shapes = {
        name: np.sort(found.pareto_k.detach().double().cpu().numpy().ravel()) for name, found in diagnostics.items()
    }
    finite = np.concatenate([shape[np.isfinite(shape)] for shape in shapes.values()])
    floor = min(-0.1, float(finite.min()) - 0.05) if len(finite) else -0.1
    for name, shape in shapes.items():
        share = (np.arange(len(shape)) + 0.5) / len(shape)
        colour, dashes, marker = looks[name]
        style = {"color": colour, "linestyle": dashes, "marker": marker, "markersize": 1.8 * sheet.line}
        style |= {"linewidth": 0.7 * sheet.line, "markevery": max(1, len(shape) // 40)}
        axes.plot(share, np.maximum(np.nan_to_num(shape, nan=math.inf), floor), **style)
        reliable = float(diagnostics[name].is_reliable.double().mean())
        handles.append(Line2D([], [], **style))
        labels.append(f"{name}: {100 * reliable:.0f} % reliable")
    thresholds = sorted({found.threshold for found in diagnostics.values() if math.isfinite(found.threshold)})
    for threshold in thresholds:
        axes.axhline(threshold, color=INK, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    if thresholds:
        handles.append(Line2D([], [], color=INK, linewidth=0.9, linestyle=(0, (4, 2))))
        labels.append(f"threshold {', '.join(f'{threshold:.2f}' for threshold in thresholds)}")
    dress(axes, sheet, x="share of examples", y="Pareto k̂", grid="y")
    axes.set_xlim(0, 1)
    add_legend(figure, sheet, handles, labels)
    return figure


@checked
def plot_inference_gaps(gaps: Mapping[str, InferenceGap], *, title: str = "", width: Width = "screen") -> Plot:
    """Draw the inference gap of each posterior as a bar of its two parts: approximation, and amortisation.

    Means over the examples, with the standard error of the whole over examples as a line. A part that is estimated
    below zero is drawn to the left of it.

    Source: Cremer, Li and Duvenaud (2018), "Inference suboptimality in variational autoencoders".

    Arguments:
        gaps: By posterior, as `vae_flows.evaluation.inference_gap` returns them.
        title: Line above the plot.
        width: `"screen"`, `"column"` or `"page"` of a paper, or inches.

    Raises:
        InvalidInputError: There are none, or the width is none.

    Example:
        >>> import torch
        >>> zero = torch.zeros(2)
        >>> gap = InferenceGap(torch.tensor([-80.0, -90.0]), zero - 86, zero - 88, zero, zero, torch.zeros(2, 4))
        >>> [float(patch.get_width()) for patch in plot_inference_gaps({"planar": gap}).axes[0].patches]
        [1.0, 2.0]
    """
    if not gaps or not all(gap.elbo.numel() for gap in gaps.values()):
        raise InvalidInputError(complaint("plot_inference_gaps gaps", "those of one example or more", "none"))
    sheet, looks = sheet_of(width), looks_of(gaps)
    figure, panels = new_plot(sheet, 1.0 + 0.034 * sheet.font * len(gaps), title=title)
    axes = panels[0, 0]
    for index, (name, gap) in enumerate(gaps.items()):
        ends = {1: 0.0, -1: 0.0}  # of what is stacked to the right and to the left
        for hatch, part in zip(HATCHES, (gap.approximation, gap.amortization), strict=True):
            mean = float(part.double().mean())
            side = 1 if mean >= 0 else -1
            axes.barh(
                index,
                mean,
                0.62,
                left=ends[side],
                color=looks[name].colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0.6,
            )
            ends[side] += mean
        total, error = _mean_and_error(gap.total)
        axes.errorbar(total, index, xerr=error, color=INK, linewidth=0.9, capsize=2.5)
        text = f"{total:.2f}" if error is None else f"{total:.2f} ± {error:.2f}"
        write_beside(axes, index, text, sheet.font)
    axes.axvline(0, color=INK, linewidth=0.8)
    dress(axes, sheet, x="log p(x) − ELBO (nats per example)", grid="x")
    name_rows(axes, list(gaps))
    handles = [Patch(facecolor=FAINT if not hatch else MUTED, hatch=hatch, edgecolor="white") for hatch in HATCHES]
    add_legend(figure, sheet, handles, ["approximation", "amortisation"])
    return figure


def _mean_and_error(values: Tensor) -> tuple[float, float | None]:
    values = values.double()
    error = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else None
    return float(values.mean()), error


def _parameter_names(owner: str, result: CalibrationResult, names: Sequence[str] | None) -> list[str]:
    count = result.ranks.shape[1]
    labels = [f"z{subscript(place + 1)}" for place in range(count)] if names is None else list(names)
    if len(labels) != count or len(set(labels)) != count:
        raise InvalidInputError(complaint(f"{owner} names", f"{count} different names", labels))
    return labels
