"""From settings to objects: the data set and the VAE of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

import vae_flows as vf
from vae_flows.data import DataSet, load
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.likelihoods import BernoulliLikelihood, CategoricalLikelihood
from vae_flows.networks import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder
from vae_flows.runs.settings import RunSettings

__all__ = ["build_data", "build_vae"]


def build_data(settings: RunSettings) -> DataSet:
    """Load the data set of a run, cut to `max_images` a split."""
    data = load(settings.data, path=settings.data_path, pixels=settings.pixels, split_seed=settings.split_seed)
    count = settings.max_images
    if count is None:
        return data
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    return replace(data, **{name: images.take(count) for name, images in splits.items()})


def build_vae(settings: RunSettings, data: DataSet) -> vf.VAE:
    """Build the untrained VAE of a run; its weights follow from the run's seed alone."""
    network, shape = settings.network, data.image_shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        likelihood = BernoulliLikelihood() if data.pixels == "binary" else CategoricalLikelihood()
        per_pixel = likelihood.parameters_per_pixel
        if network.kind == "conv":
            encoder = ConvEncoder(shape, context_dim=network.context_dim)
            decoder = ConvDecoder(settings.latent_dim, shape, parameters_per_pixel=per_pixel)
        else:
            widths = network.hidden_dims
            encoder = MLPEncoder(shape, hidden_dims=widths, context_dim=network.context_dim)
            decoder = MLPDecoder(settings.latent_dim, shape, hidden_dims=widths[::-1], parameters_per_pixel=per_pixel)
        posterior = vf.AmortizedPosterior(
            settings.latent_dim,
            network.context_dim,
            flow=settings.posterior,
            variance_bounds=settings.variance_bounds,
            **_flow_options(settings.posterior_options),
        )
        return vf.VAE(encoder, decoder, posterior, likelihood)


def _flow_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Make the solver's settings, a mapping in JSON, the object that flows take."""
    if "solver" not in options:
        return dict(options)
    solver = options["solver"]
    if not isinstance(solver, Mapping):
        raise InvalidInputError(complaint("option 'solver'", "a mapping such as {'rtol': 1e-4}", repr(solver)))
    try:
        return {**options, "solver": vf.ODESolver(**solver)}
    except TypeError as error:
        raise InvalidInputError(complaint("option 'solver'", "settings of vf.ODESolver", str(error))) from None
