"""What a trained model is worth: bounds on the log-likelihood of images, and the calibration of posteriors."""

from vae_flows.evaluation.bounds import EvaluationResult, evaluate
from vae_flows.evaluation.calibration import CalibrationResult, simulation_based_calibration

__all__ = ["CalibrationResult", "EvaluationResult", "evaluate", "simulation_based_calibration"]
