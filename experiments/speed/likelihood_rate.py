"""The rate of −log p(x) beside that of the published evaluation, which takes one image at a time.

`python -m experiments.speed.likelihood_rate RUN` measures both on the first test images of a run, in turn, so that what
changes on the machine meets both alike. Run it with the threads that the machine has to spare (`OMP_NUM_THREADS`).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import vae_flows as vf
from vae_flows.data import Examples
from vae_flows.evaluation import estimate_likelihood
from vae_flows.modules import in_mode
from vae_flows.runs.build import build_data, build_vae
from vae_flows.runs.folder import load_settings
from vae_flows.training import load_weights

__all__ = ["LikelihoodRates", "Rate", "measure_rates", "published_log_likelihood"]

COPIES = 500
"""Copies of an image that the published evaluation scores at once."""


class Rate(NamedTuple):
    """Draws scored in a second: of the clock, and of a processor's time, which other programs do not take from."""

    per_second: float
    per_processor_second: float


class LikelihoodRates(NamedTuple):
    """Both rates, and by how much the two estimates of −log p(x) differ.

    Arguments:
        library: `estimate_likelihood`.
        published: One image at a time.
        difference: Average over images, nats: Monte-Carlo error alone.
    """

    library: Rate
    published: Rate
    difference: float


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
    spent = {name: [0.0, 0.0] for name in ("library", "published")}
    found: dict[str, list[Tensor]] = {name: [] for name in spent}

    def score(name: str, batch: Examples) -> Tensor:
        if name == "library":
            return estimate_likelihood(vae, batch, importance_samples=importance_samples).log_bounds[:, -1]
        return torch.stack([published_log_likelihood(vae, image, importance_samples) for image in batch.batch()])

    with in_mode(vae, training=False):
        for number in range(rounds):
            batch = examples.select(slice(number * images, (number + 1) * images))
            for name in sorted(spent, reverse=bool(number % 2)):
                clock, processor = time.perf_counter(), time.process_time()
                found[name].append(score(name, batch))
                spent[name][0] += time.perf_counter() - clock
                spent[name][1] += time.process_time() - processor
    count = sum(len(values) for values in found["library"]) * importance_samples
    library, published = (Rate(*(count / seconds for seconds in spent[name])) for name in ("library", "published"))
    difference = torch.cat(found["published"]) - torch.cat(found["library"])
    return LikelihoodRates(library, published, float(difference.mean()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the rates of a run's model and print them, with what the whole test set would take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--importance-samples", type=int, default=2000)
    parser.add_argument("--images", type=int, default=20, help="images of a round")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    settings = load_settings(given.run)
    data = build_data(settings)
    vae = build_vae(settings, data)
    load_weights(vae, given.run)
    rates = measure_rates(
        vae, data.test, importance_samples=given.importance_samples, images=given.images, rounds=given.rounds
    )
    draws = len(data.test) * given.importance_samples
    for name, rate in (("library", rates.library), ("one image at a time", rates.published)):
        whole = (draws / value / 60 for value in rate)
        print("{:>19}: {:8,.0f} draws/s, {:8,.0f} a processor second".format(name, *rate), end=" · ")
        print("the test set takes {:.1f} min, {:.1f} min of a processor".format(*whole))
    print(f"{torch.get_num_threads()} threads; the estimates differ by {rates.difference:.3f} nats per image")


if __name__ == "__main__":
    main()
