"""What each test image scored, in a small file of the run: what paired differences between runs are made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vae_flows.data import Examples
from vae_flows.errors import DataError, complaint
from vae_flows.evaluation.finished import digest_of_examples
from vae_flows.persistence.archives import read_npz, write_npz
from vae_flows.randomness import seeded
from vae_flows.runs.folder import SCORES
from vae_flows.shown import shown

__all__ = ["RunScores", "digests_of", "read_scores", "require_tested", "write_scores"]

IMAGES_AT_ONCE = 500
REMEDY = "Remove it; `vae-flows evaluate` makes scores anew."


@shown
@dataclass(frozen=True, eq=False)
class RunScores:
    """Scores of each test image, in nats; lower is better.

    Arguments:
        images: A digest of each image, int64 `(N,)`: runs with the same ones were tested on the same images.
        negative_elbo: −ELBO of each, float64 `(N,)`.
        negative_log_likelihood: The importance-sampling estimate of −log p(x), `(N,)`; `None` where there is none.
        importance_samples: Its samples per image.
    """

    images: NDArray[np.int64]
    negative_elbo: NDArray[np.float64]
    negative_log_likelihood: NDArray[np.float64] | None = None
    importance_samples: int = 0


def digests_of(examples: Examples) -> NDArray[np.int64]:
    """Return a digest of each example, the same on every device and, of images that are binarised anew, for all seeds.

    Example:
        >>> from vae_flows.data import TensorExamples
        >>> digests_of(TensorExamples(torch.zeros(3, 2))).tolist() == digests_of(
        ...     TensorExamples(torch.zeros(3, 2))).tolist()
        True
    """
    cpu = torch.device("cpu")
    stored = examples.to(cpu)
    with seeded(cpu, "images of scores") as generator:
        batches = stored.batches(
            torch.arange(len(stored)).split(IMAGES_AT_ONCE), generator=generator, dtype=torch.float32
        )
        return torch.cat([digest_of_examples(batch) for batch in batches]).numpy()


def require_tested(images: NDArray[np.int64], folder: Path, data: str) -> None:
    """Check that examples are those that a finished run was tested on, where it has scores of them.

    Arguments:
        images: Their digests.
        folder: The run's folder.
        data: What the data are given by.

    Raises:
        DataError: They are others: the data changed, or others lie where they were.
    """
    path = folder / SCORES
    if path.exists() and not np.array_equal(read_scores(path).images, images):
        expected, got = "the test examples of the run", "others"
        remedy = f"Put {data} back as it was, or train a run on what it is now."
        raise DataError(complaint(f"data of run {folder}", expected, got, remedy))


def write_scores(path: Path, scores: RunScores) -> None:
    """Write scores, in whole.

    Raises:
        FileError: The file cannot be written.
    """
    arrays = {"images": scores.images, "negative_elbo": scores.negative_elbo}
    if scores.negative_log_likelihood is not None:
        arrays["negative_log_likelihood"] = scores.negative_log_likelihood
        arrays["importance_samples"] = np.int64(scores.importance_samples)
    write_npz(path, arrays)


def read_scores(path: Path) -> RunScores:
    """Read what `write_scores` wrote.

    Raises:
        DataError: The file is missing, damaged, or holds other arrays or numbers that are not finite.
    """
    stored = read_npz(path, ("images", "negative_elbo"), optional=("negative_log_likelihood", "importance_samples"))
    images, bounds, likelihoods = stored["images"], stored["negative_elbo"], stored.get("negative_log_likelihood")
    samples = stored.get("importance_samples", np.zeros((), np.int64))
    scores = [values for values in (bounds, likelihoods) if values is not None]
    fits = (
        ("importance_samples" in stored) == (likelihoods is not None)
        and images.dtype == np.int64
        and images.ndim == 1
        and len(images) > 0
        and all(values.dtype == np.float64 and values.shape == images.shape for values in scores)
        and all(bool(np.isfinite(values).all()) for values in scores)
        and samples.dtype == np.int64
        and samples.shape == ()
    )
    if not fits:
        got = ", ".join(f"{name} {values.dtype}{values.shape}" for name, values in stored.items())
        expected = "digests and finite scores of images, (N,) each"
        raise DataError(complaint(str(path), expected, got, REMEDY))
    return RunScores(images, bounds, likelihoods, int(samples))
