r"""Which latents a model uses: those whose posterior mean changes from image to image.

Unit d is active where :math:`A_d = \mathrm{Var}_x(E_q[z_d | x]) > 0.01` (Burda et al. 2016, "Importance Weighted
Autoencoders", section 5.2, measure A_u).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vae_flows.checks import checked, require_finite
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.evaluation.batches import evaluating, examples_for
from vae_flows.modules import placement
from vae_flows.shown import shown
from vae_flows.vae import VAE

__all__ = ["ActiveUnits", "active_units"]


@shown
@dataclass(frozen=True, eq=False)
class ActiveUnits:
    """The variance of each latent's posterior mean over images.

    Arguments:
        variances: A_d, `(latent_dim,)`, float64; an unbiased estimate, which may be slightly negative.
        threshold: Above it a unit is active.
    """

    variances: Tensor
    threshold: float

    @property
    def is_active(self) -> Tensor:
        """Which units are active, booleans `(latent_dim,)`."""
        return self.variances > self.threshold

    @property
    def count(self) -> int:
        """How many are."""
        return int(self.is_active.sum())


@checked
@torch.no_grad()
def active_units(
    vae: VAE,
    data: Any,
    *,
    num_samples: int = 20,
    threshold: float = 0.01,
    batch_size: int = 100,
    seed: int = 0,
) -> ActiveUnits:
    r"""Estimate :math:`A_d = \mathrm{Var}_x(E_q[z_d|x])` of each latent.

    The mean of a flow posterior has no closed form. The variance of the average of S draws over images is too large by
    the variance within images over S, which is estimated from the same draws and taken off.

    Arguments:
        vae: The model; it is put in evaluation mode meanwhile.
        data: The images, such as `data.test`.
        num_samples: S, draws per image, at least 2.
        threshold: Above it a unit is active.
        batch_size: Images at once.
        seed: The same seed gives the same result.

    Raises:
        InvalidInputError: A size is out of range, or there are fewer than two images.

    Example:
        >>> from vae_flows.data import Images
        >>> from vae_flows.likelihoods import BernoulliLikelihood
        >>> from vae_flows.networks import MLPDecoder, MLPEncoder
        >>> from vae_flows.posterior import AmortizedPosterior
        >>> shape = (1, 4, 4)
        >>> images = Images(torch.randint(256, (30, 2), dtype=torch.uint8), shape, packed=True)
        >>> encoder, decoder = MLPEncoder(shape, (8,), context_dim=6), MLPDecoder(2, shape, (8,))
        >>> vae = VAE(encoder, decoder, AmortizedPosterior(2, 6, flow="planar"), BernoulliLikelihood())
        >>> active_units(vae, images).variances.shape
        torch.Size([2])
    """
    require_positive("active_units", num_samples=num_samples, batch_size=batch_size)
    require_finite("active_units", at_least=0, threshold=threshold)
    examples = examples_for(vae, data)
    if num_samples < 2 or len(examples) < 2:
        got = f"{num_samples} of {len(examples)}"
        raise InvalidInputError(complaint("active_units", "two draws or more of two images or more", got))
    means, within = [], []
    indices, dtype = torch.arange(len(examples)).split(batch_size), placement(vae)[1]
    with evaluating(vae, seed, "active_units") as generator:
        for x in examples.batches(indices, generator=generator, dtype=dtype):
            z = vae.encode(x).sample(torch.Size([num_samples])).double()
            means.append(z.mean(0).cpu())
            within.append(z.var(0).cpu())
    noise = torch.cat(within).mean(0) / num_samples
    return ActiveUnits(torch.cat(means).var(0) - noise, float(threshold))
