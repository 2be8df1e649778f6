r"""What latents know of images: rate, distortion, and the mutual information of images and latents under q.

With the aggregate posterior :math:`q(z) = E_x[q(z|x)]` the rate splits into two parts (Hoffman and Johnson 2016, "ELBO
surgery: yet another way to carve up the variational evidence lower bound"):
:math:`E_x[KL(q(z|x) \,\|\, p(z))] = I_q(x; z) + KL(q(z) \,\|\, p(z))`.
A rate of zero is a collapsed posterior; a rate without information is spent on a q(z) that misses the prior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vae_flows.checks import checked
from vae_flows.distributions import draw_from, evaluate
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.evaluation.batches import chosen_batch, evaluating
from vae_flows.evaluation.estimates import MeanEstimate
from vae_flows.objectives import for_nonlinear_bound
from vae_flows.shown import shown
from vae_flows.vae import VAE

__all__ = ["InformationResult", "estimate_information"]


@shown
@dataclass(frozen=True)
class InformationResult:
    """Rate, distortion and mutual information, in nats per image, with standard errors over images.

    Arguments:
        rate: E_q[log q(z | x) − log p(z)].
        distortion: E_q[−log p(x | z)]; with the rate, the negative ELBO.
        information_lower: A lower bound of I_q(x; z), at most log `num_images`.
        information_upper: An upper bound of it.
        num_images: Images whose posteriors stand for the aggregate posterior.
    """

    rate: MeanEstimate
    distortion: MeanEstimate
    information_lower: MeanEstimate
    information_upper: MeanEstimate
    num_images: int

    @property
    def largest_lower_bound(self) -> float:
        """What the lower bound cannot exceed, log `num_images`: near it, take more images."""
        return math.log(self.num_images)

    @property
    def mutual_information(self) -> tuple[float, float]:
        """Where I_q(x; z) is: between its bounds, and not above the rate."""
        upper = min(self.information_upper.value, self.rate.value)
        return min(self.information_lower.value, upper), upper

    @property
    def aggregate_divergence(self) -> tuple[float, float]:
        """Where KL(q(z) ‖ p(z)) is: the rate less the mutual information."""
        lower, upper = self.mutual_information
        return self.rate.value - upper, self.rate.value - lower


@checked
@torch.no_grad()
def estimate_information(
    vae: VAE, data: Any, *, num_images: int = 500, chunk_size: int = 20, seed: int = 0
) -> InformationResult:
    r"""Estimate rate, distortion and the mutual information :math:`I_q(x; z) = E[\log q(z|x) - \log q(z)]`.

    Of M images, each with one draw :math:`z_i`, all pairs are scored. With the mixture of all M posteriors in the place
    of q(z) the expectation is a lower bound of the information, with that of the M − 1 others an upper one; the upper
    one is loose where the posteriors of images hardly overlap.

    Source: Poole et al. (2019), "On variational bounds of mutual information", section 2.

    Arguments:
        vae: The model; it is put in evaluation mode meanwhile.
        data: The images, such as `data.test`.
        num_images: M, drawn without replacement; all where there are fewer. M² densities are evaluated.
        chunk_size: Draws scored against all M posteriors at once.
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
        >>> found = estimate_information(vae, images)
        >>> found.information_lower.value <= found.information_upper.value
        True
    """
    require_positive("estimate_information", num_images=num_images, chunk_size=chunk_size)
    with evaluating(vae, seed, "information") as generator:
        x = chosen_batch(vae, data, num_images, generator)
        if len(x) < 2:
            raise InvalidInputError(complaint("estimate_information data", "two images or more", len(x)))
        q = for_nonlinear_bound("log q", vae.encode(x), "estimate_information")  # log q(z) averages densities
        drawn = draw_from(q)
        own = drawn.log_q.double()
        pairs = torch.cat([evaluate(q, z.unsqueeze(1)).log_q for z in drawn.z.split(chunk_size)]).double()
        lower, upper = _bounds(own, pairs)
        return InformationResult(
            MeanEstimate.of(own - vae.log_prior(drawn.z).double()),
            MeanEstimate.of(-vae.log_likelihood(x, drawn.z).double()),
            MeanEstimate.of(lower),
            MeanEstimate.of(upper),
            len(x),
        )


def _bounds(own: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Return both bounds of each draw from log q(z_i | x_i) `(M,)` and log q(z_i | x_j) `(M, M)`."""
    count = len(own)
    itself = torch.eye(count, dtype=torch.bool, device=own.device)
    # The draw's own density as it was drawn, without the error of the inverse.
    of_all = torch.where(itself, own, pairs).logsumexp(1) - math.log(count)
    of_others = pairs.masked_fill(itself, -math.inf).logsumexp(1) - math.log(count - 1)
    return own - of_all, own - of_others
