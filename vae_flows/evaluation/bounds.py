r"""The negative ELBO of examples, and an importance-sampling estimate of their negative log-likelihood.

The benchmark reports the test negative ELBO with the exact trace, one sample per image, in nats, and for Frey Faces in
bits per dimension (Grathwohl et al. 2019, "FFJORD", Table 3, with the settings of van den Berg et al. 2018, "Sylvester
Normalizing Flows for Variational Inference"). The tighter estimate is
:math:`-\log p(x) \approx -\log \frac1K \sum_k p(x, z_k) / q(z_k | x)` (Burda et al. 2016, "Importance Weighted
Autoencoders").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_flows.checks import Measured, checked
from vae_flows.data import Examples
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.evaluation.batches import evaluating, examples_for
from vae_flows.evaluation.finished import digest_of_model
from vae_flows.evaluation.units import bits_per_dim, log_bin_size_of
from vae_flows.modules import placement
from vae_flows.processes import Processes, start_processes
from vae_flows.randomness import seeded
from vae_flows.shown import shown
from vae_flows.vae import VAE

__all__ = ["EvaluationResult", "Scores", "evaluate", "evaluate_each", "score"]


@shown
@dataclass(frozen=True)
class EvaluationResult:
    """Averages over examples, in nats per example, with their standard errors over examples.

    Arguments:
        negative_elbo: E_q[−log p(x | z)] + KL, an upper bound of −log p(x) in expectation.
        negative_elbo_standard_error: Its standard error; NaN for a single example.
        negative_log_likelihood_term: The reconstruction part, E_q[−log p(x | z)].
        kl: The other part, E_q[log q(z | x) − log p(z)].
        negative_log_likelihood: The importance-sampling estimate of −log p(x), `None` where it was not asked for.
        negative_log_likelihood_standard_error: Its standard error.
        importance_samples: Samples per example of that estimate.
        num_images: Examples averaged over.
        num_pixels: Values of an example, C·H·W of an image.
        evaluations_per_solve: Evaluations of a flow's dynamics for one ELBO of a batch, `None` for discrete flows.
        seconds: Wall-clock time.
        log_bin_size: log of the bin of a value, in nats, where values are levels and the likelihood is a density of
            them; else 0.
    """

    negative_elbo: float
    negative_elbo_standard_error: Measured
    negative_log_likelihood_term: float
    kl: float
    negative_log_likelihood: float | None
    negative_log_likelihood_standard_error: float | None
    importance_samples: int
    num_images: int
    num_pixels: int
    evaluations_per_solve: float | None
    seconds: float
    log_bin_size: float = 0.0

    @property
    def bits_per_dim_elbo(self) -> float:
        """The negative ELBO in bits per value, such as a pixel, which is the unit for Frey Faces."""
        return bits_per_dim(self.num_pixels, self.log_bin_size).of(self.negative_elbo)

    @property
    def bits_per_dim(self) -> float | None:
        """The negative log-likelihood in bits per value."""
        value = self.negative_log_likelihood
        return None if value is None else bits_per_dim(self.num_pixels, self.log_bin_size).of(value)


@checked
def evaluate(
    vae: VAE,
    data: Any,
    *,
    batch_size: int = 100,
    importance_samples: int = 0,
    chunk_size: int | None = None,
    seed: int = 0,
    devices: int = 1,
) -> EvaluationResult:
    """Bound the log-likelihood of examples in evaluation mode, where traces are exact, without gradients.

    The examples are scored on the device and in the floating-point type of the model. The model's mode and the global
    random numbers stay as they were.

    Arguments:
        vae: The model.
        data: Images or other examples, such as `data.test`, or a tensor or array `(N, *event)`, or a map-style data set
            of torch, whose labels are left alone. Of a `DataSet` the test split is taken.
        batch_size: Examples scored at once.
        importance_samples: Samples per example for −log p(x), 0 for the ELBO alone; the literature takes 2,000 to
            5,000.
        chunk_size: Samples computed at once, all by default: memory grows with batch_size · chunk_size.
        seed: The same seed gives the same result.
        devices: Number of devices of the model's kind, one process each, as of `estimate_likelihood`: they share out
            the batches for −log p(x), with the numbers of one process.

    Returns:
        Averages over the examples, with standard errors.

    Raises:
        InvalidInputError: A size is out of range, the examples do not fit the model, or there are fewer devices.
        IntegrationError: A solve of a continuous flow failed.
        ProcessError: Another process ended.

    Example:
        >>> from vae_flows.data import Images
        >>> from vae_flows.likelihoods import BernoulliLikelihood
        >>> from vae_flows.networks import MLPDecoder, MLPEncoder
        >>> from vae_flows.posterior import AmortizedPosterior
        >>> from vae_flows.vae import VAE
        >>> shape = (1, 4, 4)
        >>> images = Images(torch.randint(256, (30, 2), dtype=torch.uint8), shape, packed=True)
        >>> encoder, decoder = MLPEncoder(shape, (8,), context_dim=6), MLPDecoder(2, shape, (8,))
        >>> vae = VAE(encoder, decoder, AmortizedPosterior(2, 6, flow="planar"), BernoulliLikelihood())
        >>> result = evaluate(vae, images, importance_samples=20)
        >>> result.negative_log_likelihood <= result.negative_elbo + 3 * result.negative_elbo_standard_error
        True
    """
    return evaluate_each(
        vae,
        data,
        batch_size=batch_size,
        importance_samples=importance_samples,
        chunk_size=chunk_size,
        seed=seed,
        devices=devices,
    )[0]


def evaluate_each(
    vae: VAE,
    data: Any,
    *,
    batch_size: int,
    importance_samples: int,
    chunk_size: int | None,
    seed: int,
    devices: int = 1,
) -> tuple[EvaluationResult, Scores]:
    """Return what `evaluate` does, and what it averages: the scores of each example."""
    for name, value, least in (("batch_size", batch_size, 1), ("importance_samples", importance_samples, 0)):
        if not isinstance(value, int) or value < least:
            raise InvalidInputError(complaint(f"evaluate {name}", f"an integer of at least {least}", repr(value)))
    started = perf_counter()
    processes, device = start_processes("evaluate", devices, placement(vae)[0])
    examples = examples_for(vae.to(device), data)
    if devices > 1:
        settings = (batch_size, importance_samples, chunk_size, seed, examples.fingerprint())
        processes.agreed("evaluate", lambda: digest_of_model(vae, *settings))
    draws = _Draws(importance_samples, chunk_size, seed, processes) if importance_samples else None

    def scored() -> Scores:
        with evaluating(vae, seed, "evaluate") as generator:
            every = torch.arange(len(examples))
            return score(vae, examples, every, batch_size=batch_size, generator=generator, draws=draws)

    scores = _joined(processes.together(scored), batch_size)
    negative_elbo, standard_error = _mean(scores.negative_elbo)
    bound, bound_error = (None, None) if scores.bound is None else _mean(-scores.bound)
    solves = scores.evaluations
    result = EvaluationResult(
        negative_elbo=negative_elbo,
        negative_elbo_standard_error=standard_error,
        negative_log_likelihood_term=-scores.log_likelihood.mean().item(),
        kl=scores.kl.mean().item(),
        negative_log_likelihood=bound,
        negative_log_likelihood_standard_error=bound_error,
        importance_samples=importance_samples,
        num_images=len(examples),
        num_pixels=math.prod(examples.event_shape),
        evaluations_per_solve=sum(solves) / len(solves) if solves else None,
        seconds=perf_counter() - started,
        log_bin_size=log_bin_size_of(vae.likelihood, examples),
    )
    return result, scores


class _Draws(NamedTuple):
    """How −log p(x) of examples is estimated: draws per example, draws at once, their seed, and who shares the work."""

    importance_samples: int
    chunk_size: int | None
    seed: int
    processes: Processes


class Scores(NamedTuple):
    """What `score` found: float64 tensors on the CPU, one entry per example, and the work of each batch's solve.

    The bound is NaN for batches of other processes.
    """

    log_likelihood: Tensor
    kl: Tensor
    bound: Tensor | None
    evaluations: list[int]

    @property
    def negative_elbo(self) -> Tensor:
        """The sum of both parts, `(N,)`, from the one sample of each example."""
        return self.kl - self.log_likelihood


@torch.no_grad()
def score(
    vae: VAE,
    examples: Examples,
    indices: Tensor,
    *,
    batch_size: int,
    generator: torch.Generator,
    draws: _Draws | None = None,
) -> Scores:
    """Score the examples at `indices (N,)` batch by batch, one sample per example for the ELBO.

    Arguments:
        vae: The model, in the mode wanted.
        examples: Images or other examples on the model's device.
        indices: Which of them.
        batch_size: Examples scored at once.
        generator: Source of their draws, such as of dynamic binarisation, on the device of the examples.
        draws: Those of the importance-weighted bound, `None` for no bound.
    """
    _, dtype = placement(vae)
    log_likelihood, kl, bound, evaluations = [], [], [], []
    for number, x in enumerate(examples.batches(indices.split(batch_size), generator=generator, dtype=dtype)):
        terms = vae.elbo(x)
        log_likelihood.append(terms.log_likelihood)
        kl.append(terms.kl)
        if terms.work is not None:
            evaluations.append(terms.work.forward_evaluations)
        if draws is not None:
            bound.append(_bound(vae, x, number, draws))
    return Scores(_join(log_likelihood), _join(kl), None if draws is None else _join(bound), evaluations)


def _bound(vae: VAE, x: Tensor, number: int, draws: _Draws) -> Tensor:
    """Return the bound of a batch, whose random numbers are its own, so that any process finds the same."""
    if number % draws.processes.count != draws.processes.rank:
        return torch.full(x.shape[:1], torch.nan, device=x.device)
    with seeded(x.device, draws.seed, "bound", number):
        return vae.importance_weighted_bound(x, draws.importance_samples, chunk_size=draws.chunk_size)


def _joined(scores: Sequence[Scores], batch_size: int) -> Scores:
    """Return the scores of all processes, of which each has the bounds of its batches."""
    bounds = [each.bound for each in scores if each.bound is not None]
    if not bounds:
        return scores[0]
    every = torch.arange(len(bounds[0]))
    return scores[0]._replace(bound=torch.stack(bounds)[every // batch_size % len(bounds), every])


def _join(batches: list[Tensor]) -> Tensor:
    return torch.cat(batches).cpu().double() if batches else torch.empty(0, dtype=torch.float64)


def _mean(values: Tensor) -> tuple[float, float]:
    """Return the mean and its standard error, which a single value does not have."""
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return values.mean().item(), error
