"""What a finished run records of its test, beside the bound."""

from pathlib import Path

import numpy as np

from tests.seeds import numpy_generator
from vae_flows.runs.folder import SCORES
from vae_flows.runs.scores import RunScores, write_scores

__all__ = ["TEST", "score"]

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


def score(folder: Path, bound: float, seed: int = 0, *, images: int = 60, first: int = 0, draws: int = 4) -> None:
    """Write scores of images to the folder of a run: they average to a bound, and, of some draws, to 5 nats less."""
    values = numpy_generator(0).normal(scale=8.0, size=images)  # the same images for all
    values = values + numpy_generator(1 + seed).normal(scale=0.5, size=images)
    values += bound - values.mean()
    digests = np.arange(first, first + images)
    write_scores(folder / SCORES, RunScores(digests, values, values - 5.0 if draws else None, draws))
