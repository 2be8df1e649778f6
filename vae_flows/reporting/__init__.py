"""Reports of what was measured: summaries over seeds, tables and plots."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vae_flows.reporting.summaries import Estimate, PosteriorSummary, Reference, Run, summarize
from vae_flows.reporting.tables import Table, results_table, summaries_to_csv

if TYPE_CHECKING:
    from vae_flows.reporting.plots import image_grid, plot_curves, plot_results

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


def __getattr__(name: str) -> Any:
    # Plots bring matplotlib, which those who read tables need not have.
    if name in ("image_grid", "plot_curves", "plot_results"):
        return getattr(import_module("vae_flows.reporting.plots"), name)
    raise AttributeError(f"module 'vae_flows.reporting' has no attribute {name!r}")
