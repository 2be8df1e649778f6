"""−log p(x) of a whole test set with many draws per image, from few draws for all images and many for some.

`python -m experiments.tightening RUN` takes −L_K of all test images from the run's own test, and finds on images drawn
at random by how much the bound tightens from K to more draws. That gain varies far less over images than log p(x) does,
so that a few hundred images tell its average. `--publish FOLDER` keeps what was found.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import tyro

import vae_flows as vf
from vae_flows.cli.console import open_console
from vae_flows.cli.evaluation import evaluation_progress
from vae_flows.errors import DataError, InvalidInputError, complaint
from vae_flows.evaluation import LikelihoodProgress, estimate_likelihood
from vae_flows.persistence.json_files import check_destination, write_json
from vae_flows.runs.provenance import describe_provenance

__all__ = ["Tightening", "tighten"]

FILE = "tightening.json"


class Tightening(NamedTuple):
    """The bound with few draws of all images, and what more draws gain on some of them; nats per image.

    Arguments:
        few_draws: K of the run's own test.
        all_images: Images of that test.
        with_few_draws: −L_K, averaged over all images.
        many_draws: S, the draws of the images that were drawn.
        some_images: How many they are.
        gain: L_S − L_K, averaged over them; both from the same draws.
        gain_standard_error: Over images, with the Monte-Carlo error in it.
        seconds: Wall-clock time of scoring them.
    """

    few_draws: int
    all_images: int
    with_few_draws: float
    many_draws: int
    some_images: int
    gain: float
    gain_standard_error: float
    seconds: float

    @property
    def with_many_draws(self) -> float:
        """−L_S of all images: −L_K less the gain."""
        return self.with_few_draws - self.gain


def tighten(
    run: vf.Run,
    *,
    importance_samples: int = 2000,
    images: int = 300,
    seed: int = 0,
    folder: Path | None = None,
    progress: Callable[[LikelihoodProgress], None] | None = None,
) -> Tightening:
    r"""Estimate :math:`-L_S = -L_K - (L_S - L_K)`, the second term on images drawn without replacement.

    The standard error is that of as many images of endlessly many: where most images are drawn it is too large.

    Arguments:
        run: A finished run, tested with K draws per image.
        importance_samples: S, a multiple of K.
        images: Images to draw.
        seed: Of which images are drawn, and of what is drawn for them.
        folder: Where to keep what is finished; the same call goes on from it.
        progress: Called after each batch.

    Returns:
        Both terms and the standard error of the second.

    Raises:
        DataError: The run has no −log p(x).
        InvalidInputError: S is no multiple of K and more, or there are fewer images.
    """
    scores = run.scores
    if scores is None or scores.negative_log_likelihood is None:
        raise DataError(complaint(f"{run!r}", "a run tested with draws for −log p(x)", "none"))
    few, test = scores.importance_samples, run.load_data().test
    if importance_samples <= few or importance_samples % few:
        raise InvalidInputError(
            complaint("tighten importance_samples", f"a multiple of {few} and more", importance_samples)
        )
    if not 2 <= images <= len(test):
        raise InvalidInputError(complaint("tighten images", f"from 2 to {len(test)}", images))
    drawn = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))[:images]
    result = estimate_likelihood(
        run.load_model(),
        test.select(drawn),
        importance_samples=importance_samples,
        particles=(few,),
        seed=seed,
        folder=folder,
        progress=progress,
    )
    gains = result.log_bounds[:, -1] - result.log_bounds[:, result.particles.index(few)]
    return Tightening(
        few_draws=few,
        all_images=len(scores.negative_log_likelihood),
        with_few_draws=float(scores.negative_log_likelihood.mean()),
        many_draws=importance_samples,
        some_images=images,
        gain=float(gains.mean()),
        gain_standard_error=float(gains.std()) / math.sqrt(images),
        seconds=result.seconds,
    )


def main(
    run: Annotated[Path, tyro.conf.Positional],
    importance_samples: int = 2000,
    images: int = 300,
    publish: Path | None = None,
) -> None:
    """Print −log p(x) with many draws, and what it is made of.

    Arguments:
        run: Folder of a run.
        importance_samples: Draws for each image that is drawn.
        images: How many are drawn.
        publish: Write tightening.json in that folder.
    """
    if publish is not None:
        check_destination(publish, FILE)
    # A folder for each size: what another call left unfinished is of no use to this one, nor in its way.
    partial = run / f"tightening-{importance_samples}-samples-{images}-images"
    with evaluation_progress(open_console()) as progress:
        found = tighten(
            vf.Run(run), importance_samples=importance_samples, images=images, folder=partial, progress=progress
        )
    print(f"−log p(x) of {found.all_images:,} images, K = {found.few_draws:,}: {found.with_few_draws:.2f} nats")
    print(f"K = {found.many_draws:,} gains {found.gain:.3f} ± {found.gain_standard_error:.3f} on {found.some_images:,}")
    print(f"−log p(x), K = {found.many_draws:,}: {found.with_many_draws:.2f} nats; {found.seconds / 60:.1f} min")
    if publish is not None:
        own = {**found._asdict(), "with_many_draws": found.with_many_draws}
        write_json(publish / FILE, {**own, **describe_provenance()})
    shutil.rmtree(partial)


if __name__ == "__main__":
    tyro.cli(main)
