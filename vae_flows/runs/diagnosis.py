"""Diagnostics of a run's posterior: what they found, in files of the run's folder, and a plain word on each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Size, Tensor

from vae_flows.data import DataSet
from vae_flows.errors import DataError, VAEFlowsError, complaint
from vae_flows.evaluation import (
    CalibrationResult,
    WeightDiagnostics,
    active_units,
    compare_aggregate_posterior,
    density_integral,
    diagnose_weights,
    effective_sample_size,
    estimate_information,
    inference_gap,
    round_trip_error,
    sample_log_weights,
    simulation_based_calibration,
    trace_noise,
)
from vae_flows.modules import in_mode, placement
from vae_flows.persistence.archives import read_npz, write_npz
from vae_flows.persistence.json_files import read_json, write_json
from vae_flows.persistence.records import from_plain, to_plain
from vae_flows.randomness import seeded
from vae_flows.runs.build import build_data
from vae_flows.runs.folder import load_settings
from vae_flows.runs.scores import digests_of, require_tested
from vae_flows.runs.weights import load_best
from vae_flows.vae import VAE

__all__ = [
    "DIAGNOSTICS_FILES",
    "Details",
    "RunDiagnostics",
    "diagnose",
    "diagnose_run",
    "read_details",
    "read_diagnostics",
    "write_diagnostics",
]

DIAGNOSTICS_FILES = DIAGNOSTICS, DETAILS = "diagnostics.json", "diagnostics.npz"
INFORMATION_IMAGES, UNIT_IMAGES, WEIGHT_IMAGES, NOISE_IMAGES, INTEGRAL_IMAGES, GAP_IMAGES = 100, 500, 50, 20, 5, 4
"""Images that each diagnostic looks at: with them all of it takes about a minute for the flows of the benchmark."""
WEIGHT_DRAWS, NOISE_DRAWS, ROUND_TRIPS, AGGREGATE_DRAWS, INTEGRAL_DRAWS, GAP_STEPS = 500, 10, 10, 500, 5000, 100
SIMULATIONS, CALIBRATION_DRAWS = 500, 39
MOST_DIMENSIONS = 3
"""Of latents whose density is integrated."""


@dataclass(frozen=True)
class RunDiagnostics:
    """What the diagnostics of a run found, in nats per image; `None` where one does not apply or failed.

    Arguments:
        seconds: Wall-clock time of all of them.
        rate: E_q[log q(z | x) − log p(z)].
        distortion: E_q[−log p(x | z)].
        information_lower: Where the mutual information of images and latents is, from here.
        information_upper: To here.
        active_units: Latents whose posterior mean changes from image to image.
        latent_dim: Latents.
        effective_sample_size: Of importance weights, on average over images.
        weight_draws: Their number.
        reliable_share: Images whose Pareto k̂ is below its threshold; `None` without ArviZ.
        trace_noise: Deviation of Hutchinson's estimate of log q from the exact value; 0 where traces are exact.
        round_trip_latents: Largest deviation of latents that the flow carried forth and back.
        round_trip_log_density: Largest deviation of their log q.
        aggregate_p_value: Of the test whether the aggregate posterior is the prior.
        integral_error: Largest deviation of ∫ q(z) dz from 1 over images, with few latents.
        integral_z_score: The same in standard errors.
        calibration_p_value: The smallest over latents, times their number, of simulation-based calibration.
        approximation_gap: What the family of posteriors cannot reach, on a few images.
        amortization_gap: What the encoder does not reach in the family.
        problems: Diagnostics that failed, and why.
    """

    seconds: float
    latent_dim: int
    rate: float | None = None
    distortion: float | None = None
    information_lower: float | None = None
    information_upper: float | None = None
    active_units: int | None = None
    effective_sample_size: float | None = None
    weight_draws: int | None = None
    reliable_share: float | None = None
    trace_noise: float | None = None
    round_trip_latents: float | None = None
    round_trip_log_density: float | None = None
    aggregate_p_value: float | None = None
    integral_error: float | None = None
    integral_z_score: float | None = None
    calibration_p_value: float | None = None
    approximation_gap: float | None = None
    amortization_gap: float | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Details:
    """What pictures of diagnostics are made of.

    Arguments:
        weights: Effective sample size and Pareto k̂ of each image, `None` where not known.
        calibration: Ranks, `None` where not known.
    """

    weights: WeightDiagnostics | None = None
    calibration: CalibrationResult | None = None


def diagnose_run(
    folder: Path, device: str = "cpu", progress: Callable[[str], None] = lambda name: None
) -> RunDiagnostics:
    """Diagnose the best weights of the run in `folder`, and write what was found to it.

    Arguments:
        folder: The run's folder.
        device: Name of a device, or `"auto"` for a GPU if there is one.
        progress: Called with the name of each diagnostic before it begins.

    Raises:
        CheckpointError: There is no checkpoint, it is damaged, or it belongs to another model.
        InvalidInputError: There is no such device.
        DataError: The data are not those that the run was tested on.
        FileError: The folder cannot be written to.
    """
    settings = load_settings(folder)
    data = build_data(settings)
    require_tested(digests_of(data.test), folder, settings.data)
    vae = load_best(folder, settings, data, device)
    return write_diagnostics(folder, *diagnose(vae, data, seed=settings.seed, progress=progress))


def write_diagnostics(folder: Path, found: RunDiagnostics, details: Details) -> RunDiagnostics:
    """Write what `diagnose` found to the folder of a run, and return its numbers.

    Raises:
        FileError: The folder cannot be written to.
    """
    arrays: dict[str, Any] = {}
    if details.weights is not None:
        arrays |= {
            "pareto_k": details.weights.pareto_k.cpu().numpy(),
            "weight_draws": np.int64(details.weights.num_samples),
            "effective_sample_size": details.weights.effective_sample_size.cpu().numpy(),
        }
    if details.calibration is not None:
        arrays |= {
            "ranks": details.calibration.ranks.cpu().numpy().astype(np.int16),
            "num_draws": np.int64(details.calibration.num_draws),
        }
    write_npz(folder / DETAILS, arrays)
    write_json(folder / DIAGNOSTICS, to_plain(found))
    return found


def diagnose(
    vae: VAE, data: DataSet, *, seed: int = 0, progress: Callable[[str], None] = lambda name: None
) -> tuple[RunDiagnostics, Details]:
    """Run all diagnostics that apply to a model, each on a few images; one that fails is told, the others stand."""
    started, diagnosis = time.perf_counter(), _Diagnosis(vae, data, seed)
    for name, step in (
        ("rate and mutual information", diagnosis.information),
        ("active units", diagnosis.units),
        ("importance weights", diagnosis.importance),
        ("noise of the trace", diagnosis.noise),
        ("round trip of the inverse", diagnosis.round_trip),
        ("aggregate posterior", diagnosis.aggregate),
        ("integral of the density", diagnosis.integral),
        ("calibration", diagnosis.calibration),
        ("inference gap", diagnosis.gap),
    ):
        progress(name)
        diagnosis.attempt(name, step)
    found = {name: value for name, value in diagnosis.found.items() if value is None or math.isfinite(value)}
    lost = [f"{name}: not finite" for name in diagnosis.found if name not in found]
    numbers = RunDiagnostics(
        time.perf_counter() - started,
        latent_dim=vae.latent_dim,
        **found,
        problems=(*diagnosis.problems, *lost),
    )
    return numbers, Details(diagnosis.weights, diagnosis.ranks)


class _Diagnosis:
    """One diagnosis under way.

    Arguments:
        vae: The model.
        data: Its data, of which the test split is looked at.
        seed: Seed of all draws.
    """

    def __init__(self, vae: VAE, data: DataSet, seed: int) -> None:
        self._vae, self._test, self._seed = vae, data.test, seed
        self._device, self._dtype = placement(vae)
        self.found: dict[str, Any] = {}
        self.problems: list[str] = []
        self.weights: WeightDiagnostics | None = None
        self.ranks: CalibrationResult | None = None

    def attempt(self, name: str, step: Callable[[], None]) -> None:
        try:
            with in_mode(self._vae, training=False), seeded(self._device, self._seed, name):
                step()
        except (VAEFlowsError, NotImplementedError, ValueError, RuntimeError) as error:
            self.problems.append(f"{name}: {next(iter(str(error).splitlines()), type(error).__name__)}")

    def information(self) -> None:
        result = estimate_information(self._vae, self._test, num_images=INFORMATION_IMAGES, seed=self._seed)
        lower, upper = result.mutual_information
        self.found |= {"rate": result.rate.value, "distortion": result.distortion.value}
        self.found |= {"information_lower": lower, "information_upper": upper}

    def units(self) -> None:
        self.found["active_units"] = active_units(self._vae, self._test.take(UNIT_IMAGES), seed=self._seed).count

    @torch.no_grad()
    def importance(self) -> None:
        x = self._images(WEIGHT_IMAGES)
        log_weights = sample_log_weights(
            lambda z: self._vae.log_likelihood(x, z) + self._vae.log_prior(z),
            self._vae.encode(x),
            WEIGHT_DRAWS,
            chunk_size=max(1, 1000 // len(x)),
        )
        self.found["effective_sample_size"] = float(effective_sample_size(log_weights).mean())
        self.found["weight_draws"] = WEIGHT_DRAWS
        self.weights = diagnose_weights(log_weights)
        self.found["reliable_share"] = float(self.weights.is_reliable.double().mean())

    def noise(self) -> None:
        noise = trace_noise(self._vae, self._images(NOISE_IMAGES), num_noise_draws=NOISE_DRAWS, seed=self._seed)
        self.found["trace_noise"] = noise.root_mean_square

    @torch.no_grad()
    def round_trip(self) -> None:
        error = round_trip_error(self._vae.encode(self._images(NOISE_IMAGES)), ROUND_TRIPS)
        self.found["round_trip_latents"] = float(error.latents.max())
        self.found["round_trip_log_density"] = float(error.log_density.max())

    def aggregate(self) -> None:
        result = compare_aggregate_posterior(self._vae, self._test, num_draws=AGGREGATE_DRAWS, seed=self._seed)
        self.found["aggregate_p_value"] = result.p_value

    @torch.no_grad()
    def integral(self) -> None:
        if self._vae.latent_dim > MOST_DIMENSIONS:
            return
        result = density_integral(self._vae.encode(self._images(INTEGRAL_IMAGES)), INTEGRAL_DRAWS)
        worst = int(result.z_score.abs().argmax())
        self.found["integral_error"] = float((result.value - 1).abs()[worst])
        self.found["integral_z_score"] = float(result.z_score.abs()[worst])

    @torch.no_grad()
    def calibration(self) -> None:
        """Calibrate on data that the model itself draws, whose latents are known."""
        vae = self._vae
        like = torch.empty(vae.latent_dim, device=self._device, dtype=self._dtype)

        self.ranks = simulation_based_calibration(
            lambda count: vae.prior(like).sample(Size([count])),
            lambda z: vae.decode(z).sample(),
            lambda x, count: vae.encode(x).sample(Size([count])),
            num_simulations=SIMULATIONS,
            num_draws=CALIBRATION_DRAWS,
            chunk_size=50,
        )
        self.found["calibration_p_value"] = min(1.0, float(self.ranks.p_values().min()) * vae.latent_dim)

    def gap(self) -> None:
        found = inference_gap(
            self._vae, self._images(GAP_IMAGES), num_steps=GAP_STEPS, num_samples=1000, seed=self._seed
        )
        self.found["approximation_gap"] = float(found.approximation.mean())
        self.found["amortization_gap"] = float(found.amortization.mean())

    def _images(self, count: int) -> Tensor:
        with seeded(self._device, self._seed, "images") as generator:
            return self._test.take(count).to(self._device).batch(generator=generator, dtype=self._dtype)


def read_diagnostics(folder: Path) -> RunDiagnostics | None:
    """Read what `diagnose_run` found, `None` where a run was not diagnosed.

    Raises:
        DataError: It is damaged.
    """
    path = folder / DIAGNOSTICS
    if not path.exists():
        return None
    try:
        found = from_plain(RunDiagnostics, read_json(path))
        for name, value in vars(found).items():
            if name == "problems":
                if not isinstance(value, tuple) or not all(isinstance(text, str) for text in value):
                    raise TypeError("problems that are no texts")
            elif value is not None and (isinstance(value, bool) or not math.isfinite(value)):
                raise ValueError(f"{name} is {value!r}")
    except DataError:
        raise
    except (VAEFlowsError, TypeError, ValueError) as error:
        remedy = "Remove it, and diagnose again."
        raise DataError(complaint(str(path), "diagnostics of a run", f"other content ({error})", remedy)) from None
    return found


def read_details(folder: Path) -> Details:
    """Read what pictures of diagnostics are made of; what is not known is `None`.

    Raises:
        DataError: The file is damaged.
    """
    path = folder / DETAILS
    if not path.exists():
        return Details()
    names = ("pareto_k", "effective_sample_size", "weight_draws", "ranks", "num_draws")
    stored = read_npz(path, (), optional=names)
    try:
        weights = calibration = None
        if "pareto_k" in stored:
            shapes, sizes = (torch.as_tensor(stored[name], dtype=torch.float64) for name in names[:2])
            if shapes.dim() != 1 or shapes.shape != sizes.shape:
                raise ValueError("shapes that disagree")
            weights = WeightDiagnostics(sizes, shapes, int(stored["weight_draws"]))
        if "ranks" in stored:
            ranks, draws = torch.as_tensor(stored["ranks"].astype(np.int64)), int(stored["num_draws"])
            if ranks.dim() != 2 or not len(ranks) or int(ranks.min()) < 0 or int(ranks.max()) > draws:
                raise ValueError("ranks out of range")
            calibration = CalibrationResult(ranks, draws)
    except (KeyError, TypeError, ValueError) as error:
        remedy = "Remove it, and diagnose again."
        raise DataError(complaint(str(path), "details of diagnostics", f"others ({error})", remedy)) from None
    return Details(weights, calibration)
