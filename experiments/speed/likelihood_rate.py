"""The rate of −log p(x) beside that of the published evaluation, which takes one image at a time.

`python -m experiments.speed.likelihood_rate RUN` measures both on the first test images of a run, in turn, so that what
changes on the machine meets both alike. Run it with the threads that the machine has to spare (`OMP_NUM_THREADS`).
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import tyro
from torch import Tensor

import vae_flows as vf
from vae_flows.data import Examples
from vae_flows.evaluation import estimate_likelihood
from vae_flows.modules import in_mode

__all__ = ["LikelihoodRates", "Rate", "measure_rates", "published_log_likelihood"]

COPIES = 500
"""Copies of an image that the published evaluation scores at once."""


class Rate(NamedTuple):
    """Draws scored in a second: of the clock, and of a processor's time, which other programs do not take from."""

    per_second: float
    per_processor_second: float


class LikelihoodRates(NamedTuple):
    """Both rates, and by how much the two estimates of −log p(x) differ."""

    library: Rate  # `estimate_likelihood`
    published: Rate  # one image at a time
    difference: float  # average over images, nats: Monte-Carlo error alone


@torch.no_grad()
def published_log_likelihood(vae: vf.VAE, image: Tensor, importance_samples: int) -> Tensor:
    """Estimate log p(x) of one image `(*event)` as the code of van den Berg et al. (2018) does.

    The image is copied, and each copy encoded, drawn for, decoded and scored, in as many batches as it takes.
    """
    parts = []
    for start in range(0, importance_samples, COPIES):
        copies = image.expand(min(COPIES, importance_samples - start), *image.shape).contiguous()
        parts.append(vae.elbo(copies).elbo)
    return torch.cat(parts).double().logsumexp(0) - math.log(importance_samples)


def measure_rates(
    vae: vf.VAE, examples: Examples, *, importance_samples: int = 2000, images: int = 20, rounds: int = 3
) -> LikelihoodRates:
    """Score images by both schemes, in turn and each with the first place as often."""

    def library(batch: Examples) -> Tensor:
        return estimate_likelihood(vae, batch, importance_samples=importance_samples).log_bounds[:, -1]

    def published(batch: Examples) -> Tensor:
        return torch.stack([published_log_likelihood(vae, image, importance_samples) for image in batch.batch()])

    schemes = {library: [0.0, 0.0], published: [0.0, 0.0]}
    found: dict[object, list[Tensor]] = {scheme: [] for scheme in schemes}
    with in_mode(vae, training=False):
        for number in range(rounds):
            batch = examples.select(slice(number * images, (number + 1) * images))
            for score in list(schemes)[:: -1 if number % 2 else 1]:
                clock, processor = time.perf_counter(), time.process_time()
                found[score].append(score(batch))
                schemes[score][0] += time.perf_counter() - clock
                schemes[score][1] += time.process_time() - processor
    ours, theirs = torch.cat(found[library]), torch.cat(found[published])
    rates = {name: Rate(*(len(ours) * importance_samples / spent for spent in schemes[name])) for name in schemes}
    return LikelihoodRates(rates[library], rates[published], float((theirs - ours).mean()))


def main(
    run: Annotated[Path, tyro.conf.Positional], importance_samples: int = 2000, images: int = 20, rounds: int = 3
) -> None:
    """Measure the rates of a run's model and print them, with what the whole test set would take.

    Arguments:
        run: Folder of a run.
        importance_samples: Draws for each image.
        images: Images of a round.
        rounds: Rounds.
    """
    opened = vf.Run(run)
    test = opened.load_data().test
    rates = measure_rates(
        opened.load_model(), test, importance_samples=importance_samples, images=images, rounds=rounds
    )
    for name, rate in (("library", rates.library), ("one image at a time", rates.published)):
        whole = (len(test) * importance_samples / value / 60 for value in rate)
        print("{:>19}: {:8,.0f} draws/s, {:8,.0f} a processor second".format(name, *rate), end=" · ")
        print("the test set takes {:.1f} min, {:.1f} min of a processor".format(*whole))
    print(f"{torch.get_num_threads()} threads; the estimates differ by {rates.difference:.3f} nats per image")


if __name__ == "__main__":
    tyro.cli(main)
