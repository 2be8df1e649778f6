"""Trained models tested again: with other tolerances of the solver, and with other estimates of the trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch

from vae_flows.cnf.density import ContinuousNormalizingFlow
from vae_flows.cnf.divergence import Noise, divergence_from
from vae_flows.distributions import draw_from, evaluate
from vae_flows.errors import DataError, complaint
from vae_flows.evaluation import trace_noise
from vae_flows.evaluation.batches import evaluating
from vae_flows.evaluation.bounds import evaluate_each
from vae_flows.flows import FFJORD
from vae_flows.ode.solver import ODESolver
from vae_flows.persistence.json_files import read_json, write_json
from vae_flows.runs import Run
from vae_flows.vae import VAE

__all__ = [
    "ESTIMATES",
    "NOISE",
    "REFERENCE",
    "TOLERANCE",
    "TOLERANCES",
    "Estimator",
    "kept",
    "retest_noise",
    "retest_tolerance",
]

TOLERANCE, NOISE = "tolerance.json", "trace-noise.json"
REFERENCE = 1e-9
"""Tolerance of what others are compared with."""
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
IMAGES, NOISE_IMAGES, NOISE_DRAWS = 1000, 100, 50
TINY_IMAGES, TINY_DRAWS = 4, 2


class Estimator(NamedTuple):
    """A way to have the trace.

    Arguments:
        divergence: Its name.
        noise: That of its noise.
        probes: Draws averaged.
    """

    divergence: str
    noise: Noise | None = None
    probes: int | None = None

    @property
    def label(self) -> str:
        """What it is called in tables.

        Example:
            >>> Estimator("hutchinson", "rademacher", 4).label
            'hutchinson, rademacher, 4 probes'
        """
        if self.noise is None:
            return f"{self.divergence} trace"
        return f"{self.divergence}, {self.noise}, {self.probes} probe{'s' * (self.probes != 1)}"


ESTIMATES = (
    *(
        Estimator("hutchinson", noise, probes)
        for noise in cast(tuple[Noise, ...], ("gaussian", "rademacher"))
        for probes in (1, 2, 4, 8, 16)
    ),
    Estimator("bottleneck", "gaussian", 1),
    Estimator("bottleneck", "rademacher", 1),
    Estimator("exact"),
)


def retest_tolerance(run: Run, *, tiny: bool = False) -> dict[str, Any]:
    """Test the model of a run in float64 at rising tolerances: evaluations, −ELBO of each image, error of log q.

    All tolerances meet the same draws of the base. The error of log q(z | x) is that at the same z, against
    `REFERENCE`. What is found stays in the run's folder.
    """
    sizes = {"images": TINY_IMAGES if tiny else IMAGES}
    return kept(run.folder / TOLERANCE, sizes, lambda: _by_tolerance(run, **sizes))


def retest_noise(run: Run, *, tiny: bool = False) -> dict[str, Any]:
    """Measure the variance of log q, in nats², under each estimate of the trace, as `trace_noise` does."""
    sizes = {"images": TINY_IMAGES if tiny else NOISE_IMAGES, "noise_draws": TINY_DRAWS if tiny else NOISE_DRAWS}
    return kept(run.folder / NOISE, sizes, lambda: {"estimates": _by_estimate(run, **sizes)})


def kept(path: Path, sizes: dict[str, int], find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what is stored of these sizes, having found and stored it where it is not there."""
    if path.exists() and (stored := read_json(path)).items() >= sizes.items():
        return stored
    write_json(path, {**sizes, **find()})
    return read_json(path)


def _by_tolerance(run: Run, images: int) -> dict[str, Any]:
    vae, examples = run.load_model().double(), run.load_data().test.take(images)
    flow, seed = _flow_of(vae), run.settings.seed
    x = examples.batch(dtype=torch.float64)
    found: dict[str, Any] = {"tolerances": []}
    z = reference = None
    for tolerance in (REFERENCE, *TOLERANCES):
        flow.eval_solver = ODESolver(rtol=tolerance, atol=tolerance)
        result, scores = evaluate_each(vae, examples, batch_size=100, importance_samples=0, chunk_size=None, seed=seed)
        with evaluating(vae, seed, "tolerance"), torch.no_grad():
            q = vae.encode(x)
            z = draw_from(q).z if z is None else z
            log_q = evaluate(q, z.clone()).log_q
        reference = log_q if reference is None else reference
        found["tolerances"].append(
            {
                "tolerance": tolerance,
                "evaluations_per_solve": result.evaluations_per_solve,
                "negative_elbo": scores.negative_elbo.tolist(),
                "log_q_error": float((log_q - reference).square().mean().sqrt()),
            }
        )
    return found


def _by_estimate(run: Run, images: int, noise_draws: int) -> list[dict[str, Any]]:
    vae, x = run.load_model(), run.load_data().test.take(images).batch()
    flow, found = _flow_of(vae), []
    for estimate in ESTIMATES:
        flow.divergence = divergence_from(*estimate)
        noise = trace_noise(vae, x, num_noise_draws=noise_draws, seed=run.settings.seed)
        variance = float(noise.standard_deviation.square().mean())
        found.append({"estimate": estimate.label, "variance": variance, "mean": float(noise.mean.mean())})
    return found


def _flow_of(vae: VAE) -> ContinuousNormalizingFlow:
    flow = getattr(vae.posterior, "flow", None)
    if not isinstance(flow, FFJORD):
        raise DataError(complaint("posterior of a run of ablations", "FFJORD", type(flow).__name__))
    return flow.cnf
