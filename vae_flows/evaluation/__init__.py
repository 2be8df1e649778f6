"""What a trained model is worth: bounds on the log-likelihood of images."""

from vae_flows.evaluation.bounds import EvaluationResult, evaluate

__all__ = ["EvaluationResult", "evaluate"]
