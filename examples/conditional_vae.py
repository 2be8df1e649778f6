"""A conditional VAE, p(x | z, y) with q(z | x, y): the lower half x of a character, given its upper half y.

Encoder and decoder see y beside what they see anyway; nothing else distinguishes it from a VAE. The posterior is an
`AmortizedPosterior` of the encoder's features, Gaussian or FFJORD by name. Here the trace is exact in training too:
where the context shifts the biases alone that costs about as much as the estimate, and gradients have less noise.

Completing images is the task of Sohn, Lee and Yan (2015), "Learning structured output representation using deep
conditional generative models". Here p(z) does not depend on y.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import tyro
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

import vae_flows as vf
from examples.comparison import Comparison

HIDDEN = 300
BATCH = 100
TEST_DRAWS = 5  # draws of z per image
POSTERIORS: dict[str, dict[str, Any]] = {
    "Gaussian": {"flow": "none"},
    "FFJORD": {"flow": "ffjord", "amortization": "bias", "hidden_dims": (256,), "divergence": "exact"},
}


class ConditionalVAE(nn.Module):
    """A conditional VAE of binary vectors.

    Arguments:
        x_dim: Size of x.
        y_dim: Size of y.
        latent_dim: Size of z.
        **posterior_options: Flow of the posterior and its options.
    """

    def __init__(self, x_dim: int, y_dim: int, latent_dim: int, **posterior_options: Any) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(x_dim + y_dim, HIDDEN), nn.ReLU())
        self.decoder = nn.Sequential(nn.Linear(latent_dim + y_dim, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, x_dim))
        self.posterior = vf.AmortizedPosterior(latent_dim, HIDDEN, **posterior_options)

    def likelihood(self, z: Tensor, y: Tensor) -> Bernoulli:
        """Return p(x | z, y) for latents `(*sample, B, latent_dim)`."""
        return Bernoulli(logits=self.decoder(torch.cat([z, y.expand(*z.shape[:-1], -1)], dim=-1)))

    def elbo(self, x: Tensor, y: Tensor, num_particles: int = 1) -> Tensor:
        r"""Return :math:`E_q[\log p(x|z,y) + \log p(z) - \log q(z|x,y)]` of each example."""
        return vf.objectives.elbo(
            log_likelihood=lambda z: self.likelihood(z, y).log_prob(x).sum(-1),
            log_prior=lambda z: Normal(0.0, 1.0).log_prob(z).sum(-1),
            q=self.posterior(self.encoder(torch.cat([x, y], dim=-1))),
            num_particles=num_particles,
        ).elbo


def halves(images: Tensor) -> tuple[Tensor, Tensor]:
    """Split images `(B, 1, H, W)` into x, the lower half, and y, the upper half, as vectors."""
    y, x = images.chunk(2, dim=-2)
    return x.flatten(1), y.flatten(1)


def train(vae: ConditionalVAE, images: vf.data.Examples, epochs: int) -> None:
    """Maximise the ELBO by Adam."""
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-3)
    for epoch in range(1, epochs + 1):
        losses = []
        for rows in torch.randperm(len(images)).split(BATCH):
            loss = -vae.elbo(*halves(images.batch(rows))).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"  epoch {epoch} of {epochs}: training ELBO {-sum(losses) / len(losses):.2f}")


@torch.no_grad()
def evaluate(vae: ConditionalVAE, images: vf.data.Examples) -> Tensor:
    """Return the ELBO of each image, averaged over draws of z."""
    vae.eval()
    return torch.cat([vae.elbo(*halves(batch), TEST_DRAWS) for batch in images.batch().split(BATCH)])


def main(epochs: int = 15, latent_dim: int = 24, seed: int = 0, quick: bool = False) -> Comparison:
    """Complete characters of OMNIGLOT from their upper halves, with a Gaussian and with an FFJORD posterior.

    Arguments:
        epochs: Epochs of training.
        latent_dim: Size of z.
        seed: Seed of each run.
        quick: One epoch on few images, to see that it runs.
    """
    data = vf.data.load("omniglot")
    training, testing = (part.take(100 if quick else len(part)) for part in (data.train, data.test))
    half = math.prod(data.event_shape) // 2
    bounds = {}
    for name, options in POSTERIORS.items():
        print(name)
        torch.manual_seed(seed)
        vae = ConditionalVAE(half, half, latent_dim, **options)
        train(vae, training, epochs=1 if quick else epochs)
        bounds[name] = evaluate(vae, testing)
    comparison = Comparison(f"Conditional VAE, {data.name} lower halves, test images", bounds)
    print(comparison)
    return comparison


if __name__ == "__main__":
    tyro.cli(main)
