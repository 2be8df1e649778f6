"""Densities of vectors to compare, of this library and of zuko: modules that map points to log p(x)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from vae_flows.cnf import ContinuousNormalizingFlow
from vae_flows.flows.adapters.zuko import import_flows

__all__ = ["ContinuousDensity", "GaussianDensity", "ZukoDensity", "glow_density", "spline_density"]


class ContinuousDensity(nn.Module):
    """log p(x) of a continuous normalizing flow, with the trace of its mode.

    Arguments:
        flow: The flow.
    """

    def __init__(self, flow: ContinuousNormalizingFlow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: Tensor) -> Tensor:
        """Return log p(x) `(N,)` in nats of points `(N, D)`."""
        return self.flow().log_prob(x)


class GaussianDensity(nn.Module):
    r"""log N(x; m, L Lᵀ) with mean and Cholesky factor of the covariance.

    Arguments:
        mean: m `(D,)`.
        factor: L `(D, D)`, lower triangular with a positive diagonal.
    """

    def __init__(self, mean: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.mean, self.factor = nn.Parameter(mean), nn.Parameter(factor)

    @classmethod
    def of(cls, x: Tensor) -> GaussianDensity:
        """Return the Gaussian of the highest likelihood of points `(N, D)`: their mean and covariance, by N."""
        x = x.double()
        centred = x - x.mean(0)
        return cls(x.mean(0), torch.linalg.cholesky(centred.mT @ centred / len(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Return log p(x) `(N,)` in nats of points `(N, D)`."""
        z = torch.linalg.solve_triangular(self.factor, (x - self.mean).mT, upper=False).mT
        return _standard_log_density(z) - self.factor.diagonal().log().sum()


class ZukoDensity(nn.Module):
    r"""log p(x) = log N(f(x); 0, I) + log |det ∂f/∂x| for a transform f of zuko, which carries data to noise.

    Arguments:
        transform: A lazy transform of zuko without a context.
    """

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor) -> Tensor:
        """Return log p(x) `(N,)` in nats of points `(N, D)`."""
        z, log_det = self.transform().call_and_ladj(x)
        return log_det + _standard_log_density(z)


def _standard_log_density(z: Tensor) -> Tensor:
    return -0.5 * (z**2).sum(-1) - 0.5 * z.shape[-1] * math.log(2 * math.pi)


def glow_density(
    size: int, *, num_steps: int, hidden_dims: Sequence[int], least_scale: float = 0.3, seed: int
) -> ZukoDensity:
    """Build a flow like Glow for vectors; its weights follow from the seed alone.

    Each step shifts the vector, maps it linearly by an invertible matrix in the form L U, and scales and shifts every
    other component as a network of the rest says: the three parts of a step of Glow (Kingma and Dhariwal 2018,
    section 3).

    Arguments:
        size: D.
        num_steps: Steps in sequence.
        hidden_dims: Widths of the hidden layers of each network.
        least_scale: s; a step scales by a number between s and 1 / s. Glow bounds its scales too, by a sigmoid; without
            a bound the likelihood of an outlier can fall by orders of magnitude from one step of training to the next.
        seed: Seed of the weights.

    Raises:
        MissingPackageError: zuko is not installed.
    """
    flows = import_flows()
    lazy, transforms = import_module("zuko.lazy"), import_module("zuko.transforms")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        steps: list[Any] = []
        for index in range(num_steps):
            steps += [
                lazy.UnconditionalTransform(transforms.AdditiveTransform, torch.zeros(size)),
                lazy.UnconditionalTransform(transforms.LULinearTransform, torch.eye(size)),
                flows.GeneralCouplingTransform(
                    size,
                    mask=torch.arange(size) % 2 == index % 2,
                    univariate=partial(transforms.MonotonicAffineTransform, slope=least_scale),
                    hidden_features=tuple(hidden_dims),
                ),
            ]
        return ZukoDensity(lazy.LazyComposedTransform(*steps))


def spline_density(size: int, *, num_transforms: int, hidden_dims: Sequence[int], seed: int) -> ZukoDensity:
    """Build zuko's autoregressive flow of rational-quadratic splines (Durkan et al. 2019), by its defaults else.

    Arguments:
        size: D.
        num_transforms: Transforms in sequence, in alternating order of the components.
        hidden_dims: Widths of the hidden layers of each network.
        seed: Seed of the weights.

    Raises:
        MissingPackageError: zuko is not installed.
    """
    flows = import_flows()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ZukoDensity(flows.NSF(size, transforms=num_transforms, hidden_features=tuple(hidden_dims)).transform)
