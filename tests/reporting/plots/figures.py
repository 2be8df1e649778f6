"""What tests of figures share: runs, small models, and what a figure shows."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure

from tests.seeds import reseed
from vae_flows.likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    DiscretizedLogisticLikelihood,
    Likelihood,
)
from vae_flows.networks import MLPDecoder, MLPEncoder
from vae_flows.posterior import AmortizedPosterior
from vae_flows.reporting import (
    RunResult,
)
from vae_flows.vae import VAE

RUNS = (
    RunResult("mnist", "none", 0, negative_elbo=87.0, curve=(120.0, 100.0, 92.0, 90.0)),
    RunResult("mnist", "none", 1, negative_elbo=85.0, curve=(118.0, 98.0, 90.0)),
    RunResult("mnist", "iaf", 0, negative_elbo=84.0, curve=(110.0, 95.0, 91.0)),
)
TIMED = (
    RunResult(
        "mnist", "ffjord", 0, curve=(9.0, 5.0, 6.0), epoch_seconds=(2.0, 2.0, 2.0), epoch_evaluations=(14.0, 20.0)
    ),
    RunResult("mnist", "ffjord", 1, curve=(8.0, 7.0), epoch_seconds=(3.0, 4.0), epoch_evaluations=(16.0, 22.0, 26.0)),
)
SHAPES = {"grey": (1, 5, 4), "colour": (3, 4, 6), "without channels": (5, 4)}
LIKELIHOODS = {"grey": CategoricalLikelihood, "colour": DiscretizedLogisticLikelihood}


def png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def model(
    shape: tuple[int, ...], likelihood: Likelihood | None = None, latent_dim: int = 2, flow: str = "planar"
) -> VAE:
    reseed()
    likelihood = likelihood or BernoulliLikelihood(event_dim=len(shape))
    decoder = MLPDecoder(latent_dim, shape, (8,), likelihood.parameters_per_pixel)
    return VAE(MLPEncoder(shape, (8,), 6), decoder, AmortizedPosterior(latent_dim, 6, flow=flow), likelihood)


def shown(figure: Figure) -> np.ndarray:
    (picture,) = figure.axes[0].images
    return np.asarray(picture.get_array())


def labels(figure: Figure) -> list[str]:
    return [tick.get_text() for tick in figure.axes[0].get_yticklabels()]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]
