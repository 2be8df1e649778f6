r"""Importance weights w = p(x, z) / q(z | x): bounds of log p(x) for several K at once, and how far to trust them.

With :math:`z_1, \dots, z_S \sim q(z|x)`, the importance-weighted bound of K draws is the expectation
:math:`L_K = E[\log \frac1K \sum_{k=1}^K w_k] \le \log p(x)`, which rises with K (Burda et al. 2016, "Importance
Weighted Autoencoders", theorem 1); L₁ is the ELBO. One set of S draws serves every K: its ⌊S / K⌋ disjoint groups each
give an unbiased estimate of L_K, and their average has ⌊S / K⌋ times less variance than one group, or a prefix, alone.
The groups are filled as draws arrive, so that memory depends neither on S nor on K.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_flows.checks import checked, described
from vae_flows.distributions import draw_from
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.extras import needing
from vae_flows.objectives import for_nonlinear_bound
from vae_flows.objectives.draws import evaluate_log_density
from vae_flows.tensors.shapes import is_dense

__all__ = [
    "BoundSums",
    "ImportanceBounds",
    "WeightDiagnostics",
    "bound_sizes",
    "diagnose_weights",
    "effective_sample_size",
    "importance_weighted_bounds",
    "sample_log_weights",
]

SPREAD_OF_EQUALS = 1e-6
"""Differences of log-weights that are rounding."""
LogDensity = Callable[[Tensor], Tensor]


class ImportanceBounds(NamedTuple):
    r"""Estimates of L_K for several K, in nats, from the same draws.

    Arguments:
        particles: The K, increasing.
        bounds: Unbiased estimates of L_K, `(len(particles), *batch)`, in double precision.
        effective_sample_size: :math:`(\sum w)^2 / \sum w^2` over all draws, `(*batch)`, between 1 and their number.
        num_samples: S, the draws.
    """

    particles: tuple[int, ...]
    bounds: Tensor
    effective_sample_size: Tensor
    num_samples: int

    @property
    def standard_error(self) -> Tensor:
        r"""Monte-Carlo error of :math:`\log \frac1S \sum w`, `(*batch)`, by the delta method; infinite for one draw.

        The relative variance of the mean weight, :math:`(S / \mathrm{ESS} - 1) / (S - 1)`, is the variance of its
        logarithm where it is small; minus half of it is the bias. Weights with heavy tails make both too small.
        """
        return self._relative_variance.sqrt()

    @property
    def bias(self) -> Tensor:
        r"""Leading term of the bias of :math:`\log \frac1S \sum w` as an estimate of log p(x), `(*batch)`: negative."""
        return -self._relative_variance / 2

    @property
    def _relative_variance(self) -> Tensor:
        if self.num_samples == 1:
            return torch.full_like(self.effective_sample_size, math.inf)
        return (self.num_samples / self.effective_sample_size - 1).clamp(min=0) / (self.num_samples - 1)


class WeightDiagnostics(NamedTuple):
    r"""How far importance-sampling estimates can be trusted, `(*batch)` each.

    Arguments:
        effective_sample_size: :math:`(\sum w)^2 / \sum w^2`.
        pareto_k: Shape k̂ of the generalised Pareto distribution of the largest weights.
        num_samples: Draws.
    """

    effective_sample_size: Tensor
    pareto_k: Tensor
    num_samples: int

    @property
    def threshold(self) -> float:
        r"""What k̂ must stay below for S draws to do: :math:`\min(1 - 1 / \log_{10} S, 0.7)` (Vehtari et al. 2024)."""
        return min(1 - 1 / math.log10(self.num_samples), 0.7) if self.num_samples > 1 else -math.inf

    @property
    def is_reliable(self) -> Tensor:
        """Whether k̂ is below the threshold, booleans `(*batch)`."""
        return self.pareto_k < self.threshold


class BoundSums:
    """Running sums from which the bounds of several K follow, in memory that does not grow with the draws.

    Arguments:
        particles: The K wanted.

    Example:
        >>> sums = BoundSums([1, 2])
        >>> for chunk in torch.tensor([0.0, 1.0, 2.0, 3.0]).unsqueeze(-1).split(3):
        ...     sums.add(chunk)
        >>> sums.result().bounds.squeeze(-1)  # the mean, and that of log((1 + e) / 2) and 2 more
        tensor([1.5000, 1.6201], dtype=torch.float64)
    """

    def __init__(self, particles: Sequence[int]) -> None:
        self._particles = tuple(particles)
        self._groups = [_Groups(size) for size in self._particles]
        self._sum = self._sum_of_squares = torch.tensor(-math.inf, dtype=torch.float64)
        self._count = 0

    def add(self, log_weights: Tensor) -> None:
        """Add the log-weights of further draws, `(S, *batch)`."""
        log_weights = log_weights.double()
        for groups in self._groups:
            groups.add(log_weights)
        self._sum = torch.logaddexp(self._sum.to(log_weights.device), log_weights.logsumexp(0))
        squares = (2 * log_weights).logsumexp(0)
        self._sum_of_squares = torch.logaddexp(self._sum_of_squares.to(log_weights.device), squares)
        self._count += len(log_weights)

    def result(self) -> ImportanceBounds:
        """Return the bounds, each of at least one full group."""
        bounds = torch.stack([groups.mean() for groups in self._groups])
        return ImportanceBounds(self._particles, bounds, (2 * self._sum - self._sum_of_squares).exp(), self._count)


class _Groups:
    """The average of log mean w over disjoint groups of `size` draws, the last of which may not be full yet."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._open = torch.tensor(-math.inf, dtype=torch.float64)
        self._filled = 0
        self._total = torch.zeros((), dtype=torch.float64)
        self._count = 0

    def add(self, log_weights: Tensor) -> None:
        while len(log_weights):
            if not self._filled and (full := len(log_weights) // self._size):
                grouped = log_weights[: full * self._size].unflatten(0, (full, self._size))
                self._close(grouped.logsumexp(1).sum(0), full)
                log_weights = log_weights[full * self._size :]
                continue
            part = log_weights[: self._size - self._filled]
            self._open = torch.logaddexp(self._open.to(part.device), part.logsumexp(0))
            self._filled += len(part)
            log_weights = log_weights[len(part) :]
            if self._filled == self._size:
                self._close(self._open, 1)
                self._open, self._filled = torch.full_like(self._open, -math.inf), 0

    def mean(self) -> Tensor:
        return self._total / self._count

    def _close(self, log_sums: Tensor, count: int) -> None:
        self._total = self._total.to(log_sums.device) + log_sums - count * math.log(self._size)
        self._count += count


def bound_sizes(subject: str, particles: Sequence[int], num_samples: int) -> tuple[int, ...]:
    """Return the K of the bounds wanted, increasing, with 1 (the ELBO) and the number of samples among them.

    Raises:
        InvalidInputError: One is not positive, or above the number of samples.

    Example:
        >>> bound_sizes("bounds", (10, 100), 500)
        (1, 10, 100, 500)
    """
    require_positive(subject, num_samples=num_samples)
    for size in particles:
        require_positive(subject, particles=size)
        if size > num_samples:
            raise InvalidInputError(complaint(f"{subject} particles", f"at most num_samples = {num_samples}", size))
    return tuple(sorted({1, *map(int, particles), num_samples}))


@checked
@torch.no_grad()
def importance_weighted_bounds(
    log_joint: LogDensity,
    q: Distribution,
    particles: Sequence[int] = (),
    *,
    num_samples: int,
    chunk_size: int | None = None,
) -> ImportanceBounds:
    r"""Estimate :math:`L_K = E[\log \frac1K \sum_k p(x, z_k) / q(z_k)]` for several K from the same draws.

    Source: Burda et al. (2016), "Importance weighted autoencoders", equation 8 and theorem 1.

    Arguments:
        log_joint: Maps z `(S, *batch, *event)` to log p(x, z) `(S, *batch)`.
        q: The approximate posterior, any reparameterised distribution.
        particles: The K; 1 and `num_samples` are added.
        num_samples: Draws. The bound of K averages over ⌊`num_samples` / K⌋ disjoint groups of them.
        chunk_size: Draws computed at once, all by default; memory grows with it alone.

    Raises:
        InvalidInputError: A size is out of range, a log-density of another shape, or q has no reparameterised samples.

    Example:
        >>> from torch.distributions import Normal
        >>> x = torch.tensor([0.0, 3.0])
        >>> found = importance_weighted_bounds(
        ...     lambda z: Normal(z, 1.0).log_prob(x) + Normal(0.0, 1.0).log_prob(z),
        ...     Normal(x / 2, 0.5**0.5), (10,), num_samples=100, chunk_size=30)
        >>> found.particles  # each of them exact, since q is the posterior
        (1, 10, 100)
        >>> torch.allclose(found.bounds, Normal(0.0, 2**0.5).log_prob(x).double())
        True
    """
    sums = BoundSums(bound_sizes("importance_weighted_bounds", particles, num_samples))
    for log_weights in log_weight_chunks(log_joint, q, num_samples, chunk_size):
        sums.add(log_weights)
    return sums.result()


@checked
@torch.no_grad()
def sample_log_weights(
    log_joint: LogDensity, q: Distribution, num_samples: int, *, chunk_size: int | None = None
) -> Tensor:
    r"""Draw from q and return :math:`\log w = \log p(x, z) - \log q(z)`, `(num_samples, *batch)`.

    Arguments:
        log_joint: Maps z `(S, *batch, *event)` to log p(x, z) `(S, *batch)`.
        q: The approximate posterior, any reparameterised distribution.
        num_samples: Draws.
        chunk_size: Draws computed at once, all by default.

    Raises:
        InvalidInputError: A size is not positive, a log-density of another shape, or q has no reparameterised samples.

    Example:
        >>> from torch.distributions import Normal
        >>> sample_log_weights(Normal(0.0, 1.0).log_prob, Normal(torch.zeros(2), 1.0), 3).abs().max()
        tensor(0.)
    """
    return torch.cat(list(log_weight_chunks(log_joint, q, num_samples, chunk_size)))


def effective_sample_size(log_weights: Tensor) -> Tensor:
    r"""Return :math:`(\sum_s w_s)^2 / \sum_s w_s^2`, `(*batch)`, for log-weights `(S, *batch)`.

    Raises:
        InvalidInputError: There are no log-weights, or they are no floating-point tensor.

    Example:
        >>> size = effective_sample_size(torch.tensor([0.0, 0.0, 0.0, -1e9]))  # one of four counts for nothing
        >>> f"{size:.3f}"
        '3.000'
    """
    _check_log_weights("effective_sample_size", log_weights)
    log_weights = log_weights.double()
    return (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()


def diagnose_weights(log_weights: Tensor) -> WeightDiagnostics:
    r"""Diagnose importance weights by their effective number and the Pareto shape k̂ of the largest.

    Where the tail cannot be fitted, as weights are tied or differ by more than numbers can, k̂ is ∞ if the few larger
    ones carry more than half of the weight, and −∞ otherwise.

    Where k̂ is above ½ the variance of weights is infinite, above 1 their mean; at 0.7 no feasible number of draws does.

    Source: Vehtari et al. (2024), "Pareto smoothed importance sampling"; Yao et al. (2018), "Yes, but did it work?
    Evaluating variational inference". The fit is that of ArviZ.

    Arguments:
        log_weights: `(S, *batch)`, such as `sample_log_weights` returns; S ≥ 25 for a tail to fit.

    Raises:
        InvalidInputError: Fewer weights, or ones that are not finite.
        MissingPackageError: ArviZ is not installed.

    Example:
        >>> found = diagnose_weights(torch.zeros(100, 2))  # doctest: +SKIP
        >>> found.is_reliable  # doctest: +SKIP
        tensor([True, True])
    """
    _check_log_weights("diagnose_weights", log_weights, least=25)
    if not bool(log_weights.isfinite().all()):
        raise InvalidInputError(complaint("diagnose_weights log_weights", "finite values", "others"))
    values = log_weights.detach().double().cpu()
    rows = values.flatten(1).T if values.dim() > 1 else values.unsqueeze(0)
    spread = rows.amax(1) - rows.amin(1)
    shapes = torch.full((len(rows),), -math.inf, dtype=torch.float64)  # of weights equal to rounding: they have no tail
    uneven, fitted = (spread > SPREAD_OF_EQUALS), _tail_can_be_fitted(rows)
    if len(chosen := (uneven & fitted).nonzero().flatten()):
        # It takes log-likelihoods, whose reciprocals are the weights of leaving an observation out.
        _, pareto_k = _arviz().psislw(-rows[chosen].numpy())
        shapes[chosen] = torch.as_tensor(pareto_k, dtype=torch.float64)
    shapes[uneven & ~fitted & (_share_of_larger_weights(rows) > 0.5)] = math.inf
    return WeightDiagnostics(effective_sample_size(values), shapes.reshape(values.shape[1:]), len(values))


def _tail_of(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest weights that ArviZ fits, in order, and the next smaller one, as parts of the largest."""
    draws = rows.shape[1]
    length = int(3 * math.sqrt(draws)) if draws > 225 else draws // 5
    largest = (rows - rows.amax(1, keepdim=True)).topk(length + 1).values.flip(1)
    return largest[:, 1:], largest[:, :1]


def _tail_can_be_fitted(rows: Tensor) -> Tensor:
    """Say of which rows `(N, S)` the fit, which divides by the first quartile of the tail, has numbers to go by."""
    tail, cutoff = _tail_of(rows)
    quartile = tail[:, int(tail.shape[1] / 4 + 0.5) - 1]
    uneven = tail[:, -1] - tail[:, 0] > 0
    return (quartile.exp() > cutoff[:, 0].exp()) & uneven


def _share_of_larger_weights(rows: Tensor) -> Tensor:
    """Return the share of all weight of those above the one with which the tail begins."""
    _, cutoff = _tail_of(rows)
    relative = rows - rows.amax(1, keepdim=True)
    return torch.where(relative > cutoff + SPREAD_OF_EQUALS, relative.exp(), 0.0).sum(1) / relative.exp().sum(1)


def _arviz() -> Any:
    """Import what fits the tail of weights: an optional part of the library, which takes seconds to load."""
    with needing("stats"):
        return import_module("arviz_stats.base").array_stats


def log_weight_chunks(
    log_joint: LogDensity, q: Distribution, num_samples: int, chunk_size: int | None
) -> Iterator[Tensor]:
    """Yield the log-weights of draws from q in chunks `(S, *batch)`; arguments as of `sample_log_weights`."""
    chunk_size = num_samples if chunk_size is None else chunk_size
    require_positive("importance sampling", num_samples=num_samples, chunk_size=chunk_size)
    q = for_nonlinear_bound("log q", q)
    for start in range(0, num_samples, chunk_size):
        drawn = draw_from(q, (min(chunk_size, num_samples - start),))
        yield evaluate_log_density("log_joint", log_joint, drawn.z, drawn.log_q.shape) - drawn.log_q


def _check_log_weights(owner: str, log_weights: Tensor, least: int = 1) -> None:
    if not is_dense(log_weights) or log_weights.is_meta or not log_weights.dim():
        raise InvalidInputError(complaint(f"{owner} log_weights", "log-weights (S, *batch)", described(log_weights)))
    if len(log_weights) < least:
        raise InvalidInputError(complaint(f"{owner} log_weights", f"at least {least} draws", len(log_weights)))
