"""One valid call of every public callable of `vae_flows.reporting`."""

from __future__ import annotations

from collections.abc import Callable

import torch

import vae_flows as vf
from tests.valid_calls.parts import (
    CONTEXT,
    LATENT,
    folder,
    images,
    levels,
    posterior,
    vae,
)
from tests.wrong_values import ValidCall
from vae_flows import reporting
from vae_flows.networks import (
    MLPDecoder,
    MLPEncoder,
)

__all__ = ["CALLS"]

SHEET = {"title": "title", "width": "column"}


def run(seed: int = 0) -> reporting.RunResult:
    measured = {"seconds_per_epoch": 3.0, "epoch_seconds": (3.0, 3.0), "epoch_evaluations": (14.0, 20.0)}
    return reporting.RunResult("data", "planar", seed, negative_elbo=1.0, curve=(2.0, 1.0), **measured)


def summaries() -> tuple[reporting.PosteriorSummary, ...]:
    return reporting.summarize([run(), run(1)])["data"]


def table() -> reporting.Table:
    return reporting.results_table(summaries())


def table_vae() -> vf.VAE:
    parts = MLPEncoder((2,), (4,), CONTEXT), MLPDecoder(LATENT, (2,), (4,)), posterior()
    return vf.VAE(*parts, vf.likelihoods.GaussianLikelihood(scale=1.0, event_dim=1))


def ranks() -> vf.evaluation.CalibrationResult:
    return vf.evaluation.CalibrationResult(torch.randint(0, 10, (20, 1)), num_draws=9)


CALLS: dict[str, Callable[[], ValidCall]] = {
    "reporting.RunResult": lambda: ValidCall(
        reporting.RunResult,
        {
            "data": "data",
            "posterior": "planar",
            "seed": 0,
            "status": "finished",
            "unit": "nats",
            "negative_elbo": 1.0,
            "curve": (2.0, 1.0),
        },
        lambda made: (
            reporting.results_table(reporting.summarize([made])["data"]).to_markdown() if made.data == "data" else None
        ),
    ),
    "reporting.Estimate.of": lambda: ValidCall(reporting.Estimate.of, {"values": [1.0, 2.0]}),
    "reporting.Estimate.text": lambda: ValidCall(reporting.Estimate.of([1.0, 2.0]).text, {"decimals": 1}),
    "reporting.summarize": lambda: ValidCall(reporting.summarize, {"runs": [run(), run(1)]}),
    "reporting.results_table": lambda: ValidCall(
        reporting.results_table,
        {"summaries": summaries(), "reference": reporting.Reference("a paper", {}), "notes": ("a note",)},
        lambda made: made.to_markdown(),
    ),
    "reporting.summaries_to_csv": lambda: ValidCall(
        reporting.summaries_to_csv, {"summaries": summaries(), "references": {"data": reporting.Reference("p", {})}}
    ),
    "reporting.Table.to_markdown": lambda: ValidCall(table().to_markdown),
    "reporting.Table.to_rich": lambda: ValidCall(table().to_rich),
    "reporting.plot_curves": lambda: ValidCall(reporting.plot_curves, {"runs": [run()], **SHEET}),
    "reporting.plot_elbo_by_time": lambda: ValidCall(reporting.plot_elbo_by_time, {"runs": [run()], **SHEET}),
    "reporting.plot_evaluations_by_epoch": lambda: ValidCall(
        reporting.plot_evaluations_by_epoch, {"runs": [run()], **SHEET}
    ),
    "reporting.plot_costs": lambda: ValidCall(reporting.plot_costs, {"runs": [run()], **SHEET}),
    "reporting.plot_results": lambda: ValidCall(
        reporting.plot_results, {"runs": [run()], "summaries": summaries(), **SHEET}
    ),
    "reporting.image_grid": lambda: ValidCall(reporting.image_grid, {"rows": {"row": torch.rand(3, 1, 4, 4)}, **SHEET}),
    "reporting.plot_reconstructions": lambda: ValidCall(
        reporting.plot_reconstructions, {"models": {"planar": vae()}, "x": images(), "seed": 0, **SHEET}
    ),
    "reporting.plot_samples": lambda: ValidCall(
        reporting.plot_samples, {"models": vae(), "count": 3, "seed": 0, **SHEET}
    ),
    "reporting.plot_traversals": lambda: ValidCall(
        reporting.plot_traversals,
        {"vae": vae(), "x": images()[:1], "latents": [0], "num_latents": 1, "num_steps": 3, "seed": 0, **SHEET},
    ),
    "reporting.plot_interpolations": lambda: ValidCall(
        reporting.plot_interpolations,
        {
            "vae": vae(),
            "start": images(),
            "end": images(),
            "num_steps": 3,
            "path": "spherical",
            "seed": 0,
            **SHEET,
        },
    ),
    "reporting.plot_marginals": lambda: ValidCall(
        reporting.plot_marginals,
        {"vae": table_vae(), "data": torch.rand(6, 2), "names": ["a", "b"], "count": 5, "seed": 0, **SHEET},
    ),
    "reporting.plot_posteriors": lambda: ValidCall(
        reporting.plot_posteriors, {"models": {"planar": vae()}, "x": images(), "num_cells": 8, "seed": 0, **SHEET}
    ),
    "reporting.draw_aggregate": lambda: ValidCall(
        reporting.draw_aggregate, {"vae": vae(), "data": levels(), "count": 5, "projection": "active", "seed": 0}
    ),
    "reporting.plot_aggregate_posterior": lambda: ValidCall(
        reporting.plot_aggregate_posterior,
        {"vae": vae(), "data": levels(), "count": 5, "projection": "pca", "seed": 0, **SHEET},
    ),
    "reporting.plot_rank_histograms": lambda: ValidCall(
        reporting.plot_rank_histograms,
        {"result": ranks(), "num_bins": 5, "probability": 0.9, "names": ["a"], **SHEET},
    ),
    "reporting.plot_calibration_ecdf": lambda: ValidCall(
        reporting.plot_calibration_ecdf, {"result": ranks(), "probability": 0.9, "names": ["a"], **SHEET}
    ),
    "reporting.plot_pareto_k": lambda: ValidCall(
        reporting.plot_pareto_k,
        {"diagnostics": {"planar": vf.evaluation.WeightDiagnostics(torch.ones(3), torch.rand(3), 100)}, **SHEET},
    ),
    "reporting.plot_inference_gaps": lambda: ValidCall(
        reporting.plot_inference_gaps,
        {"gaps": {"planar": vf.evaluation.InferenceGap(*torch.rand(5, 3), torch.rand(3, 2))}, **SHEET},
    ),
    "reporting.save_figure": lambda: ValidCall(
        reporting.save_figure, {"figure": reporting.plot_curves([run()]), "path": folder() / "figure.svg"}
    ),
}
