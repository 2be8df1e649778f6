"""Reports of what was measured: summaries over seeds, tables and plots."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vae_flows.reporting.summaries import Estimate, PosteriorSummary, Recorded, Reference, RunResult, summarize
from vae_flows.reporting.tables import Table, results_table, summaries_to_csv

if TYPE_CHECKING:
    from vae_flows.reporting.plots import (
        draw_aggregate,
        image_grid,
        plot_aggregate_posterior,
        plot_calibration_ecdf,
        plot_costs,
        plot_curves,
        plot_elbo_by_time,
        plot_evaluations_by_epoch,
        plot_inference_gaps,
        plot_interpolations,
        plot_marginals,
        plot_pareto_k,
        plot_posteriors,
        plot_rank_histograms,
        plot_reconstructions,
        plot_results,
        plot_samples,
        plot_traversals,
        save_figure,
    )

__all__ = [
    "Estimate",
    "PosteriorSummary",
    "Recorded",
    "Reference",
    "RunResult",
    "Table",
    "draw_aggregate",
    "image_grid",
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
    "results_table",
    "save_figure",
    "summaries_to_csv",
    "summarize",
]


# Plots bring matplotlib, which those who read tables need not have.
def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("vae_flows.reporting.plots"), name)
    raise AttributeError(f"module 'vae_flows.reporting' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
