"""Whether two samples come from one distribution, by a kernel; and so whether the aggregate posterior is the prior."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Size, Tensor

from vae_flows.checks import checked, described, require_finite
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.evaluation.batches import chosen_batch, evaluating
from vae_flows.tensors.shapes import is_dense
from vae_flows.vae import VAE

__all__ = ["TwoSampleResult", "compare_aggregate_posterior", "kernel_two_sample_test"]

PERMUTATIONS_AT_ONCE = 100


class TwoSampleResult(NamedTuple):
    """A kernel two-sample test.

    Arguments:
        statistic: The squared maximum mean discrepancy, an unbiased estimate: about 0 where the samples are alike.
        p_value: The fraction of permutations with a statistic as large, the observed one among them.
        bandwidth: Length scale ℓ of the kernel.
        num_permutations: Permutations drawn.
    """

    statistic: float
    p_value: float
    bandwidth: float
    num_permutations: int


@checked
@torch.no_grad()
def kernel_two_sample_test(
    x: Tensor,
    y: Tensor,
    *,
    bandwidth: float | None = None,
    num_permutations: int = 500,
    generator: torch.Generator | None = None,
) -> TwoSampleResult:
    r"""Test two samples by the squared maximum mean discrepancy, with the p-value of random permutations.

    :math:`\mathrm{MMD}^2 = E[k(x, x')] - 2 E[k(x, y)] + E[k(y, y')]` with the kernel
    :math:`k(a, b) = \exp(-\|a - b\|^2 / 2 \ell^2)`. The p-value is exact at every level for exchangeable samples.

    Source: Gretton et al. (2012), "A kernel two-sample test", lemma 6; the bandwidth is their median heuristic.

    Arguments:
        x: `(N, D)`.
        y: `(M, D)`. Memory and time grow with (N + M)².
        bandwidth: ℓ, by default the median distance between two points of the two samples together.
        num_permutations: The smallest p-value is 1 / (`num_permutations` + 1).
        generator: Source of the permutations.

    Raises:
        InvalidInputError: Samples of other shapes, of fewer than two points, or not finite.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> kernel_two_sample_test(torch.randn(200, 2), torch.randn(200, 2) + 1).p_value < 0.01
        True
    """
    for name, sample in (("x", x), ("y", y)):
        fits = is_dense(sample) and not sample.is_meta and sample.dim() == 2 and len(sample) > 1
        if not fits or sample.shape[1] != x.shape[1] or not sample.shape[1] or not bool(sample.isfinite().all()):
            expected = "two samples of finite vectors, (N, D) and (M, D)"
            raise InvalidInputError(complaint(f"kernel_two_sample_test {name}", expected, described(sample)))
    require_positive("kernel_two_sample_test", num_permutations=num_permutations)
    points = torch.cat((x.double(), y.double().to(x.device)))
    # By differences: products lose digits far from zero, and leave points at a distance from themselves.
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    if bandwidth is None:
        bandwidth = float(distances[distances > 0].median()) if bool((distances > 0).any()) else 1.0
    require_finite("kernel_two_sample_test", above=0, bandwidth=bandwidth)
    kernel = (-0.5 * (distances / bandwidth).square()).exp().fill_diagonal_(0)
    device = points.device if generator is None else generator.device
    shuffled = torch.rand(num_permutations, len(points), generator=generator, device=device).argsort(1)
    order = torch.arange(len(points), device=device).unsqueeze(0)
    statistics = torch.cat(
        [
            _discrepancies(kernel, (rows < len(x)).to(kernel))
            for rows in torch.cat((order, shuffled)).split(PERMUTATIONS_AT_ONCE)
        ]
    )
    # Permutations that exchange equal points differ from the samples by rounding alone.
    as_large = statistics[1:] >= statistics[0] - 1e-12
    p_value = (1 + int(as_large.sum())) / (1 + num_permutations)
    return TwoSampleResult(float(statistics[0]), p_value, float(bandwidth), num_permutations)


@checked
@torch.no_grad()
def compare_aggregate_posterior(
    vae: VAE, data: Any, *, num_draws: int = 1000, num_permutations: int = 500, seed: int = 0
) -> TwoSampleResult:
    """Test whether the aggregate posterior E_x[q(z | x)] is the prior p(z), by a kernel two-sample test.

    Samples of a model whose aggregate posterior misses the prior come from latents that its decoder has never seen.

    Arguments:
        vae: The model; it is put in evaluation mode meanwhile.
        data: The images, such as `data.test`.
        num_draws: Draws of each, one per image and no more than there are images.
        num_permutations: Permutations of the test.
        seed: The same seed gives the same result.

    Raises:
        InvalidInputError: A size is not positive, or there are fewer than two images.

    Example:
        >>> from vae_flows.data import Images
        >>> from vae_flows.likelihoods import BernoulliLikelihood
        >>> from vae_flows.networks import MLPDecoder, MLPEncoder
        >>> from vae_flows.posterior import AmortizedPosterior
        >>> shape = (1, 4, 4)
        >>> images = Images(torch.randint(256, (30, 2), dtype=torch.uint8), shape, packed=True)
        >>> encoder, decoder = MLPEncoder(shape, (8,), context_dim=6), MLPDecoder(2, shape, (8,))
        >>> vae = VAE(encoder, decoder, AmortizedPosterior(2, 6, flow="planar"), BernoulliLikelihood())
        >>> 0 < compare_aggregate_posterior(vae, images).p_value <= 1
        True
    """
    require_positive("compare_aggregate_posterior", num_draws=num_draws, num_permutations=num_permutations)
    with evaluating(vae, seed, "aggregate") as generator:
        z = vae.encode(chosen_batch(vae, data, num_draws, generator)).sample()
        prior = vae.prior(z).sample(Size([len(z)]))
        return kernel_two_sample_test(z, prior, num_permutations=num_permutations, generator=generator)


def _discrepancies(kernel: Tensor, first: Tensor) -> Tensor:
    """Return MMD² for memberships `first (P, N)` of the first sample, from a kernel without its diagonal."""
    second = 1 - first
    n, m = first.sum(1), second.sum(1)
    of_first = first @ kernel
    within_first, across = (of_first * first).sum(1), (of_first * second).sum(1)
    within_second = ((second @ kernel) * second).sum(1)
    return within_first / (n * (n - 1)) + within_second / (m * (m - 1)) - 2 * across / (n * m)
