"""What a run does: it trains, tests the best weights, draws pictures, diagnoses, and leaves its metrics."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vae_flows.data import DataSet
from vae_flows.errors import NonFiniteLossError, complaint
from vae_flows.evaluation import EvaluationResult
from vae_flows.evaluation.bounds import evaluate_each
from vae_flows.evaluation.units import unit_of
from vae_flows.networks import count_parameters
from vae_flows.persistence.archives import write_npz
from vae_flows.persistence.batches import complete_batch
from vae_flows.persistence.files import exclusive, sweep
from vae_flows.persistence.json_files import read_json, write_json
from vae_flows.persistence.records import to_plain
from vae_flows.processes import is_main_process
from vae_flows.runs.build import build_data, build_vae
from vae_flows.runs.diagnosis import diagnose, write_diagnostics
from vae_flows.runs.folder import FAILURE, IMAGES, LAST, LOCK_SECONDS, METRICS, SCORES, data_name, load_settings
from vae_flows.runs.provenance import describe_provenance
from vae_flows.runs.scores import RunScores, digests_of, write_scores
from vae_flows.runs.settings import RunSettings
from vae_flows.training import TrainingResult, train
from vae_flows.training.logs import RunLogs
from vae_flows.vae import VAE

__all__ = ["execute"]

IMAGE_COUNT = 12


def execute(folder: Path, *, progress: bool = False) -> dict[str, Any] | None:
    """Train and test the run that `settings.json` in `folder` defines, from its checkpoint where it has one.

    A run that is finished is left as it is.

    Arguments:
        folder: The run's folder.
        progress: Whether to show a progress bar.

    Returns:
        What `metrics.json` holds, or `None` in the helper processes of a run that trains in several.

    Raises:
        FolderInUseError: Another process works on this run.
        FileError: The folder cannot be written to, or was removed meanwhile.
        NonFiniteLossError: Training or test met a number that is NaN or infinite.
    """
    settings = load_settings(folder)
    if not is_main_process():
        if (folder / METRICS).exists():
            return None
        data, vae, _ = _train(folder, settings, progress=False)
        _test(vae, data, settings)
        return None
    with exclusive(folder, wait=LOCK_SECONDS) as lock:
        sweep(folder)
        complete_batch(folder)
        (folder / FAILURE).unlink(missing_ok=True)
        if (folder / METRICS).exists():  # another process may have finished it while this one came up
            return read_json(folder / METRICS)
        start = time.perf_counter()
        data, vae, trained = _train(folder, settings, progress=progress)
        lock.require()
        tested, scores = _test(vae, data, settings)
        lock.require()
        write_scores(folder / SCORES, scores)
        images = {} if data.pixels is None else _draw_images(vae, data, settings.seed)
        if images:
            write_npz(folder / IMAGES, images)
        with RunLogs(folder, len(trained.history), settings.training.loggers) as logs:
            logs.write_test(dataclasses.asdict(tested), trained.best_epoch)
            logs.write_images(images, trained.best_epoch)
        metrics = _metrics(settings, data, vae, trained, tested) | {"seconds": time.perf_counter() - start}
        if settings.evaluation.diagnostics:
            diagnosed = diagnose(vae, data, seed=settings.seed)
            lock.require()
            write_diagnostics(folder, *diagnosed)
        write_json(folder / METRICS, metrics)
        (folder / FAILURE).unlink(missing_ok=True)
    return metrics


def _train(folder: Path, settings: RunSettings, *, progress: bool) -> tuple[DataSet, VAE, TrainingResult]:
    data = build_data(settings)
    vae = build_vae(settings, data)
    resume = (folder / LAST).exists()
    trained = train(
        vae,
        data,
        settings.training,
        folder=folder,
        compute=settings.compute,
        resume=resume,
        progress=progress,
    )
    return data, vae, trained


def _test(vae: VAE, data: DataSet, settings: RunSettings) -> tuple[EvaluationResult, RunScores]:
    options = settings.evaluation
    result, scores = evaluate_each(
        vae,
        data.test,
        batch_size=options.batch_size,
        importance_samples=options.importance_samples,
        chunk_size=options.chunk_size,
        seed=settings.seed,
        devices=settings.compute.devices,
    )
    for name in ("negative_elbo", "negative_log_likelihood"):
        value = getattr(result, name)
        if value is not None and not math.isfinite(value):
            subject = f"test of {settings.posterior} on {settings.data}, {name}"
            remedy = "Are the weights finite? A checkpoint of an earlier epoch, or a smaller learning rate, may help."
            raise NonFiniteLossError(complaint(subject, "a finite number", value, remedy))
    likelihoods = None if scores.bound is None else -scores.bound.numpy()
    bounds = scores.negative_elbo.numpy()
    return result, RunScores(digests_of(data.test), bounds, likelihoods, options.importance_samples)


def _draw_images(vae: VAE, data: DataSet, seed: int) -> dict[str, NDArray[np.uint8]]:
    """Return originals, reconstructions and samples `(N, C, H, W)` by name, as grey levels in 0 … 255."""
    device = next(vae.parameters()).device
    vae.eval()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        originals = data.test.take(IMAGE_COUNT).batch().to(device)
        reconstructions, samples = vae.reconstruct(originals), vae.generate(IMAGE_COUNT)
    images = {"originals": originals, "reconstructions": reconstructions, "samples": samples}
    return {name: _levels(batch) for name, batch in images.items()}


def _levels(images: Tensor) -> NDArray[np.uint8]:
    return (images.clamp(0, 1) * 255).round().byte().cpu().numpy()


def _metrics(
    settings: RunSettings, data: DataSet, vae: VAE, trained: TrainingResult, tested: EvaluationResult
) -> dict[str, Any]:
    history = [dataclasses.asdict(epoch) for epoch in trained.history]
    unit = unit_of(data, tested.num_pixels, tested.log_bin_size)
    return {
        "data": data_name(settings),
        "data_description": data.description,
        "has_images": data.pixels is not None,
        "posterior": settings.posterior,
        "seed": settings.seed,
        "unit": unit.name,
        "nats_per_unit": unit.nats,
        "nats_at_zero": unit.zero,
        "test": dataclasses.asdict(tested),
        "best_epoch": trained.best_epoch,
        "best_validation_negative_elbo": trained.best_validation_negative_elbo,
        "stopped_early": trained.stopped_early,
        "training_seconds": trained.seconds,
        "forward_evaluations": trained.forward_evaluations,
        "parameters": count_parameters(vae),
        "posterior_parameters": count_parameters(cast(torch.nn.Module, vae.posterior)),
        "settings": to_plain(settings),
        **describe_provenance(),
        "history": {name: [epoch[name] for epoch in history] for name in (history[0] if history else ())},
    }
