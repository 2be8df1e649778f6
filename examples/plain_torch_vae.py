"""A VAE in plain PyTorch, and the lines that change when its Gaussian posterior becomes FFJORD.

`GaussianVAE`, `train` and `evaluate` stand for code that exists already and knows nothing of this library. What
changes is in `FFJORDVAE`:

     def __init__(self, ...):
    -    self.moments = nn.Linear(HIDDEN, 2 * latent_dim)
    +    self.posterior = vf.AmortizedPosterior(latent_dim, HIDDEN, flow="ffjord", amortization="bias", ...)

     def sample(self, features):
    -    mean, log_variance = self.moments(features).chunk(2, dim=-1)
    -    z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
    -    kl = (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1) / 2
    +    z, log_q = self.posterior(features).rsample_with_log_prob()
    +    kl = log_q - Normal(0.0, 1.0).log_prob(z).sum(-1)
         return z, kl

One thing to keep in mind: `eval()` before the test, since the trace is estimated in training mode and exact in
evaluation mode.
"""

from __future__ import annotations

import torch
import tyro
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import vae_flows as vf
from examples.comparison import Comparison

HIDDEN = 400
BATCH = 100
TEST_DRAWS = 10  # draws of z per image


class GaussianVAE(nn.Module):
    """The model there was before."""

    def __init__(self, num_pixels: int, latent_dim: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(num_pixels, HIDDEN), nn.ReLU())
        self.moments = nn.Linear(HIDDEN, 2 * latent_dim)
        self.decoder = nn.Sequential(nn.Linear(latent_dim, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, num_pixels))

    def sample(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Draw z from q(z | x); return it with the KL divergence of the prior."""
        mean, log_variance = self.moments(features).chunk(2, dim=-1)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        kl = (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1) / 2
        return z, kl

    def forward(self, x: Tensor) -> Tensor:
        """Return the ELBO of each image `(B, num_pixels)`."""
        z, kl = self.sample(self.encoder(x))
        cross_entropy = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="none")
        return -cross_entropy.sum(-1) - kl


class FFJORDVAE(GaussianVAE):
    """The same model with the lines changed: a sample of the KL divergence instead of its closed form."""

    def __init__(self, num_pixels: int, latent_dim: int) -> None:
        super().__init__(num_pixels, latent_dim)
        del self.moments
        self.posterior = vf.AmortizedPosterior(
            latent_dim, HIDDEN, flow="ffjord", amortization="bias", hidden_dims=(256,)
        )

    def sample(self, features: Tensor) -> tuple[Tensor, Tensor]:
        z, log_q = self.posterior(features).rsample_with_log_prob()
        kl = log_q - Normal(0.0, 1.0).log_prob(z).sum(-1)
        return z, kl


def train(vae: nn.Module, images: Tensor, epochs: int) -> None:
    """Maximise the ELBO by Adam."""
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-3)
    for epoch in range(1, epochs + 1):
        losses = []
        for (x,) in DataLoader(TensorDataset(images), BATCH, shuffle=True):
            loss = -vae(x).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"  epoch {epoch} of {epochs}: training ELBO {-sum(losses) / len(losses):.2f}")


@torch.no_grad()
def evaluate(vae: nn.Module, images: Tensor) -> Tensor:
    """Return the ELBO of each image, averaged over draws of z."""
    vae.eval()
    return torch.cat([torch.stack([vae(x) for _ in range(TEST_DRAWS)]).mean(0) for x in images.split(BATCH)])


def main(epochs: int = 40, latent_dim: int = 32, seed: int = 0, quick: bool = False) -> Comparison:
    """Train a VAE of Caltech 101 Silhouettes with a Gaussian and with an FFJORD posterior.

    Arguments:
        epochs: Epochs of training.
        latent_dim: Size of z.
        seed: Seed of each run.
        quick: One epoch on few images, to see that it runs.
    """
    data = vf.data.load("caltech101-silhouettes")
    training, testing = (part.take(100 if quick else len(part)).batch().flatten(1) for part in (data.train, data.test))
    bounds = {}
    for name, kind in {"Gaussian": GaussianVAE, "FFJORD": FFJORDVAE}.items():
        print(name)
        torch.manual_seed(seed)
        vae = kind(training.shape[1], latent_dim)
        train(vae, training, epochs=1 if quick else epochs)
        bounds[name] = evaluate(vae, testing)
    comparison = Comparison(f"Plain PyTorch VAE, {data.name}, test images", bounds)
    print(comparison)
    return comparison


if __name__ == "__main__":
    tyro.cli(main)
