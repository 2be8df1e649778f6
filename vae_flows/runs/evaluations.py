"""Later tests of a run's best weights: bounds for several K from one set of draws, which go on after a kill."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vae_flows.errors import DataError, NonFiniteLossError, VAEFlowsError, complaint
from vae_flows.evaluation import LikelihoodProgress, LikelihoodResult, estimate_likelihood
from vae_flows.evaluation.finished import count_finished
from vae_flows.evaluation.likelihood import FILE
from vae_flows.evaluation.units import NATS, bits_per_dim, unit_of
from vae_flows.persistence.json_files import read_json, write_json
from vae_flows.persistence.records import checked_record, to_plain
from vae_flows.processes import is_main_process
from vae_flows.runs.build import build_data
from vae_flows.runs.folder import load_settings
from vae_flows.runs.scores import RunScores, digests_of, require_tested, write_scores
from vae_flows.runs.weights import load_best
from vae_flows.shown import shown

__all__ = ["RunEvaluation", "evaluate_run", "evaluation_name", "find_evaluations", "find_interrupted"]

PARTICLES = (10, 100, 1000)
"""Draws of the bounds between −ELBO and −log p(x)."""
PATTERN = "evaluation-*-samples"


@shown
@dataclass(frozen=True)
class RunEvaluation:
    """What a later test found, in nats per image; standard errors are over images.

    Arguments:
        importance_samples: Draws per image; 0 for one draw and no −log p(x).
        negative_elbo: −ELBO, averaged over all draws.
        negative_elbo_standard_error: Its standard error; `None` for a single image.
        negative_log_likelihood: The bound of all draws.
        negative_log_likelihood_standard_error: Its standard error.
        particles: K of the bounds between the two and of both.
        bounds: The bounds.
        distortion: E_q[−log p(x | z)].
        rate: E_q[log q(z | x) − log p(z)].
        effective_sample_size: Of the importance weights, averaged over images.
        monte_carlo_error: What more draws would take from the standard error of −log p(x).
        monte_carlo_bias: By how much −log p(x) is overestimated, to leading order.
        num_images: Images.
        num_dimensions: Values of an image.
        seconds: Wall-clock time.
        samples_per_second: Draws scored in a second.
        log_bin_size: log of the bin of a value, in nats, where values are levels and the likelihood is a density of
            them; else 0.
        unit: Unit in which the literature reports this kind of data, `"nats"` or `"bits/dim"`.
    """

    importance_samples: int
    negative_elbo: float
    negative_elbo_standard_error: float | None
    negative_log_likelihood: float | None
    negative_log_likelihood_standard_error: float | None
    particles: tuple[int, ...]
    bounds: tuple[float, ...]
    distortion: float
    rate: float
    effective_sample_size: float
    monte_carlo_error: float | None
    monte_carlo_bias: float | None
    num_images: int
    num_dimensions: int
    seconds: float
    samples_per_second: float
    log_bin_size: float = 0.0
    unit: str = NATS.name

    def worded(self, nats: float) -> str:
        """Return a bound in nats, and in `unit` where it is another."""
        unit = NATS if self.unit == NATS.name else bits_per_dim(self.num_dimensions, self.log_bin_size)
        return unit.worded(nats)


def evaluation_name(importance_samples: int) -> str:
    """Return what files of a later test are called, without their ending.

    Example:
        >>> evaluation_name(5000)
        'evaluation-5000-samples'
    """
    return PATTERN.replace("*", str(importance_samples))


def evaluate_run(
    folder: Path,
    importance_samples: int,
    *,
    batch_size: int | None = None,
    chunk_size: int | None = None,
    device: str = "cpu",
    devices: int = 1,
    progress: Callable[[LikelihoodProgress], None] | None = None,
) -> RunEvaluation:
    """Test the best weights of the run in `folder` again, and write what came of it, and the score of each image.

    What is finished is kept in a folder of its own until all is: the same call goes on from it.

    Arguments:
        folder: The run's folder.
        importance_samples: Draws per image for −log p(x), or 0.
        batch_size: Images at once, by default what is fast.
        chunk_size: Draws of all images of a batch at once, by default what is fast and takes little memory.
        device: Name of a device, or `"auto"` for a GPU if there is one.
        devices: How many devices of that kind, each with a process that shares the work; the first one writes.
        progress: Called after each batch.

    Raises:
        CheckpointError: There is no checkpoint, it is damaged, or it belongs to another model; or what is finished is
            of other weights or sizes.
        InvalidInputError: There are no such devices, or a size is out of range.
        ProcessError: Another process ended.
        DataError: The data are not those that the run was tested on.
        NonFiniteLossError: A number of the test is NaN or infinite.
    """
    settings = load_settings(folder)
    data = build_data(settings)
    images = digests_of(data.test)
    require_tested(images, folder, settings.data)
    vae = load_best(folder, settings, data, device)
    name = evaluation_name(importance_samples)
    partial = folder / name
    result = estimate_likelihood(
        vae,
        data.test,
        importance_samples=importance_samples or 1,
        particles=[size for size in PARTICLES if size < importance_samples],
        batch_size=batch_size,
        chunk_size=chunk_size,
        seed=settings.seed,
        folder=partial,
        progress=progress,
        devices=devices,
    )
    if not bool(result.log_bounds.isfinite().all()):
        if is_main_process():
            shutil.rmtree(partial)
        remedy = "Are the weights finite? A checkpoint of an earlier epoch, or a smaller learning rate, may help."
        value = result.negative_elbo.nats
        subject = f"test of {settings.posterior} on {settings.data}"
        raise NonFiniteLossError(complaint(subject, "finite numbers", f"an average of {value}", remedy))
    found = _summarize(result, importance_samples, unit_of(data, result.num_dimensions, result.log_bin_size).name)
    if not is_main_process():
        return found
    bounds = -result.log_bounds.numpy()
    likelihoods = bounds[:, -1].copy() if importance_samples else None
    write_scores(folder / f"{name}.npz", RunScores(images, bounds[:, 0].copy(), likelihoods, importance_samples))
    write_json(folder / f"{name}.json", to_plain(found))
    shutil.rmtree(partial)
    return found


def find_evaluations(folder: Path) -> tuple[RunEvaluation, ...]:
    """Return the later tests of a run, by rising numbers of draws.

    Raises:
        DataError: One is damaged.
    """
    found = [_read(path) for path in folder.glob(f"{PATTERN}.json")]
    return tuple(sorted(found, key=lambda evaluation: evaluation.importance_samples))


def find_interrupted(folder: Path) -> tuple[tuple[str, str], ...]:
    """Return names of tests of a run that are not finished, under way or interrupted, and how far each has come."""
    found = []
    for path in sorted(folder.glob(f"{PATTERN}/{FILE}")):
        try:
            done, count = count_finished(path)
            told = f"{done} of {count} images so far"
        except VAEFlowsError as error:
            told = str(error)
        found.append((path.parent.name, told))
    return tuple(found)


def _summarize(result: LikelihoodResult, importance_samples: int, unit: str) -> RunEvaluation:
    elbo, likelihood = result.negative_elbo, result.negative_log_likelihood
    with_draws = importance_samples > 0
    return RunEvaluation(
        importance_samples=importance_samples,
        negative_elbo=elbo.nats,
        negative_elbo_standard_error=_or_none(elbo.standard_error),
        negative_log_likelihood=likelihood.nats if with_draws else None,
        negative_log_likelihood_standard_error=_or_none(likelihood.standard_error) if with_draws else None,
        particles=result.particles,
        bounds=tuple(bound.nats for bound in result.bounds),
        distortion=float(result.distortion.mean()),
        rate=float(result.rate.mean()),
        effective_sample_size=float(result.effective_sample_size.mean()),
        monte_carlo_error=_or_none(result.monte_carlo_error),
        monte_carlo_bias=_or_none(result.monte_carlo_bias),
        num_images=len(result.rate),
        num_dimensions=result.num_dimensions,
        seconds=result.seconds,
        samples_per_second=result.samples_per_second,
        log_bin_size=result.log_bin_size,
        unit=unit,
    )


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _read(path: Path) -> RunEvaluation:
    plain = read_json(path)
    try:
        found = checked_record(RunEvaluation, plain)
        numbers = [found.negative_elbo, *found.bounds, found.effective_sample_size, found.samples_per_second]
        numbers.append(found.log_bin_size)
        if found.negative_log_likelihood is not None:
            numbers.append(found.negative_log_likelihood)
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError("numbers that are not finite")
    except (VAEFlowsError, TypeError, ValueError) as error:
        remedy = "Remove it, and evaluate again."
        raise DataError(
            complaint(str(path), "what a test of a run found", f"other content ({error})", remedy)
        ) from None
    return found
