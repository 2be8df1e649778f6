r"""Why a bound is not tight: what the family of posteriors cannot do, and what its amortisation by an encoder costs.

With q* the best member of the family for one image and L[q] the ELBO,
:math:`\log p(x) - L[q] = (\log p(x) - L[q^*]) + (L[q^*] - L[q])`: the approximation gap and the amortisation gap
(Cremer, Li and Duvenaud 2018, "Inference suboptimality in variational autoencoders").
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from vae_flows import objectives
from vae_flows.checks import checked, described, require_finite
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.evaluation.batches import evaluating
from vae_flows.evaluation.importance import BoundSums, LogDensity, log_weight_chunks
from vae_flows.protocols import Posterior, condition_posterior
from vae_flows.shown import shown
from vae_flows.tensors.shapes import is_dense
from vae_flows.vae import VAE

__all__ = ["InferenceGap", "LocalFamily", "inference_gap", "local_context"]

LocalFamily = Literal["context", "posterior"]
WARMUP, COOLDOWN = 0.1, 0.01
"""The fraction of the steps in which the learning rate rises, and the fraction of its peak that it falls to."""


@shown
@dataclass(frozen=True, eq=False)
class InferenceGap:
    """The inference gap of each image and its two parts, in nats, `(B,)` each.

    Arguments:
        log_likelihood: An estimate of log p(x): the importance-weighted bound of that posterior which has the larger
            effective number of weights.
        local_elbo: L[q*], of the posterior optimised for the image.
        elbo: L[q], of the amortised posterior.
        local_elbo_error: Monte-Carlo standard error of L[q*].
        elbo_error: That of L[q].
        local_context: The context of q*, `(B, context_dim)`.
    """

    log_likelihood: Tensor
    local_elbo: Tensor
    elbo: Tensor
    local_elbo_error: Tensor
    elbo_error: Tensor
    local_context: Tensor

    @property
    def approximation(self) -> Tensor:
        """What no posterior of the family would close: log p(x) − L[q*]."""
        return self.log_likelihood - self.local_elbo

    @property
    def amortization(self) -> Tensor:
        """What a better encoder would close: L[q*] − L[q]."""
        return self.local_elbo - self.elbo

    @property
    def total(self) -> Tensor:
        """The inference gap, log p(x) − L[q]."""
        return self.log_likelihood - self.elbo


@checked
def local_context(
    log_joint: LogDensity,
    posterior: Posterior,
    context: Tensor,
    *,
    num_steps: int = 300,
    num_particles: int = 16,
    learning_rate: float = 0.1,
) -> Tensor:
    r"""Maximise the ELBO of each example in its own context h, :math:`E_{q(z|h)}[\log p(x, z) - \log q(z|h)]`.

    The weights of the posterior stay as they are: this is the best member of the family {q(· | h)} that an encoder
    could choose.

    Arguments:
        log_joint: Maps z `(S, *batch, D)` to log p(x, z) `(S, *batch)`.
        posterior: Maps contexts `(*batch, C)` to distributions.
        context: Where to begin, such as `encoder(x)`, `(*batch, C)`.
        num_steps: Steps of Adam.
        num_particles: Draws of a step.
        learning_rate: Its peak; it rises for a tenth of the steps and falls after.

    Returns:
        The contexts, without gradients.

    Raises:
        InvalidInputError: A size is not positive, or the posterior is none.

    Example:
        >>> from torch.distributions import Independent, Normal
        >>> _ = torch.manual_seed(0)
        >>> h = local_context(
        ...     lambda z: Normal(2.0, 1.0).log_prob(z).sum(-1),
        ...     lambda h: Independent(Normal(h[..., :1], h[..., 1:].exp()), 1),
        ...     torch.ones(1, 2))
        >>> bool((h - torch.tensor([2.0, 0.0])).abs().max() < 0.1)
        True
    """
    return _optimised(log_joint, posterior, context, [], num_steps, num_particles, learning_rate)


@checked
def inference_gap(
    vae: VAE,
    x: Tensor,
    *,
    family: LocalFamily = "context",
    num_steps: int = 300,
    num_particles: int = 16,
    learning_rate: float = 0.1,
    num_samples: int = 2000,
    chunk_size: int = 500,
    seed: int = 0,
) -> InferenceGap:
    """Split log p(x) − ELBO of chosen images into approximation gap and amortisation gap.

    Arguments:
        vae: The model; it is put in evaluation mode meanwhile, and does not change.
        x: Images `(B, *event)`.
        family: What is optimised for an image: its `context`, of all images at once, or with it a copy of all weights
            of the `posterior`, one image after another. The latter is the larger family, without amortisation.
        num_steps: Steps of Adam.
        num_particles: Draws of a step.
        learning_rate: Its peak.
        num_samples: Draws of the final estimates; that of log p(x) is an importance-weighted bound, biased downwards.
        chunk_size: Draws computed at once.
        seed: The same seed gives the same result.

    Raises:
        InvalidInputError: A size is out of range, or the images do not fit the model.
        UnknownNameError: There is no such family.

    Example:
        >>> from vae_flows.likelihoods import BernoulliLikelihood
        >>> from vae_flows.networks import MLPDecoder, MLPEncoder
        >>> from vae_flows.posterior import AmortizedPosterior
        >>> shape = (1, 4, 4)
        >>> encoder, decoder = MLPEncoder(shape, (8,), context_dim=6), MLPDecoder(2, shape, (8,))
        >>> vae = VAE(encoder, decoder, AmortizedPosterior(2, 6, flow="planar"), BernoulliLikelihood())
        >>> gap = inference_gap(vae, torch.rand(3, *shape), num_steps=20, num_samples=100)
        >>> torch.allclose(gap.approximation + gap.amortization, gap.total)
        True
    """
    require_positive("inference_gap", num_samples=num_samples, chunk_size=chunk_size)
    if x.dim() != vae.likelihood.event_dim + 1 or not len(x) or num_samples < 2:
        expected = "one batch of images, and two samples or more"
        raise InvalidInputError(complaint("inference_gap", expected, f"shape {tuple(x.shape)} and {num_samples}"))
    with evaluating(vae, seed, "inference_gap"):
        vae.encode(x)  # checks the images
        with torch.no_grad():
            context = vae.encoder(x)
        options = (num_steps, num_particles, learning_rate)
        if family == "context":
            local = _optimised(_joint(vae, x), vae.posterior, context, [], *options)
            found = [(vae.posterior, local, x)]
        else:
            found = []
            for start, image in zip(context.split(1), x.split(1), strict=True):
                copied = copy.deepcopy(vae.posterior)
                weights = list(copied.parameters()) if isinstance(copied, nn.Module) else []
                found.append((copied, _optimised(_joint(vae, image), copied, start, weights, *options), image))
        local_bounds = [_bounds(vae, *entry, num_samples, chunk_size) for entry in found]
        best = _Bounds(*(torch.cat(parts) for parts in zip(*local_bounds, strict=True)))
        own = _bounds(vae, vae.posterior, context, x, num_samples, chunk_size)
    # Not the larger of the two: of weights with heavy tails, that would be the one that errs upwards.
    log_p = torch.where(best.sample_size > own.sample_size, best.log_likelihood, own.log_likelihood)
    contexts = torch.cat([entry[1] for entry in found])
    return InferenceGap(log_p, best.elbo, own.elbo, best.elbo_error, own.elbo_error, contexts)


def _optimised(
    log_joint: LogDensity,
    posterior: Posterior,
    context: Tensor,
    weights: list[nn.Parameter],
    num_steps: int,
    num_particles: int,
    learning_rate: float,
) -> Tensor:
    """Return the contexts of the largest ELBO; weights of the posterior that are given are optimised in place."""
    require_positive("local_context", num_steps=num_steps, num_particles=num_particles)
    require_finite("local_context", above=0, learning_rate=learning_rate)
    if not is_dense(context):
        expected = "a floating-point tensor (*batch, C)"
        raise InvalidInputError(complaint("local_context context", expected, described(context)))
    h = context.detach().clone().requires_grad_()
    optimised: list[Tensor] = [h, *weights]
    optimizer = torch.optim.Adam(optimised, lr=learning_rate)
    with torch.enable_grad():
        for step in range(num_steps):
            optimizer.param_groups[0]["lr"] = learning_rate * _schedule(step, num_steps)
            q = condition_posterior(posterior, h)
            bound = objectives.renyi_bound(log_joint, q, 1.0, num_particles)
            gradients = torch.autograd.grad(-bound.sum(), optimised, allow_unused=True)
            for tensor, gradient in zip(optimised, gradients, strict=True):
                tensor.grad = gradient
            optimizer.step()
    return h.detach()


def _schedule(step: int, num_steps: int) -> float:
    """Return the learning rate of a step as a fraction of its peak: a linear rise, then half a cosine."""
    rise = WARMUP * num_steps
    if step < rise:
        return (step + 1) / (rise + 1)
    return COOLDOWN + (1 - COOLDOWN) * (1 + math.cos(math.pi * (step - rise) / (num_steps - rise))) / 2


class _Bounds(NamedTuple):
    """What draws from one posterior say of each image, `(B,)` each."""

    elbo: Tensor
    elbo_error: Tensor
    log_likelihood: Tensor
    sample_size: Tensor


def _joint(vae: VAE, x: Tensor) -> LogDensity:
    return lambda z: vae.log_likelihood(x, z) + vae.log_prior(z)


@torch.no_grad()
def _bounds(vae: VAE, posterior: Posterior, context: Tensor, x: Tensor, num_samples: int, chunk_size: int) -> _Bounds:
    q = condition_posterior(posterior, context)
    sums, squares = BoundSums((1, num_samples)), torch.zeros((), dtype=torch.float64)
    shift: Tensor | None = None
    for log_weights in log_weight_chunks(_joint(vae, x), q, num_samples, chunk_size):
        sums.add(log_weights)
        shift = log_weights[0].double() if shift is None else shift  # of the size of the values: squares stay exact
        squares = squares.to(x.device) + (log_weights.double() - shift).square().sum(0)
    result = sums.result()
    elbo, log_p = result.bounds
    variance = (squares / num_samples - (elbo - cast(Tensor, shift)).square()) * num_samples / (num_samples - 1)
    error = (variance.clamp(min=0) / num_samples).sqrt()
    return _Bounds(elbo, error, log_p, result.effective_sample_size)
