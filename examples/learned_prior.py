"""A VAE whose prior is a continuous normalizing flow, learned with the rest of it.

Two things keep the ELBO of a VAE from log p(x): a posterior that is too simple, and aggregated posteriors that do not
fill the prior. FFJORD posteriors are for the first, `vf.FlowPrior` is for the second. All four combinations are
trained, by the library's own training loop, with early stopping on the validation images.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import torch
import tyro
from torch import Tensor

import vae_flows as vf
from examples.comparison import Comparison
from vae_flows.cnf import ContinuousNormalizingFlow, MLPDynamics
from vae_flows.networks import MLPDecoder, MLPEncoder
from vae_flows.training import TrainingSettings

HIDDEN = (300,)
CONTEXT = 128
BATCH = 100
TEST_DRAWS = 5  # draws of z per image
POSTERIORS: dict[str, dict[str, Any]] = {
    "Gaussian": {"flow": "none"},
    "FFJORD": {"flow": "ffjord", "amortization": "bias", "hidden_dims": (256,)},
}


def flow_prior(latent_dim: int) -> vf.FlowPrior:
    """Return a density of z that starts near N(0, I) and is learned."""
    return vf.FlowPrior(ContinuousNormalizingFlow(MLPDynamics(latent_dim, (128,))))


def make_vae(data: vf.data.DataSet, latent_dim: int, posterior: str, prior: vf.FlowPrior | None) -> vf.VAE:
    """Put a VAE together, with the standard Gaussian prior where `prior` is `None`."""
    return vf.VAE(
        MLPEncoder(data.image_shape, HIDDEN, CONTEXT),
        MLPDecoder(latent_dim, data.image_shape, HIDDEN),
        vf.AmortizedPosterior(latent_dim, CONTEXT, **POSTERIORS[posterior]),
        vf.likelihoods.BernoulliLikelihood(),
        prior=prior,
    )


@torch.no_grad()
def evaluate(vae: vf.VAE, images: vf.data.Examples) -> Tensor:
    """Return the ELBO of each image, averaged over draws of z."""
    vae.eval()  # traces are estimated in training mode, and exact in evaluation mode
    return torch.cat([vae.elbo(x, TEST_DRAWS).elbo for x in images.batch().split(BATCH)])


def main(epochs: int = 30, latent_dim: int = 16, seed: int = 0, quick: bool = False) -> Comparison:
    """Train VAEs of Caltech 101 Silhouettes with each posterior and each prior.

    Arguments:
        epochs: Epochs of training, at most.
        latent_dim: Size of z.
        seed: Seed of each run.
        quick: One epoch on few images, to see that it runs.
    """
    data = vf.data.load("caltech101-silhouettes")
    if quick:
        data = replace(data, train=data.train.take(100), validation=data.validation.take(100), test=data.test.take(100))
    settings = TrainingSettings(
        max_epochs=1 if quick else epochs, warmup_epochs=0, patience=5, learning_rate=3e-3, seed=seed
    )
    bounds = {}
    for prior, posterior in product(("standard prior", "CNF prior"), POSTERIORS):
        print(f"{posterior}, {prior}")
        torch.manual_seed(seed)
        vae = make_vae(data, latent_dim, posterior, flow_prior(latent_dim) if prior == "CNF prior" else None)
        vf.training.train(vae, data, settings)
        bounds[f"{posterior}, {prior}"] = evaluate(vae, data.test)
    comparison = Comparison(f"Learned prior, {data.name}, test images", bounds)
    print(comparison)
    return comparison


if __name__ == "__main__":
    tyro.cli(main)
