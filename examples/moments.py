"""Mean, standard deviation and skewness of posterior draws, and how far those of a guide are from those of NUTS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from pyro.ops.stats import effective_sample_size
from torch import Tensor

__all__ = ["Difference", "Moments", "tabulate"]


class Difference(NamedTuple):
    """How far moments are from those of a reference, over all latents.

    Means and standard deviations are in units of the reference's standard deviation.

    Arguments:
        root_mean_square: Of mean, standard deviation and skewness, `(3,)`, Monte Carlo error included.
        beyond_noise: The largest absolute difference less a number of its standard errors, at least 0, `(3,)`.
    """

    root_mean_square: Tensor
    beyond_noise: Tensor


class Moments(NamedTuple):
    r"""Moments of K latents, and their standard errors.

    The error of a statistic T is :math:`\sqrt{\operatorname{Var}[I(x)] / n}` of its influence function I (Hampel 1974,
    "The influence curve and its role in robust estimation"), with n the number of draws, or the effective sample size
    of the series I(x) where they are those of a Markov chain. With :math:`u = (x - \mu) / \sigma` and γ the skewness,
    I is :math:`\sigma u` for the mean, :math:`\sigma (u^2 - 1) / 2` for the standard deviation and
    :math:`u^3 - 3u - \gamma - \tfrac32 \gamma (u^2 - 1)` for the skewness.

    Arguments:
        values: Mean, standard deviation and skewness, `(3, K)`.
        errors: Their standard errors, `(3, K)`.

    Example:
        >>> moments = Moments.of(torch.randn(1000, 2).exp())
        >>> bool((moments.values > 0).all()), tuple(moments.errors.shape)
        (True, (3, 2))
    """

    values: Tensor
    errors: Tensor

    @classmethod
    def of(cls, draws: Tensor, *, markov_chain: bool = False) -> Moments:
        """Return the moments of draws `(N, K)`, independent ones or a Markov chain."""
        draws = draws.double()
        mean, deviation = draws.mean(0), draws.std(0, correction=0)
        u = (draws - mean) / deviation
        skew = u.pow(3).mean(0)
        of_skew = u**3 - 3 * u - skew - 1.5 * skew * (u**2 - 1)
        influence = torch.stack([deviation * u, deviation * (u**2 - 1) / 2, of_skew])
        size = torch.stack([_chain_size(series) for series in influence]) if markov_chain else len(draws)
        return cls(torch.stack([mean, deviation, skew]), (influence.square().mean(1) / size).sqrt())

    def difference(self, reference: Moments, standard_errors: float) -> Difference:
        """Compare with a reference, counting as noise so many standard errors of each difference."""
        deviation = reference.values[1]
        unit = torch.stack([deviation, deviation, torch.ones_like(deviation)])
        difference = (self.values - reference.values).abs() / unit
        noise = standard_errors * torch.hypot(self.errors, reference.errors) / unit
        return Difference(difference.square().mean(1).sqrt(), (difference - noise).amax(1).clamp(min=0.0))


def _chain_size(series: Tensor) -> Tensor:
    """Return the effective sample size of each column of one chain."""
    return effective_sample_size(series.unsqueeze(0), chain_dim=0, sample_dim=1)


def tabulate(differences: Mapping[str, Difference], allowed: Tensor) -> str:
    """Return a Markdown table of differences from NUTS, which says where one is beyond noise and what is allowed."""
    lines = [
        "Local latents: root-mean-square difference from NUTS",
        "",
        "| | mean | standard deviation | skewness |",
        "|:---|---:|---:|---:|",
    ]
    for name, difference in differences.items():
        fields = [
            f"{value:.3f}" if beyond <= limit else f"{value:.3f} (one by {beyond:.2f} beyond noise)"
            for value, beyond, limit in zip(*difference, allowed, strict=True)
        ]
        lines.append(f"| {name} | {' | '.join(fields)} |")
    return "\n".join(lines)
