"""One run: a folder that holds everything that came of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from experiments.images.fit import CPU, Moment, Training, evaluate
from experiments.images.settings import ImageSettings, build_density
from vae_flows.data import Images, load
from vae_flows.errors import DataError, complaint
from vae_flows.persistence.archives import write_npz
from vae_flows.persistence.files import exclusive, sweep
from vae_flows.persistence.json_files import read_json, write_json
from vae_flows.persistence.records import to_plain
from vae_flows.randomness import seeded
from vae_flows.runs.provenance import describe_provenance
from vae_flows.training.checkpoint import load_checkpoint, save_checkpoint

__all__ = ["METRICS", "SAMPLES", "STATE", "run_images"]

METRICS, STATE, SAMPLES = "metrics.json", "state.ckpt", "samples.npz"
NUM_SAMPLES = 12


def run_images(folder: Path, settings: ImageSettings, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Learn images, test the density and draw from it, unless a finished run of these settings is there.

    Arguments:
        folder: Receives `state.ckpt`, from which an interrupted run of the same settings goes on, `samples.npz` and,
            last, `metrics.json`. A run with other settings is replaced.
        settings: The run.
        say: Told how far it is.

    Returns:
        What `metrics.json` holds.

    Raises:
        DataError: The data are no images with 256 levels.
        NonFiniteLossError: The loss is NaN or infinite.
        IntegrationError: A solve failed.
        FileError: The folder cannot be written to, is in use, or was removed meanwhile.
    """
    with exclusive(folder) as lock:
        sweep(folder)
        plain = to_plain(settings)
        if (folder / METRICS).exists() and (found := read_json(folder / METRICS)).get("settings") == plain:
            return found
        (folder / METRICS).unlink(missing_ok=True)
        train, validation, test = _splits(settings)
        density = build_density(settings, train.image_shape)
        training = Training(density, train, validation, settings)
        if (folder / STATE).exists():
            state = load_checkpoint(folder / STATE, "settings")
            if state["settings"] == plain:
                training.restore(state)

        def keep(moment: Moment) -> None:
            lock.require()
            save_checkpoint(folder / STATE, {**training.state(), "settings": plain})
            say(f"{training.spent:4.0%}  step {moment.step}  validation {moment.bits_per_dim:.3f} bits/dim")

        trained = training.run(keep)
        score = evaluate(density, test, settings.test_size, settings.seed)
        with seeded(CPU, settings.seed, "samples"):
            drawn = density.sample(count := min(NUM_SAMPLES, len(test)))
        lock.require()
        shown = test.batch(torch.arange(count))
        write_npz(folder / SAMPLES, {"data": shown.numpy(), "samples": drawn.numpy()})
        metrics = {
            "settings": plain,
            "test": dataclasses.asdict(score),
            "training": {"steps": trained.steps, "seconds": trained.seconds, "moments": to_plain(trained.moments)},
            "parameters": sum(parameter.numel() for parameter in density.parameters()),
            **describe_provenance(),
        }
        write_json(folder / METRICS, metrics)
    return metrics


def _splits(settings: ImageSettings) -> tuple[Images, Images, Images]:
    data = load(settings.data, pixels="grey")
    parts = data.train, data.validation, data.test
    if not all(isinstance(part, Images) and not part.packed for part in parts):
        raise DataError(complaint(f"data {settings.data!r}", "images with 256 levels", repr(data.train)))
    return parts  # pyright: ignore[reportReturnType]
