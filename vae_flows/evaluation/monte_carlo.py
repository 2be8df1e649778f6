"""Entropies, divergences and moments by drawing, where a distribution has no closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_flows.checks import checked
from vae_flows.distributions import Draw, draw_from
from vae_flows.errors import InvalidInputError, complaint, require_positive

__all__ = ["Moments", "MonteCarloEstimate", "estimate_entropy", "estimate_kl_divergence", "estimate_moments"]


class MonteCarloEstimate(NamedTuple):
    """Averages over draws and their standard errors, of one shape, in 64 bits."""

    value: Tensor
    standard_error: Tensor


class Moments(NamedTuple):
    """Mean and variance of each entry, both `(*batch, *event)`."""

    mean: MonteCarloEstimate
    variance: MonteCarloEstimate


@checked
def estimate_entropy(q: Distribution, num_samples: int = 1000, chunk_size: int = 100) -> MonteCarloEstimate:
    r"""Estimate the entropy :math:`-\mathbb{E}_q \log q(z)` in nats.

    Arguments:
        q: A distribution with reparameterised samples.
        num_samples: Number of draws, at least 2.
        chunk_size: Draws at once.

    Returns:
        The entropy `(*batch)` with its standard error.

    Raises:
        InvalidInputError: q has no reparameterised samples, or a number is too small.

    Example:
        >>> from torch.distributions import Normal
        >>> entropy = estimate_entropy(Normal(torch.zeros(3), 1.0), num_samples=400)
        >>> entropy.value.shape, entropy.standard_error.shape
        (torch.Size([3]), torch.Size([3]))
    """
    return _average(q, lambda draw: -draw.log_q, num_samples, chunk_size).mean


@checked
def estimate_kl_divergence(
    q: Distribution, p: Distribution, num_samples: int = 1000, chunk_size: int = 100
) -> MonteCarloEstimate:
    r"""Estimate :math:`\mathrm{KL}(q\,\|\,p) = \mathbb{E}_q[\log q(z) - \log p(z)]` in nats.

    Arguments:
        q: A distribution with reparameterised samples.
        p: A distribution of the same events, whose batch shape broadcasts with that of q.
        num_samples: Number of draws, at least 2.
        chunk_size: Draws at once.

    Returns:
        The divergence `(*batch)` with its standard error; the estimate may be negative, the divergence is not.

    Raises:
        InvalidInputError: q has no reparameterised samples, events differ, or a number is too small.

    Example:
        >>> from torch.distributions import Normal
        >>> estimate_kl_divergence(Normal(0.0, 1.0), Normal(0.0, 1.0)).value
        tensor(0., dtype=torch.float64)
    """
    if p.event_shape != q.event_shape:
        expected, got = f"events of shape {tuple(q.event_shape)}, as of q", tuple(p.event_shape)
        raise InvalidInputError(complaint("estimate_kl_divergence p", expected, got))
    return _average(q, lambda draw: draw.log_q - p.log_prob(draw.z), num_samples, chunk_size).mean


@checked
def estimate_moments(q: Distribution, num_samples: int = 1000, chunk_size: int = 100) -> Moments:
    r"""Estimate the mean and the variance of each entry of z.

    The standard error of a variance s² of n draws is that of its sampling variance,
    :math:`(m_4 - s^4 (n - 3) / (n - 1)) / n` with the fourth central moment m₄ (Mood, Graybill & Boes 1974,
    "Introduction to the Theory of Statistics", VI.2.3).

    Arguments:
        q: A distribution with reparameterised samples.
        num_samples: Number of draws, at least 2.
        chunk_size: Draws at once.

    Raises:
        InvalidInputError: q has no reparameterised samples, or a number is too small.

    Example:
        >>> from torch.distributions import Normal
        >>> estimate_moments(Normal(torch.zeros(3), 1.0)).variance.value.shape
        torch.Size([3])
    """
    return _average(q, lambda draw: draw.z, num_samples, chunk_size)


def _average(q: Distribution, of: Callable[[Draw], Tensor], num_samples: int, chunk_size: int) -> Moments:
    """Return mean and variance of a function of draws from power sums, so that memory is that of one chunk."""
    require_positive("Monte-Carlo estimate", num_samples=num_samples, chunk_size=chunk_size)
    if num_samples < 2:
        raise InvalidInputError(complaint("Monte-Carlo estimate num_samples", "at least 2", num_samples))
    origin, sums = torch.zeros(()), torch.zeros(())
    with torch.no_grad():
        for start in range(0, num_samples, chunk_size):
            values = of(draw_from(q, (min(chunk_size, num_samples - start),))).double()
            if start == 0:
                # Powers of distances from a rough mean: those from zero would cancel where the mean is far from it.
                origin = values.mean(0)
                sums = origin.new_zeros(4, *origin.shape)
            sums = sums + torch.stack([(values - origin).pow(power).sum(0) for power in (1, 2, 3, 4)])
    first, second, third, fourth = sums / num_samples
    variance = (second - first.square()).clamp(min=0) * num_samples / (num_samples - 1)
    central_fourth = fourth - 4 * first * third + 6 * first.square() * second - 3 * first.pow(4)
    of_variance = (central_fourth - variance.square() * (num_samples - 3) / (num_samples - 1)).clamp(min=0)
    return Moments(
        MonteCarloEstimate(origin + first, (variance / num_samples).sqrt()),
        MonteCarloEstimate(variance, (of_variance / num_samples).sqrt()),
    )
