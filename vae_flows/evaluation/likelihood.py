r"""−ELBO, importance-weighted bounds and −log p(x) of a data set, from one set of draws per image, in constant memory.

The literature takes 5,000 draws per image, on Caltech 101 Silhouettes 2,000 (van den Berg et al. 2018, "Sylvester
Normalizing Flows for Variational Inference"). Images are encoded once, and drawn, decoded and scored in chunks of a
size at which processors are fast, whatever the number of draws; `importance` says how bounds of several K follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vae_flows.checks import checked
from vae_flows.data import Examples
from vae_flows.distributions import draw_from
from vae_flows.errors import require_positive
from vae_flows.evaluation.batches import examples_for
from vae_flows.evaluation.estimates import MeanEstimate
from vae_flows.evaluation.finished import FinishedValues, digest_of_examples, digest_of_model, finished_values
from vae_flows.evaluation.importance import BoundSums, bound_sizes
from vae_flows.evaluation.units import bits_per_dim, log_bin_size_of
from vae_flows.modules import in_mode, placement
from vae_flows.objectives import for_nonlinear_bound
from vae_flows.persistence.files import checked_path
from vae_flows.processes import start_processes
from vae_flows.randomness import seeded
from vae_flows.shown import html_table, shown
from vae_flows.vae import VAE

__all__ = ["Bound", "LikelihoodProgress", "LikelihoodResult", "estimate_likelihood"]

FILE = "likelihood.safetensors"
MEMORY = 256 * 2**20
"""Bytes that one chunk of draws may take by default."""
LIVE_OUTPUTS = 4
"""Outputs of the largest layer that are alive at once: a gated layer has two, and makes a third."""
FASTEST_ROWS = 1024
"""Draws at once on a processor, whose caches hold what a layer makes of no more."""
FEWEST_IMAGES, MOST_IMAGES = 20, 500
"""Images of a batch: a batch is what a killed evaluation loses."""


class Bound(NamedTuple):
    """An upper bound of −log p(x), averaged over images.

    Arguments:
        particles: K; 1 for the negative ELBO.
        nats: −L_K, nats per image.
        standard_error: Its standard error over images, Monte-Carlo error included; NaN for a single image.
        num_dimensions: Values of an image.
        log_bin_size: log of the bin of a value, in nats, where values are levels and the likelihood is a density of
            them; else 0.
    """

    particles: int
    nats: float
    standard_error: float
    num_dimensions: int
    log_bin_size: float = 0.0

    @property
    def bits_per_dim(self) -> float:
        """The bound in bits per value of an image."""
        return bits_per_dim(self.num_dimensions, self.log_bin_size).of(self.nats)

    @property
    def bits_per_dim_standard_error(self) -> float:
        """Its standard error."""
        return self.standard_error / bits_per_dim(self.num_dimensions).nats


@shown
@dataclass(frozen=True, eq=False)
class LikelihoodResult:
    """Bounds of log p(x) of each image, in nats, and the cost of finding them.

    Arguments:
        particles: The K of the bounds, increasing, from 1 to `importance_samples`.
        log_bounds: Estimates of L_K, `(N, len(particles))`, float64.
        distortion: E_q[−log p(x | z)] of each image, `(N,)`.
        rate: E_q[log q(z | x) − log p(z)], `(N,)`; the negative ELBO is the sum of the two.
        effective_sample_size: Of the importance weights, `(N,)`.
        importance_samples: Draws per image.
        num_dimensions: Values of an image.
        seconds: Wall-clock time.
        log_bin_size: As of `Bound`.
    """

    particles: tuple[int, ...]
    log_bounds: Tensor
    distortion: Tensor
    rate: Tensor
    effective_sample_size: Tensor
    importance_samples: int
    num_dimensions: int
    seconds: float
    log_bin_size: float = 0.0

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the bounds by K."""
        rows = [(b.particles, b.nats, b.standard_error, b.bits_per_dim) for b in self.bounds]
        return html_table(("K", "−L (nats)", "standard error", "bits/dim"), rows, f"{len(self.rate)} images")

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """The bounds averaged over images, from the negative ELBO to −log p(x)."""
        return tuple(
            Bound(size, *MeanEstimate.of(-values), self.num_dimensions, self.log_bin_size)
            for size, values in zip(self.particles, self.log_bounds.T, strict=True)
        )

    @property
    def negative_elbo(self) -> Bound:
        """The bound of one particle, averaged over all draws."""
        return self.bounds[0]

    @property
    def negative_log_likelihood(self) -> Bound:
        """The bound of all draws, the estimate of −log p(x)."""
        return self.bounds[-1]

    @property
    def monte_carlo_error(self) -> float:
        """The part of the standard error of −log p(x) that more draws would take away, by the delta method.

        Too small where weights have heavy tails: with an effective sample size below a hundred, or so, take more draws
        or look at Pareto k̂ (`diagnose_weights`).
        """
        return float(self._relative_variance().sum().sqrt()) / len(self.rate)

    @property
    def monte_carlo_bias(self) -> float:
        """By how much −log p(x) is overestimated, to leading order: half the relative variance of the mean weight."""
        return float(self._relative_variance().mean()) / 2

    @property
    def samples_per_second(self) -> float:
        """Draws scored in a second."""
        return len(self.rate) * self.importance_samples / self.seconds

    def _relative_variance(self) -> Tensor:
        if self.importance_samples == 1:
            return torch.full_like(self.rate, math.inf)
        excess = (self.importance_samples / self.effective_sample_size - 1).clamp(min=0)
        return excess / (self.importance_samples - 1)


class LikelihoodProgress(NamedTuple):
    """How far an estimate has come.

    Arguments:
        images_done: Images finished, those of earlier calls among them.
        num_images: All images.
        seconds_left: Wall-clock time that the rest will take at the pace of this call; NaN before its first batch.
        samples_per_second: Draws scored in a second, in this call.
    """

    images_done: int
    num_images: int
    seconds_left: float
    samples_per_second: float


@checked
def estimate_likelihood(
    vae: VAE,
    data: Any,
    *,
    importance_samples: int = 5000,
    particles: Sequence[int] = (),
    batch_size: int | None = None,
    chunk_size: int | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    progress: Callable[[LikelihoodProgress], None] | None = None,
    devices: int = 1,
) -> LikelihoodResult:
    r"""Bound log p(x) of each image by :math:`L_K = E[\log \frac1K \sum_k p(x, z_k) / q(z_k|x)]` for several K.

    In evaluation mode, where traces are exact, without gradients; the model's mode and the global random numbers stay
    as they were. Memory grows neither with the number of draws nor with that of images. Of a flow that estimates its
    trace in evaluation too, a `BiasedBoundWarning` tells.

    With several devices the program is started once for each, as by `train`, so call it from a script, and in every
    process; after a training in several, the same go on. They share the batches out, and each has the whole result:
    on a CPU, with the same number of threads, that of one process to the last bit.

    Source: Burda et al. (2016), "Importance weighted autoencoders", equation 8.

    Arguments:
        vae: The model.
        data: Images or other examples, such as `data.test`, or whatever else `evaluate` takes.
        importance_samples: Draws per image, S.
        particles: Further K; the bound of each averages over ⌊S / K⌋ disjoint groups of the draws. 1 and S are always
            there.
        batch_size: Images at once, by default at least 20. A killed evaluation loses one batch, or some seconds.
        chunk_size: Draws of all images of a batch at once, by default what is fast and takes little memory.
        seed: The same seed and sizes give the same result.
        folder: Where to keep what is finished, in a small file. The same call goes on from it.
        progress: Called after each batch; of several processes, in the first one.
        devices: Number of devices of the model's kind, one process each; on a CPU no more than it has processors (two
            on any). The model is left on that of its process.

    Returns:
        The bounds of each image, with averages and standard errors.

    Raises:
        InvalidInputError: A size is out of range, the images do not fit the model, there are fewer devices, or models,
            images or arguments of the processes differ.
        ProcessError: Another process ended; what is finished is kept in the folder.
        CheckpointError: The folder has values of another model, other images or other settings.
        IntegrationError: A solve of a continuous flow failed.

    Example:
        >>> from vae_flows.data import Images
        >>> from vae_flows.likelihoods import BernoulliLikelihood
        >>> from vae_flows.networks import MLPDecoder, MLPEncoder
        >>> from vae_flows.posterior import AmortizedPosterior
        >>> shape = (1, 4, 4)
        >>> images = Images(torch.randint(256, (30, 2), dtype=torch.uint8), shape, packed=True)
        >>> encoder, decoder = MLPEncoder(shape, (8,), context_dim=6), MLPDecoder(2, shape, (8,))
        >>> vae = VAE(encoder, decoder, AmortizedPosterior(2, 6, flow="planar"), BernoulliLikelihood())
        >>> result = estimate_likelihood(vae, images, importance_samples=100, particles=(10,))
        >>> [bound.particles for bound in result.bounds]
        [1, 10, 100]
    """
    sizes = bound_sizes("estimate_likelihood", particles, importance_samples)
    path = None if folder is None else checked_path(folder, "folder of an evaluation") / FILE
    processes, device = start_processes("estimate_likelihood", devices, placement(vae)[0])
    examples = examples_for(vae.to(device), data)
    with in_mode(vae, training=False):
        made = partial(_plan, vae, examples, sizes, batch_size, chunk_size, seed)
        if processes.count > 1:
            processes.agreed("estimate_likelihood", examples.fingerprint)
        plan = processes.agreed("estimate_likelihood", made)
        shapes = {"log_bounds": (len(sizes),), "distortion": (), "rate": (), "effective_sample_size": ()}
        with finished_values(path, len(examples), shapes, plan.key, processes) as finished:
            pace = _Pace(progress if processes.is_first else None, importance_samples, finished)
            for indices in processes.shares(torch.arange(len(examples)).split(plan.batch_size)):
                scored = processes.together(partial(_scored, vae, examples, indices, plan, finished))
                processes.together(partial(_keep, scored, finished, pace))
    return LikelihoodResult(
        sizes,
        **finished.values,
        importance_samples=importance_samples,
        num_dimensions=math.prod(examples.event_shape),
        seconds=finished.seconds,
        log_bin_size=log_bin_size_of(vae.likelihood, examples),
    )


class _Plan(NamedTuple):
    """What all batches have in common."""

    sizes: tuple[int, ...]
    batch_size: int
    rows: int
    seed: int
    num_images: int
    key: str


class _Scored(NamedTuple):
    """The values of each image of a batch, and how long they took."""

    indices: Tensor
    digests: Tensor
    values: dict[str, Tensor]
    seconds: float


def _plan(
    vae: VAE, examples: Examples, sizes: tuple[int, ...], batch_size: int | None, chunk_size: int | None, seed: int
) -> _Plan:
    device, dtype = placement(vae)
    with seeded(device, "measure"):
        rows = _rows_at_once(vae, examples.batch(slice(0, 1), dtype=dtype)) if chunk_size is None else chunk_size
    require_positive("estimate_likelihood", chunk_size=rows)
    if batch_size is None:
        batch_size = min(max(rows // sizes[-1], FEWEST_IMAGES), MOST_IMAGES)
    require_positive("estimate_likelihood", batch_size=batch_size)
    key = digest_of_model(vae, sizes, batch_size, rows, seed, str(dtype), FILE)
    return _Plan(sizes, batch_size, rows, seed, len(examples), key)


def _scored(
    vae: VAE, examples: Examples, indices: Tensor | None, plan: _Plan, finished: FinishedValues
) -> _Scored | None:
    """Return what is new of a batch; a process whose share is used up has none."""
    if indices is None:
        return None
    device, dtype = placement(vae)
    started = perf_counter()
    with seeded(device, plan.seed, "likelihood", int(indices[0])) as generator:
        x = examples.batch(indices, generator=generator, dtype=dtype)
        digests = digest_of_examples(x)
        if finished.holds(indices, digests):
            return None
        values = _score(vae, x, plan.sizes, max(plan.rows // len(x), 1))
    return _Scored(indices, digests, values, perf_counter() - started)


def _keep(scored: Sequence[_Scored | None], finished: FinishedValues, pace: _Pace) -> None:
    """Take the batches that the processes scored at the same time."""
    new = [batch for batch in scored if batch is not None]
    for batch in new:
        finished.put(batch.indices, batch.digests, batch.values)
    if new:
        finished.took(max(batch.seconds for batch in new))
        pace.tell(sum(len(batch.indices) for batch in new))


@torch.no_grad()
def _score(vae: VAE, x: Tensor, sizes: tuple[int, ...], chunk_size: int) -> dict[str, Tensor]:
    """Return the values of each image of a batch."""
    q, num_samples = for_nonlinear_bound("log q", vae.encode(x)), sizes[-1]
    sums = BoundSums(sizes)
    distortion = rate = torch.zeros((), dtype=torch.float64, device=x.device)
    for start in range(0, num_samples, chunk_size):
        drawn = draw_from(q, (min(chunk_size, num_samples - start),))
        log_likelihood = vae.log_likelihood(x, drawn.z).double()
        prior = for_nonlinear_bound("log p(z)", vae.prior(drawn.z))
        log_ratio = drawn.log_q.double() - prior.log_prob(drawn.z).double()
        distortion, rate = distortion - log_likelihood.sum(0), rate + log_ratio.sum(0)
        sums.add(log_likelihood - log_ratio)
    found = sums.result()
    values = {
        "log_bounds": found.bounds.T,
        "distortion": distortion / num_samples,
        "rate": rate / num_samples,
        "effective_sample_size": found.effective_sample_size,
    }
    return {name: entries.double().cpu() for name, entries in values.items()}


def _rows_at_once(vae: VAE, x: Tensor) -> int:
    """Return how many draws to compute at once: as many as are fast, or as fit in memory."""
    largest = x.numel()

    def measure(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.numel())

    hooks = [module.register_forward_hook(measure) for module in vae.decoder.modules()]
    try:
        with torch.no_grad():
            vae.log_likelihood(x, draw_from(vae.encode(x)).z)
    finally:
        for hook in hooks:
            hook.remove()
    within_memory = MEMORY // (LIVE_OUTPUTS * largest * x.element_size())
    return max(1, min(within_memory, FASTEST_ROWS) if x.device.type == "cpu" else within_memory)


class _Pace:
    """Tells how fast an evaluation goes and when it will be done."""

    def __init__(
        self, progress: Callable[[LikelihoodProgress], None] | None, samples: int, finished: FinishedValues
    ) -> None:
        self._progress = progress
        self._samples = samples
        self._finished = finished
        self._count = 0
        self._started = perf_counter()

    def tell(self, images: int) -> None:
        self._count += images
        if self._progress is None:
            return
        done = self._finished.done
        seconds = perf_counter() - self._started
        left = seconds / self._count * int((~done).sum())
        rate = self._count * self._samples / seconds
        self._progress(LikelihoodProgress(int(done.sum()), len(done), left, rate))
