"""The rate of −log p(x) beside that of the published evaluation, which takes one image at a time.

`python -m experiments.speed.likelihood_rate RUN` evaluates the whole test set of a run, with the time and the memory of
the process, and then measures both schemes on the first images, in turn, so that what changes on the machine meets both
alike. Run it with the threads that the machine has to spare (`OMP_NUM_THREADS`). `--publish` keeps what was found.
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
from experiments.speed.measuring import peak_bytes
from vae_flows.data import Examples
from vae_flows.evaluation import estimate_likelihood
from vae_flows.modules import in_mode
from vae_flows.persistence.json_files import write_json
from vae_flows.runs.provenance import describe_provenance

__all__ = [
    "RESULTS",
    "LikelihoodRates",
    "Rate",
    "WholeTest",
    "evaluate_whole",
    "measure_rates",
    "published_log_likelihood",
    "write_rates",
]

RESULTS = Path(__file__).parents[1] / "results" / "likelihood"

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


class WholeTest(NamedTuple):
    """What −log p(x) of a whole test set took."""

    images: int
    importance_samples: int
    seconds: float  # of the clock
    processor_seconds: float
    gigabytes: float  # of the process at most, all libraries included
    negative_log_likelihood: float  # nats per image
    standard_error: float  # over images


def evaluate_whole(vae: vf.VAE, examples: Examples, importance_samples: int = 2000) -> WholeTest:
    """Estimate −log p(x) of all images; the memory is that of the process so far, so ask before anything larger."""
    processor = time.process_time()
    result = estimate_likelihood(vae, examples, importance_samples=importance_samples)
    processor = time.process_time() - processor
    gigabytes = peak_bytes() / 1e9
    bound = result.negative_log_likelihood
    sizes = (len(examples), importance_samples)
    return WholeTest(*sizes, result.seconds, processor, gigabytes, bound.nats, bound.standard_error)


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


def write_rates(whole: WholeTest, rates: LikelihoodRates, folder: Path = RESULTS) -> Path:
    """Write both to `rate.json`, with what they were measured on."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {"library": rates.library._asdict(), "published": rates.published._asdict(), "difference": rates.difference}
    threads = torch.get_num_threads()
    write_json(
        folder / "rate.json", {"whole": whole._asdict(), "rates": found, "threads": threads, **describe_provenance()}
    )
    return folder / "rate.json"


def main(
    run: Annotated[Path, tyro.conf.Positional],
    importance_samples: int = 2000,
    images: int = 20,
    rounds: int = 3,
    publish: bool = False,
) -> None:
    """Evaluate a run's whole test set, measure the rates of both schemes, and print them.

    Arguments:
        run: Folder of a run.
        importance_samples: Draws for each image.
        images: Images of a round.
        rounds: Rounds.
        publish: Write experiments/results/likelihood/rate.json.
    """
    opened = vf.Run(run)
    vae, test = opened.load_model(), opened.load_data().test
    whole = evaluate_whole(vae, test, importance_samples)
    print(f"{whole.images:,} images, {whole.importance_samples:,} draws each: {whole.seconds / 60:.2f} min", end=", ")
    print(f"{whole.processor_seconds / 60:.2f} min of a processor, {whole.gigabytes:.2f} GB", end=", ")
    print(f"−log p(x) {whole.negative_log_likelihood:.2f} ± {whole.standard_error:.2f} nats")
    rates = measure_rates(vae, test, importance_samples=importance_samples, images=images, rounds=rounds)
    for name, rate in (("library", rates.library), ("one image at a time", rates.published)):
        minutes = (len(test) * importance_samples / value / 60 for value in rate)
        print("{:>19}: {:8,.0f} draws/s, {:8,.0f} a processor second".format(name, *rate), end=" · ")
        print("the test set takes {:.1f} min, {:.1f} min of a processor".format(*minutes))
    print(f"{torch.get_num_threads()} threads; the estimates differ by {rates.difference:.3f} nats per image")
    if publish:
        print(f"Written to {write_rates(whole, rates)}.")


if __name__ == "__main__":
    tyro.cli(main)
