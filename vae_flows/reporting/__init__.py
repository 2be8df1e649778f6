"""Reports of what was measured: summaries over seeds, tables and plots."""

from vae_flows.reporting.plots import image_grid, plot_curves, plot_results
from vae_flows.reporting.summaries import Estimate, PosteriorSummary, Reference, Run, summarize
from vae_flows.reporting.tables import Table, results_table, summaries_to_csv

__all__ = [
    "Estimate",
    "PosteriorSummary",
    "Reference",
    "Run",
    "Table",
    "image_grid",
    "plot_curves",
    "plot_results",
    "results_table",
    "summaries_to_csv",
    "summarize",
]
