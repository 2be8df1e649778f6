"""The VAE of Pyro's tutorial with an FFJORD guide.

`TutorialVAE` has the tutorial's architecture: an encoder and a decoder with one hidden layer of 400 softplus units, 50
latents, Bernoulli pixels, and a Gaussian guide. The model stays as it is; the guide is replaced:

    guide = vf.FlowGuide(encoder, vf.AmortizedPosterior(50, 400, flow="ffjord", amortization="bias", ...), site="z")
    svi = SVI(vae.model, guide, optimizer, Trace_ELBO())
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pyro
import torch
import tyro
from pyro import distributions as dist
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import PyroOptim
from torch import Tensor, nn

import vae_flows as vf
from examples.comparison import Comparison

PIXELS = 784
HIDDEN = 400
BATCH = 250
TEST_DRAWS = 5  # draws of z per image

Program = Callable[[Tensor], object]


class TutorialVAE(nn.Module):
    """The tutorial's model and guide."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.Softplus())
        self.moments = nn.Linear(HIDDEN, 2 * latent_dim)
        self.decoder = nn.Sequential(nn.Linear(latent_dim, HIDDEN), nn.Softplus(), nn.Linear(HIDDEN, PIXELS))

    def model(self, x: Tensor) -> None:
        """Draw z from N(0, I), and score the pixels of each row of x."""
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            prior = dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)
            z = cast(Tensor, pyro.sample("z", prior))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """Draw z from a diagonal Gaussian whose moments the encoder emits."""
        pyro.module("encoder", nn.ModuleList([self.encoder, self.moments]))
        with pyro.plate("data", len(x)):
            mean, log_scale = self.moments(self.encoder(x)).chunk(2, dim=-1)
            pyro.sample("z", dist.Normal(mean, log_scale.exp()).to_event(1))


def flow_guide(latent_dim: int) -> vf.FlowGuide:
    """Return an FFJORD guide of z with the tutorial's encoder."""
    encoder = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.Softplus())
    posterior = vf.AmortizedPosterior(latent_dim, HIDDEN, flow="ffjord", amortization="bias", hidden_dims=(256,))
    return vf.FlowGuide(encoder, posterior, site="z")


def train(model: Program, guide: Program, images: vf.data.Examples, epochs: int) -> None:
    """Train model and guide by stochastic variational inference."""
    svi = SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": 1e-3}), Trace_ELBO())
    for epoch in range(1, epochs + 1):
        batches = torch.randperm(len(images)).split(BATCH)
        losses = [cast(float, svi.step(images.batch(rows).flatten(1))) for rows in batches]
        print(f"  epoch {epoch} of {epochs}: training ELBO {-sum(losses) / len(images):.2f}")


@torch.no_grad()
def elbo(model: Program, guide: Program, x: Tensor) -> Tensor:
    """Return the ELBO of each image, of which `SVI.evaluate_loss` would give the sum."""
    draw = poutine.trace(guide).get_trace(x)
    joint = poutine.trace(poutine.replay(model, trace=draw)).get_trace(x)
    joint.compute_log_prob()
    draw.compute_log_prob()
    p, q = cast(dict[str, Any], joint.nodes), cast(dict[str, Any], draw.nodes)
    return p["x"]["log_prob"] + p["z"]["log_prob"] - q["z"]["log_prob"]


def main(epochs: int = 12, latent_dim: int = 50, seed: int = 0, quick: bool = False) -> Comparison:
    """Train the VAE of Pyro's tutorial on MNIST with its Gaussian guide and with an FFJORD guide.

    Arguments:
        epochs: Epochs of training.
        latent_dim: Size of z.
        seed: Seed of each run.
        quick: One epoch on few images with ten latents, to see that it runs.
    """
    if quick:
        epochs, latent_dim = 1, 10
    data = vf.data.load("mnist-static")
    training, testing = (part.take(100 if quick else len(part)) for part in (data.train, data.test))
    bounds = {}
    for name in ("Gaussian", "FFJORD"):
        print(name)
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        vae = TutorialVAE(latent_dim)
        guide = vae.guide if name == "Gaussian" else flow_guide(latent_dim)
        train(vae.model, guide, training, epochs)
        if isinstance(guide, nn.Module):
            guide.eval()  # the trace is estimated in training mode, and exact in evaluation mode
        batches = [images.flatten(1) for images in testing.batch().split(BATCH)]
        draws = [torch.cat([elbo(vae.model, guide, x) for x in batches]) for _ in range(TEST_DRAWS)]
        bounds[name] = torch.stack(draws).mean(0)
    comparison = Comparison(f"VAE of Pyro's tutorial, {data.name}, test images", bounds)
    print(comparison)
    return comparison


if __name__ == "__main__":
    tyro.cli(main)
