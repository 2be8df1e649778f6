"""Pictures of ablations: differences with their intervals beside what they cost, and curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.ablations.findings import Finding, NoiseFinding, ToleranceFinding
from experiments.ablations.questions import Question
from vae_flows.reporting import Estimate
from vae_flows.reporting.plots.looks import COLOURS, INK, MUTED
from vae_flows.reporting.plots.sheets import Plot, add_legend, dress, name_rows, new_plot, sheet_of

__all__ = ["plot_noise", "plot_settings", "plot_tolerances", "plot_training"]

ROW_INCHES, PANEL_INCHES = 0.32, 3.0
BLUE, ORANGE = COLOURS[5], COLOURS[6]


def plot_settings(question: Question, findings: Sequence[Finding]) -> Plot:
    """Draw a row for each setting: the difference of −ELBO with its interval, and the cost of each seed's average."""
    sheet = sheet_of("screen")
    figure, panels = new_plot(sheet, 1.2 + ROW_INCHES * len(findings), 1, 2, title=question.text, sharey=True)
    left, right = panels[0]
    name_rows(left, [found.setting.name for found in findings])
    left.axvline(0.0, color=MUTED, linewidth=0.8)
    for row, found in enumerate(findings):
        if found.difference is not None:
            value, lower, upper = found.difference[:3]
            colour = BLUE if found.difference.is_real else MUTED
            left.errorbar(value, row, xerr=[[value - lower], [upper - value]], fmt="o", color=colour, markersize=4)
        cost = found.evaluations if question.cost == "evaluations" else found.step_time
        right.errorbar(cost.mean, row, xerr=cost.std or 0.0, fmt="o", color=ORANGE, markersize=4)
    dress(left, sheet, x="difference of −ELBO (nats)", grid="x")
    name = "evaluations / solve" if question.cost == "evaluations" else "step time / default's"
    dress(right, sheet, x=f"{name}, mean ± std over seeds", grid="x")
    return figure


def plot_training(question: Question, findings: Sequence[Finding]) -> Plot:
    """Draw evaluations of a solve by epoch, a line a seed."""
    sheet = sheet_of("screen")
    figure, panels = new_plot(sheet, PANEL_INCHES, title=question.text)
    axes = panels[0, 0]
    for found in findings:
        for of_seed in found.by_epoch:
            axes.plot(np.arange(1, len(of_seed) + 1), of_seed, color=BLUE, marker="o", markersize=3)
    dress(axes, sheet, x="epoch", y="evaluations / solve", grid="y")
    return figure


def plot_tolerances(question: Question, findings: Sequence[ToleranceFinding]) -> Plot:
    """Draw, against the tolerance, evaluations of a solve and the errors of log q and −ELBO."""
    sheet = sheet_of("screen")
    figure, panels = new_plot(sheet, PANEL_INCHES, 1, 2, title=question.text)
    left, right = panels[0]
    others = [found for found in findings if found.difference is not None]
    tolerances = [found.tolerance for found in others]
    left.errorbar(tolerances, *_means([found.evaluations for found in others]), color=BLUE, marker="o", markersize=4)
    errors, _ = _means([found.log_q_error for found in others])
    bounds = [abs(found.difference.value) for found in others if found.difference is not None]
    lines = [
        right.plot(tolerances, errors, color=ORANGE, marker="o", markersize=4)[0],
        right.plot(tolerances, bounds, color=INK, marker="s", markersize=4, linestyle="--")[0],
    ]
    for axes in (left, right):
        axes.set_xscale("log")
    right.set_yscale("log")
    dress(left, sheet, x="tolerance", y="evaluations / solve", grid="y")
    dress(right, sheet, x="tolerance", y="error (nats)", grid="y")
    add_legend(figure, sheet, lines, ["of log q, root mean square", "of −ELBO, absolute"])
    return figure


def plot_noise(question: Question, findings: Sequence[NoiseFinding]) -> Plot:
    """Draw the variance of log q under each estimate, a row each; what is exact has none and no point."""
    sheet = sheet_of("screen")
    names = list(dict.fromkeys(found.estimate for found in findings))
    settings = list(dict.fromkeys(found.setting.name for found in findings))
    figure, panels = new_plot(sheet, 1.2 + ROW_INCHES * len(names), title=question.text)
    axes, handles = panels[0, 0], []
    name_rows(axes, names)
    for colour, marker, setting in zip((BLUE, ORANGE), "os", settings, strict=False):
        shown = [found for found in findings if found.setting.name == setting and found.variance.mean > 0]
        rows = [names.index(found.estimate) for found in shown]
        variances = [found.variance.mean for found in shown]
        handles += axes.plot(variances, rows, color=colour, marker=marker, linestyle="", markersize=5)
    axes.set_xscale("log")
    dress(axes, sheet, x="variance of log q (nats²)", grid="x")
    add_legend(figure, sheet, handles, settings)
    return figure


def _means(estimates: Sequence[Estimate]) -> tuple[list[float], list[float]]:
    return [estimate.mean for estimate in estimates], [estimate.std or 0.0 for estimate in estimates]
