"""One valid call of every public callable of `vae_flows.evaluation`."""

from __future__ import annotations

from collections.abc import Callable

import torch

import vae_flows as vf
from tests.valid_calls.parts import (
    conditional,
    context,
    density,
    images,
    latents,
    levels,
    posterior,
    vae,
)
from tests.wrong_values import ValidCall

__all__ = ["CALLS"]


CALLS: dict[str, Callable[[], ValidCall]] = {
    "evaluation.estimate_entropy": lambda: ValidCall(
        vf.evaluation.estimate_entropy, {"q": density(), "num_samples": 4, "chunk_size": 2}
    ),
    "evaluation.estimate_moments": lambda: ValidCall(
        vf.evaluation.estimate_moments, {"q": density(), "num_samples": 4, "chunk_size": 2}
    ),
    "evaluation.estimate_kl_divergence": lambda: ValidCall(
        vf.evaluation.estimate_kl_divergence, {"q": density(), "p": density(), "num_samples": 4, "chunk_size": 2}
    ),
    "evaluation.evaluate": lambda: ValidCall(
        vf.evaluation.evaluate,
        {
            "vae": vae(),
            "data": levels(),
            "batch_size": 3,
            "importance_samples": 2,
            "chunk_size": 1,
            "seed": 0,
            "devices": 1,
        },
        leave=("devices",),  # another number starts the tests once more
    ),
    "evaluation.estimate_likelihood": lambda: ValidCall(
        vf.evaluation.estimate_likelihood,
        {
            "vae": vae(),
            "data": levels(),
            "importance_samples": 4,
            "particles": (2,),
            "batch_size": 3,
            "chunk_size": 6,
            "seed": 0,
            "folder": None,
            "progress": lambda step: None,
            "devices": 1,
        },
        leave=("devices",),  # another number starts the tests once more
    ),
    "evaluation.importance_weighted_bounds": lambda: ValidCall(
        vf.evaluation.importance_weighted_bounds,
        {"log_joint": conditional, "q": density(), "particles": (2,), "num_samples": 4, "chunk_size": 3},
    ),
    "evaluation.sample_log_weights": lambda: ValidCall(
        vf.evaluation.sample_log_weights,
        {"log_joint": conditional, "q": density(), "num_samples": 4, "chunk_size": 3},
    ),
    "evaluation.effective_sample_size": lambda: ValidCall(
        vf.evaluation.effective_sample_size, {"log_weights": torch.randn(5, 2)}
    ),
    "evaluation.diagnose_weights": lambda: ValidCall(
        vf.evaluation.diagnose_weights, {"log_weights": torch.randn(50, 2)}
    ),
    "evaluation.estimate_information": lambda: ValidCall(
        vf.evaluation.estimate_information,
        {"vae": vae(), "data": levels(), "num_images": 3, "chunk_size": 2, "seed": 0},
    ),
    "evaluation.active_units": lambda: ValidCall(
        vf.evaluation.active_units,
        {"vae": vae(), "data": levels(), "num_samples": 2, "threshold": 0.01, "batch_size": 3, "seed": 0},
    ),
    "evaluation.kernel_two_sample_test": lambda: ValidCall(
        vf.evaluation.kernel_two_sample_test,
        {
            "x": latents(),
            "y": latents(),
            "bandwidth": 1.0,
            "num_permutations": 2,
            "generator": torch.Generator().manual_seed(0),
        },
    ),
    "evaluation.compare_aggregate_posterior": lambda: ValidCall(
        vf.evaluation.compare_aggregate_posterior,
        {"vae": vae(), "data": levels(), "num_draws": 4, "num_permutations": 2, "seed": 0},
    ),
    "evaluation.inference_gap": lambda: ValidCall(
        vf.evaluation.inference_gap,
        {
            "vae": vae(),
            "x": images(),
            "family": "context",
            "num_steps": 2,
            "num_particles": 2,
            "learning_rate": 0.1,
            "num_samples": 4,
            "chunk_size": 3,
            "seed": 0,
        },
    ),
    "evaluation.local_context": lambda: ValidCall(
        vf.evaluation.local_context,
        {
            "log_joint": conditional,
            "posterior": posterior(),
            "context": context(),
            "num_steps": 2,
            "num_particles": 2,
            "learning_rate": 0.1,
        },
    ),
    "evaluation.trace_noise": lambda: ValidCall(
        vf.evaluation.trace_noise, {"vae": vae(), "x": images(), "num_noise_draws": 2, "seed": 0}
    ),
    "evaluation.round_trip_error": lambda: ValidCall(
        vf.evaluation.round_trip_error, {"q": density(), "num_samples": 2}
    ),
    "evaluation.density_integral": lambda: ValidCall(
        vf.evaluation.density_integral, {"q": density(), "num_samples": 20, "chunk_size": 15}
    ),
    "evaluation.simulation_based_calibration": lambda: ValidCall(
        vf.evaluation.simulation_based_calibration,
        {
            "prior_sample": lambda n: torch.randn(n, 1),
            "simulate": lambda theta: theta,
            "posterior_sample": lambda x, count: torch.randn(count, *x.shape),
            "num_simulations": 20,
            "num_draws": 9,
            "chunk_size": 10,
        },
        lambda result: result.p_values(2),
    ),
    "evaluation.paired_difference": lambda: ValidCall(
        vf.evaluation.paired_difference,
        {
            "first": torch.randn(2, 5),
            "second": torch.randn(2, 5),
            "confidence": 0.9,
            "num_resamples": 10,
            "seed": 0,
        },
    ),
    "evaluation.rank_posteriors": lambda: ValidCall(
        vf.evaluation.rank_posteriors,
        {
            "scores": {"a": torch.randn(2, 5), "b": torch.randn(2, 5)},
            "confidence": 0.9,
            "num_resamples": 10,
            "seed": 0,
        },
    ),
    "evaluation.CalibrationResult.histogram": lambda: ValidCall(
        vf.evaluation.CalibrationResult(torch.randint(10, (20, 1)), 9).histogram, {"num_bins": 2, "probability": 0.9}
    ),
    "evaluation.CalibrationResult.ecdf_band": lambda: ValidCall(
        vf.evaluation.CalibrationResult(torch.randint(10, (20, 1)), 9).ecdf_band, {"probability": 0.9, "num_points": 5}
    ),
    "evaluation.CalibrationResult.p_values": lambda: ValidCall(
        vf.evaluation.CalibrationResult(torch.randint(10, (20, 1)), 9).p_values, {"num_bins": 2}
    ),
    "evaluation.posterior_grid": lambda: ValidCall(
        vf.evaluation.posterior_grid, {"vae": vae(), "x": images(), "num_cells": 8, "seed": 0}
    ),
    "evaluation.flow_paths": lambda: ValidCall(
        vf.evaluation.flow_paths, {"q": density(), "num_samples": 3, "num_steps": 2}
    ),
}
