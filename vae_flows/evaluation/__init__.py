"""What a trained model is worth: bounds on the log-likelihood of images, and the calibration of posteriors."""

from vae_flows.evaluation.bounds import EvaluationResult, evaluate
from vae_flows.evaluation.calibration import CalibrationResult, simulation_based_calibration
from vae_flows.evaluation.importance import (
    ImportanceBounds,
    WeightDiagnostics,
    diagnose_weights,
    effective_sample_size,
    importance_weighted_bounds,
    sample_log_weights,
)
from vae_flows.evaluation.likelihood import Bound, LikelihoodProgress, LikelihoodResult, estimate_likelihood

__all__ = [
    "Bound",
    "CalibrationResult",
    "EvaluationResult",
    "ImportanceBounds",
    "LikelihoodProgress",
    "LikelihoodResult",
    "WeightDiagnostics",
    "diagnose_weights",
    "effective_sample_size",
    "estimate_likelihood",
    "evaluate",
    "importance_weighted_bounds",
    "sample_log_weights",
    "simulation_based_calibration",
]
