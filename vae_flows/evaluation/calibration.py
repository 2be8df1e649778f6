"""Simulation-based calibration: whether posteriors have the spread and place that their model's data call for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint, require_fraction, require_positive
from vae_flows.evaluation.uniformity import RankBand, RankHistogram, rank_points, simultaneous_counts
from vae_flows.shown import shown

__all__ = ["CalibrationResult", "simulation_based_calibration"]


@shown
@dataclass(frozen=True)
class CalibrationResult:
    """Ranks of true parameters among posterior draws; uniform on 0, …, `num_draws` where posteriors are exact.

    Arguments:
        ranks: Number of draws below the true value, `(num_simulations, K)` integers, one column a parameter.
        num_draws: L, the draws of a posterior.
    """

    ranks: Tensor
    num_draws: int

    @checked
    def p_values(self, num_bins: int = 20) -> Tensor:
        """Test each parameter's ranks for uniformity by Pearson's chi-squared.

        Ranks in a U, with both ends too full, mean posteriors too narrow; a hump, too wide; a slope, too high or too
        low. K p-values are K chances of a false alarm: compare each with the wanted level over K.

        Arguments:
            num_bins: Bins of equal width, a divisor of L + 1; about five simulations or more should fall in each.

        Returns:
            K p-values, in double precision.

        Raises:
            InvalidInputError: `num_bins` is no divisor, or below 2.
        """
        counts = self._counts("p_values", num_bins).double()
        expected = len(self.ranks) / num_bins
        statistic = ((counts - expected) ** 2 / expected).sum(0)
        half = torch.tensor((num_bins - 1) / 2, dtype=torch.float64)
        return torch.special.gammaincc(half, statistic / 2)  # the survival function of chi-squared

    @checked
    def histogram(self, num_bins: int = 20, probability: float = 0.95) -> RankHistogram:
        """Count the ranks in bins of equal width, with the interval of a bin of uniform ranks.

        Arguments:
            num_bins: Bins, a divisor of L + 1.
            probability: Of the interval, for each bin by itself.

        Raises:
            InvalidInputError: `num_bins` is no divisor or below 2, or the probability is not in (0, 1).
        """
        counts = self._counts("histogram", num_bins)
        require_fraction("histogram", probability=probability)
        from scipy import stats  # takes half a second, which training need not wait for

        lower, upper = stats.binom.interval(probability, len(self.ranks), 1 / num_bins)
        return RankHistogram(counts, int(lower), int(upper))

    @checked
    def ecdf_band(self, probability: float = 0.95, num_points: int = 50) -> RankBand:
        """Compare the ECDF of ranks with the uniform one, in a band that holds at all points at once.

        A curve above the band means that ranks are too low, so that the posteriors are too high; below, the other way.
        First above and then below is a posterior that is too narrow; first below, too wide. K parameters are K chances
        of a false alarm: take a probability of 1 − 0.05 / K.

        Source: Säilynoja, Bürkner and Vehtari (2022), "Graphical test for discrete uniformity and its applications in
        goodness-of-fit evaluation and multiple sample comparison".

        Arguments:
            probability: With which uniform ranks stay within the band.
            num_points: Points at which the ECDF is evaluated, at most L.

        Raises:
            InvalidInputError: The probability is not in (0, 1), or `num_points` is not positive.

        Example:
            >>> result = CalibrationResult(torch.arange(100).unsqueeze(-1), num_draws=99)
            >>> result.ecdf_band().is_inside
            tensor([True])
        """
        require_positive("ecdf_band", num_points=num_points)
        require_fraction("ecdf_band", probability=probability)
        count = len(self.ranks)
        ranks, points = rank_points(self.num_draws, num_points)
        lower, upper, reached = simultaneous_counts(count, points, float(probability))
        uniform = torch.from_numpy(points)
        below = (self.ranks <= ranks[:, None, None]).sum(1)
        low, high = (torch.from_numpy(edge) / count - uniform for edge in (lower, upper))
        return RankBand(uniform, below / count - uniform[:, None], low, high, reached)

    def _counts(self, method: str, num_bins: int) -> Tensor:
        require_positive(method, num_bins=num_bins)
        if num_bins < 2 or (self.num_draws + 1) % num_bins:
            raise InvalidInputError(
                complaint(f"{method} num_bins", f"a divisor of L + 1 = {self.num_draws + 1}, at least 2", num_bins)
            )
        return F.one_hot(self.ranks * num_bins // (self.num_draws + 1), num_bins).sum(0).T


@checked
@torch.no_grad()
def simulation_based_calibration(
    prior_sample: Callable[[int], Tensor],
    simulate: Callable[[Tensor], Tensor],
    posterior_sample: Callable[[Tensor, int], Tensor],
    *,
    num_simulations: int,
    num_draws: int = 99,
    chunk_size: int = 500,
) -> CalibrationResult:
    r"""Rank parameters drawn from the prior among draws from the posteriors of data that they generate.

    With :math:`\theta \sim p(\theta)`, :math:`x \sim p(x | \theta)` and :math:`\theta_1, \dots, \theta_L \sim
    q(\theta | x)`, the rank :math:`\sum_l 1[\theta_l < \theta]` is uniform on 0, …, L if q is the posterior (Talts et
    al. 2018, "Validating Bayesian Inference Algorithms with Simulation-Based Calibration", theorem 1, algorithm 1). The
    converse does not hold: a q that ignores x and is the prior passes as well.

    Arguments:
        prior_sample: Draws n parameter vectors, `(n, K)`.
        simulate: Draws data for parameters `(n, K)`, with n rows.
        posterior_sample: Maps data of n rows and L to independent draws `(L, n, K)` from each row's posterior.
        num_simulations: Parameter vectors drawn.
        num_draws: L.
        chunk_size: Simulations done at once.

    Returns:
        The ranks.

    Raises:
        InvalidInputError: A size is not positive, or draws have another shape or are not finite.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> result = simulation_based_calibration(
        ...     lambda n: torch.randn(n, 1),
        ...     lambda theta: theta + torch.randn_like(theta),
        ...     lambda x, count: x / 2 + 0.5**0.5 * torch.randn(count, *x.shape),  # the exact posterior
        ...     num_simulations=1000,
        ... )
        >>> bool(result.p_values()[0] > 0.01)
        True
    """
    require_positive(
        "simulation_based_calibration", num_simulations=num_simulations, num_draws=num_draws, chunk_size=chunk_size
    )
    ranks = []
    for chunk in torch.arange(num_simulations).split(chunk_size):
        theta = prior_sample(len(chunk))
        draws = posterior_sample(simulate(theta), num_draws)
        if theta.dim() != 2 or len(theta) != len(chunk) or draws.shape != (num_draws, *theta.shape):
            raise InvalidInputError(
                complaint(
                    "simulation_based_calibration",
                    f"parameters of shape ({len(chunk)}, K) and draws of shape ({num_draws}, {len(chunk)}, K)",
                    f"{tuple(theta.shape)} and {tuple(draws.shape)}",
                )
            )
        for name, values in (("parameters", theta), ("draws", draws)):
            if not bool(torch.isfinite(values).all()):
                raise InvalidInputError(complaint(f"simulation_based_calibration {name}", "finite values", "others"))
        ranks.append((draws < theta).sum(0).cpu())
    return CalibrationResult(torch.cat(ranks), num_draws)
