"""Figures of what was measured and of what models make.

Each function returns a matplotlib `Figure` without pyplot: no global state, no window, no backend chosen. A notebook
shows it; `save_figure(figure, "name.pdf")` writes it. `width="column"` or `"page"` lays it out for a paper.
"""

from vae_flows.reporting.plots.curves import plot_curves, plot_elbo_by_time, plot_evaluations_by_epoch
from vae_flows.reporting.plots.diagnostics import (
    plot_calibration_ecdf,
    plot_inference_gaps,
    plot_pareto_k,
    plot_rank_histograms,
)
from vae_flows.reporting.plots.generated import (
    plot_interpolations,
    plot_marginals,
    plot_reconstructions,
    plot_samples,
    plot_traversals,
)
from vae_flows.reporting.plots.images import image_grid
from vae_flows.reporting.plots.latents import AggregateDraws, draw_aggregate, plot_aggregate_posterior, plot_posteriors
from vae_flows.reporting.plots.looks import COLOURS, FAINT, INK, Look, looks_of
from vae_flows.reporting.plots.results import plot_costs, plot_results
from vae_flows.reporting.plots.saving import save_figure
from vae_flows.reporting.plots.sheets import DPI, WIDTHS, Plot, Width, to_png

__all__ = [
    "COLOURS",
    "DPI",
    "FAINT",
    "INK",
    "WIDTHS",
    "AggregateDraws",
    "Look",
    "Plot",
    "Width",
    "draw_aggregate",
    "image_grid",
    "looks_of",
    "plot_aggregate_posterior",
    "plot_calibration_ecdf",
    "plot_costs",
    "plot_curves",
    "plot_elbo_by_time",
    "plot_evaluations_by_epoch",
    "plot_inference_gaps",
    "plot_interpolations",
    "plot_marginals",
    "plot_pareto_k",
    "plot_posteriors",
    "plot_rank_histograms",
    "plot_reconstructions",
    "plot_results",
    "plot_samples",
    "plot_traversals",
    "save_figure",
    "to_png",
]
