"""What a finished run records of its test, beside the bound."""

__all__ = ["TEST"]

TEST = {
    "negative_elbo_standard_error": 1.0,
    "negative_log_likelihood_term": 90.0,
    "kl": 10.0,
    "negative_log_likelihood": 95.0,
    "negative_log_likelihood_standard_error": 1.0,
    "importance_samples": 4,
    "num_images": 60,
    "num_pixels": 784,
    "evaluations_per_solve": None,
    "seconds": 1.0,
}
