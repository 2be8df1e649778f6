"""What tests of objectives share: tolerances, posteriors, and a model whose posterior and bounds are known."""

from __future__ import annotations

import torch
import torch.distributions as td
from torch import Tensor

import vae_flows as vf
from tests.small_flows import DISCRETE, FLOWS, moved

D, C = 2, 3
ALPHAS = [-1.0, 0.0, 0.5, 1.0, 2.0]

ROUNDING = 1e-9
DIFFERENCES = 1e-6  # truncation and rounding of central differences with STEP
STEP = 1e-5
SOLVER = 1e-5  # forward and backward solves with steps of 1/20
STANDARD_ERRORS = 5  # two-sided false-alarm rate 6e-7 per entry, 6e-5 for all entries of these tests

OWN = [*DISCRETE, "ffjord-fixed-steps"]


def posterior(flow: str) -> vf.AmortizedPosterior:
    return moved(FLOWS[flow].posterior(D, C), by=0.2)


def close(actual: Tensor, expected: Tensor, tolerance: float = ROUNDING) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def skewed(z: Tensor) -> Tensor:
    """Log-density, up to a constant, of a target that is neither a Gaussian nor symmetric."""
    return -((z - 0.7) ** 2).sum(-1) / 2 + z.sin().prod(-1)


class LinearGaussian:
    """z ~ N(0, 1) and x ~ N(weight z, 1): posterior, evidence and divergences are known."""

    def __init__(self, weight: float = 1.5, x: float = 0.8) -> None:
        self.weight = scalar(weight)
        self.x = torch.tensor(x, dtype=torch.float64)

    def log_likelihood(self, z: Tensor) -> Tensor:
        return td.Normal(self.weight * z, 1.0).log_prob(self.x)

    def log_prior(self, z: Tensor) -> Tensor:
        return td.Normal(torch.zeros_like(self.x), 1.0).log_prob(z)

    def log_joint(self, z: Tensor) -> Tensor:
        return self.log_likelihood(z) + self.log_prior(z)

    def posterior(self) -> td.Normal:
        precision = 1 + self.weight**2
        return td.Normal(self.weight * self.x / precision, precision**-0.5)

    def evidence(self) -> Tensor:
        return td.Normal(torch.zeros_like(self.x), (1 + self.weight**2).sqrt()).log_prob(self.x)

    def renyi(self, q: td.Normal, alpha: float) -> Tensor:
        """log p(x) − D_α(q ‖ p(z | x)) (Gil et al. 2013, table 2)."""
        p = self.posterior()
        if alpha == 1:
            return self.evidence() - td.kl_divergence(q, p)
        mixed = alpha * p.variance + (1 - alpha) * q.variance
        divergence = (
            (p.scale / q.scale).log()
            + (p.variance / mixed).log() / (2 * (alpha - 1))
            + alpha * (q.loc - p.loc) ** 2 / (2 * mixed)
        )
        return self.evidence() - divergence
