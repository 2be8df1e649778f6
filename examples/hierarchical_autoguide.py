"""A hierarchical model with constrained local latents, its amortised autoguide, and NUTS to compare with.

Animals are counted on several visits to each of many sites. A site has a rate above zero, and a chance between zero and
one that an animal is seen. The counts tell the product of the two, so their posterior is a bent ridge, skewed along
both axes. The mean rate over sites is global. No guide is written by hand:

    guide = AutoGuideList(model)
    guide.append(AutoNormal(poutine.block(model, hide=["rate", "seen"])))  # Pyro's, of the global latent
    guide.append(vf.AmortizedAutoGuide(model, encoder, flow="ffjord"))     # of the local latents, found by a trace

Means, standard deviations and skewnesses of all local latents are then compared with those of NUTS. The guide has
biases beside the flow's: its local latents do not depend on the global one, and one network serves all sites. `ALLOWED`
is what they may come to in a local latent. The global latent is where the first of them shows: its standard deviation,
printed last, is too small.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import pyro
import torch
import tyro
from pyro import poutine
from pyro.distributions import Beta, Gamma, LogNormal, Poisson
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoGuideList, AutoNormal
from pyro.optim import ClippedAdam
from torch import Tensor, nn

import vae_flows as vf
from examples.comparison import Comparison
from examples.moments import Difference, Moments, tabulate

LOCAL, GLOBAL = ["rate", "seen"], "mean"
VISITS = 5
GUIDES: dict[str, dict[str, Any]] = {
    "Gaussian": {"flow": "none"},
    "FFJORD": {"flow": "ffjord", "hidden_dims": (32, 32), "rank": 4, "activation": "tanh", "divergence": "exact"},
}
ALLOWED = torch.tensor([0.1, 0.1, 0.25])  # mean and standard deviation in standard deviations of NUTS, and skewness
STANDARD_ERRORS = 4  # two-sided false-alarm rate 6e-5 a statistic, 1 % for three of 2 × 30 latents


class Sizes(NamedTuple):
    """How much is computed: steps of SVI, ELBO estimates of `particles` draws, draws of guide and NUTS."""

    sites: int
    steps: int
    estimates: int
    particles: int
    guide_draws: int
    nuts_warmup: int
    nuts_draws: int


REAL = Sizes(sites=30, steps=1500, estimates=50, particles=200, guide_draws=10_000, nuts_warmup=300, nuts_draws=1000)
QUICK = Sizes(sites=4, steps=3, estimates=3, particles=10, guide_draws=50, nuts_warmup=4, nuts_draws=8)


class Result(NamedTuple):
    """The ELBOs, how far each guide's local latents are from those of NUTS, and draws of the global latent."""

    comparison: Comparison
    differences: dict[str, Difference]
    global_draws: dict[str, Tensor]


def model(counts: Tensor) -> Tensor:
    """Score counts `(sites, VISITS)`; return them, or a draw of them from the unconditioned model."""
    mean = cast(Tensor, pyro.sample("mean", LogNormal(2.0, 1.0)))
    with pyro.plate("sites", len(counts)):
        rate = cast(Tensor, pyro.sample("rate", Gamma(3.0, 3.0 / mean)))
        seen = cast(Tensor, pyro.sample("seen", Beta(2.0, 2.0)))
        expected = (rate * seen).unsqueeze(-1) * torch.ones(VISITS)  # at each visit
        return cast(Tensor, pyro.sample("counts", Poisson(expected).to_event(1), obs=counts))


def mean_count(counts: Tensor) -> Tensor:
    """Return what the encoder sees, `(sites, 1)`: all that the counts of a site say is in their mean."""
    return counts.mean(-1, keepdim=True).log1p()


def make_guide(**flow_options: Any) -> AutoGuideList:
    """Return a guide of the global and the local latents."""
    encoder = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
    guide = AutoGuideList(model)
    guide.append(AutoNormal(poutine.block(model, hide=LOCAL)))
    guide.append(vf.AmortizedAutoGuide(model, encoder, encoder_inputs=mean_count, **flow_options))
    return guide


def objective(num_particles: int) -> Trace_ELBO:
    """Return the ELBO, of draws made all at once."""
    return Trace_ELBO(num_particles=num_particles, vectorize_particles=True, max_plate_nesting=1)


def train(guide: AutoGuideList, counts: Tensor, steps: int) -> None:
    """Fit the guide, with a learning rate that falls from 1e-2 to 2e-4."""
    svi = SVI(model, guide, ClippedAdam({"lr": 1e-2, "lrd": 0.02 ** (1 / steps)}), objective(num_particles=16))
    for step in range(1, steps + 1):
        loss = cast(float, svi.step(counts))
        if step % max(1, steps // 10) == 0:
            print(f"  step {step} of {steps}: ELBO {-loss:.2f}")


def draw_from_nuts(counts: Tensor, sizes: Sizes) -> dict[str, Tensor]:
    """Return a Markov chain of all latents."""
    kernel = NUTS(model, jit_compile=True, ignore_jit_warnings=True)
    chain = MCMC(kernel, sizes.nuts_draws, sizes.nuts_warmup, disable_progbar=True)
    chain.run(counts)
    return chain.get_samples()


def local_latents(draws: dict[str, Tensor]) -> Tensor:
    """Return the latents of all sites side by side, `(draws, 2 sites)`."""
    return torch.cat([draws[name].reshape(len(draws[name]), -1) for name in LOCAL], -1)


def main(seed: int = 0, quick: bool = False) -> Result:
    """Fit a Gaussian and an FFJORD autoguide to a hierarchical model of counts, and compare them with NUTS.

    Arguments:
        seed: Seed of data and runs.
        quick: Few sites, steps and draws, to see that it runs.
    """
    sizes = QUICK if quick else REAL
    pyro.set_rng_seed(seed)
    truth = poutine.condition(poutine.uncondition(model), data={"mean": torch.tensor(10.0)})
    counts = truth(torch.empty(sizes.sites, VISITS))
    print("NUTS")
    chain = draw_from_nuts(counts, sizes)
    reference = Moments.of(local_latents(chain), markov_chain=True)
    bounds, differences, global_draws = {}, {}, {"NUTS": chain[GLOBAL]}
    for name, flow_options in GUIDES.items():
        print(name)
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        guide = make_guide(**flow_options)
        train(guide, counts, sizes.steps)
        guide.eval()
        posterior = Predictive(model, None, guide, sizes.guide_draws, [*LOCAL, GLOBAL], parallel=True)
        with torch.no_grad():
            loss = objective(sizes.particles).loss
            bounds[name] = torch.tensor([-loss(model, guide, counts) for _ in range(sizes.estimates)])
            draws = posterior(counts)
        differences[name] = Moments.of(local_latents(draws)).difference(reference, STANDARD_ERRORS)
        global_draws[name] = draws[GLOBAL]
    comparison = Comparison(f"Counts at {sizes.sites} sites, estimates of {sizes.particles} draws", bounds)
    print(comparison, tabulate(differences, ALLOWED), sep="\n\n")
    spreads = ", ".join(f"{name} {draws.mean():.2f} ± {draws.std():.2f}" for name, draws in global_draws.items())
    print(f"\nGlobal latent, mean ± standard deviation: {spreads}")
    return Result(comparison, differences, global_draws)


if __name__ == "__main__":
    tyro.cli(main)
