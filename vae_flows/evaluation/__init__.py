"""What a trained model is worth: bounds on the log-likelihood of images, diagnostics and calibration of posteriors."""

from vae_flows.evaluation.active_units import ActiveUnits, active_units
from vae_flows.evaluation.bounds import EvaluationResult, evaluate
from vae_flows.evaluation.calibration import CalibrationResult, simulation_based_calibration
from vae_flows.evaluation.comparison import PairedDifference, Ranking, paired_difference, rank_posteriors
from vae_flows.evaluation.density_checks import (
    DensityIntegral,
    RoundTripError,
    TraceNoise,
    density_integral,
    round_trip_error,
    trace_noise,
)
from vae_flows.evaluation.estimates import MeanEstimate
from vae_flows.evaluation.importance import (
    ImportanceBounds,
    WeightDiagnostics,
    diagnose_weights,
    effective_sample_size,
    importance_weighted_bounds,
    sample_log_weights,
)
from vae_flows.evaluation.inference_gap import InferenceGap, inference_gap, local_context
from vae_flows.evaluation.information import InformationResult, estimate_information
from vae_flows.evaluation.likelihood import Bound, LikelihoodProgress, LikelihoodResult, estimate_likelihood
from vae_flows.evaluation.monte_carlo import (
    Moments,
    MonteCarloEstimate,
    estimate_entropy,
    estimate_kl_divergence,
    estimate_moments,
)
from vae_flows.evaluation.posterior_grid import FlowPaths, PosteriorGrid, flow_paths, posterior_grid
from vae_flows.evaluation.two_sample import TwoSampleResult, compare_aggregate_posterior, kernel_two_sample_test
from vae_flows.evaluation.uniformity import RankBand, RankHistogram

__all__ = [
    "ActiveUnits",
    "Bound",
    "CalibrationResult",
    "DensityIntegral",
    "EvaluationResult",
    "FlowPaths",
    "ImportanceBounds",
    "InferenceGap",
    "InformationResult",
    "LikelihoodProgress",
    "LikelihoodResult",
    "MeanEstimate",
    "Moments",
    "MonteCarloEstimate",
    "PairedDifference",
    "PosteriorGrid",
    "RankBand",
    "RankHistogram",
    "Ranking",
    "RoundTripError",
    "TraceNoise",
    "TwoSampleResult",
    "WeightDiagnostics",
    "active_units",
    "compare_aggregate_posterior",
    "density_integral",
    "diagnose_weights",
    "effective_sample_size",
    "estimate_entropy",
    "estimate_information",
    "estimate_kl_divergence",
    "estimate_likelihood",
    "estimate_moments",
    "evaluate",
    "flow_paths",
    "importance_weighted_bounds",
    "inference_gap",
    "kernel_two_sample_test",
    "local_context",
    "paired_difference",
    "posterior_grid",
    "rank_posteriors",
    "round_trip_error",
    "sample_log_weights",
    "simulation_based_calibration",
    "trace_noise",
]
