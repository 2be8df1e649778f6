"""A VAE of which all is known: x = W z + noise with Gaussian z, and posteriors that are right or wrong by design.

log p(x), the posterior, the KL terms and all gaps have closed forms, against which estimators are tested.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

from tests.seeds import torch_generator
from vae_flows.likelihoods import Likelihood
from vae_flows.vae import VAE

__all__ = ["GaussianNoise", "LinearGaussianVAE", "diagonal", "exact"]

NOISE = 0.5


class GaussianNoise(Likelihood):
    """x = parameters + NOISE · N(0, 1), for vectors x."""

    def __init__(self) -> None:
        super().__init__(parameters_per_pixel=1, event_dim=1)

    def forward(self, parameters: Tensor) -> Independent:
        return Independent(Normal(parameters, NOISE, validate_args=False), 1, validate_args=False)

    def check(self, x: Tensor) -> None:
        pass


class Posterior(nn.Module):
    """q(z | x) by a function of the exact mean and covariance."""

    def __init__(self, make: Callable[[Tensor, Tensor], Distribution], latent_dim: int) -> None:
        super().__init__()
        self.make = make
        self.latent_dim = latent_dim

    def forward(self, context: Tensor) -> Distribution:
        mean, variances = context[..., : self.latent_dim], context[..., self.latent_dim :]
        return self.make(mean, variances.unflatten(-1, (self.latent_dim, self.latent_dim)))


class Encoder(nn.Module):
    """Maps x to the mean and covariance of the exact posterior."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        precision = torch.eye(weight.shape[1], dtype=weight.dtype) + weight.T @ weight / NOISE**2
        self.register_buffer("covariance", precision.inverse())
        self.register_buffer("gain", precision.inverse() @ weight.T / NOISE**2)

    def forward(self, x: Tensor) -> Tensor:
        covariance = self.covariance.flatten().expand(*x.shape[:-1], -1)
        return torch.cat((x @ self.gain.T, covariance), -1)


class LinearGaussianVAE(VAE):
    """x = W z + noise, in float64.

    Arguments:
        make: The approximate posterior, from the exact mean `(*batch, D)` and covariance `(*batch, D, D)`.
        weight: W `(x_dim, D)`; where its columns are orthogonal, the exact posterior is diagonal.
    """

    def __init__(self, make: Callable[[Tensor, Tensor], Distribution], weight: Tensor) -> None:
        weight = weight.double()
        decoder = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.float64)
        decoder.weight = nn.Parameter(weight)
        super().__init__(Encoder(weight), decoder, Posterior(make, weight.shape[1]), GaussianNoise())
        self.matrix = weight

    @property
    def marginal(self) -> MultivariateNormal:
        """p(x)."""
        covariance = self.matrix @ self.matrix.T + NOISE**2 * torch.eye(len(self.matrix), dtype=torch.float64)
        return MultivariateNormal(torch.zeros(len(self.matrix), dtype=torch.float64), covariance)

    def data(self, count: int, seed: int = 0) -> Tensor:
        """Draw x from the model."""
        noise = torch.randn(count, len(self.matrix), dtype=torch.float64, generator=torch_generator(seed))
        return noise @ self.marginal.scale_tril.T

    def true_posterior(self, x: Tensor) -> MultivariateNormal:
        """p(z | x)."""
        return exact(*self._moments(x))

    def gap(self, x: Tensor) -> Tensor:
        """KL(q(z | x) || p(z | x)) of a Gaussian q, which is log p(x) − ELBO."""
        q = self.encode(x)
        base = q.base_dist if isinstance(q, Independent) else q
        as_full = MultivariateNormal(q.mean, torch.diag_embed(base.stddev.square())) if base is not q else q
        return kl_divergence(as_full, self.true_posterior(x))

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        context = self.encoder(x)
        D = self.matrix.shape[1]
        return context[..., :D], context[..., D:].unflatten(-1, (D, D))


def exact(mean: Tensor, covariance: Tensor) -> MultivariateNormal:
    """Return the exact posterior."""
    return MultivariateNormal(mean, covariance, validate_args=False)


def diagonal(
    widen: float = 1.0, shift: float = 0.0, shrink: float = 1.0, ignore: bool = False
) -> Callable[[Tensor, Tensor], Distribution]:
    """Make a diagonal Gaussian posterior, by default the best one.

    Arguments:
        widen: Factor of the standard deviations; below 1, over-narrow.
        shift: Added to the means.
        shrink: Factor of the means.
        ignore: Return the prior whatever x is: a collapsed posterior.
    """

    def make(mean: Tensor, covariance: Tensor) -> Distribution:
        if ignore:
            return Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
        # The Gaussian nearest in KL(q || p) has the diagonal of the precision.
        scale = widen * covariance.inverse().diagonal(dim1=-2, dim2=-1).rsqrt()
        return Independent(Normal(shrink * mean + shift, scale), 1)

    return make


def weight(x_dim: int = 6, latent_dim: int = 2, orthogonal: bool = False, seed: int = 0) -> Tensor:
    """Draw W."""
    drawn = torch.randn(x_dim, latent_dim, dtype=torch.float64, generator=torch_generator(seed))
    return torch.linalg.qr(drawn)[0] * math.sqrt(x_dim) / 2 if orthogonal else drawn / 2
