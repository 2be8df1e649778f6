"""From settings to objects: the data set and the VAE of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

import vae_flows as vf
from vae_flows.cnf.regularization import Regularizer, weighted_regularizers
from vae_flows.data import DataSet, load
from vae_flows.errors import InvalidInputError, VAEFlowsError
from vae_flows.flows.registry import flow_parameters
from vae_flows.likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    DiscretizedLogisticLikelihood,
    GaussianLikelihood,
    Likelihood,
    make_likelihood,
)
from vae_flows.networks import (
    ConvDecoder,
    ConvEncoder,
    MLPDecoder,
    MLPEncoder,
    Networks,
    check_parameter_count,
    default_networks,
)
from vae_flows.persistence.records import from_plain, record_in
from vae_flows.runs.settings import RunSettings

__all__ = ["build_data", "build_likelihood", "build_vae", "flow_options", "takes_regularizers"]


def build_data(settings: RunSettings) -> DataSet:
    """Load the data set of a run, cut to `max_images` a split."""
    data = load(
        settings.data,
        path=settings.data_path,
        pixels=settings.pixels,
        split_seed=settings.split_seed,
        label_column=settings.label_column,
        standardize=settings.standardize,
    )
    count = settings.max_images
    if count is None:
        return data
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    return replace(data, **{name: images.take(count) for name, images in splits.items()})


def build_vae(settings: RunSettings, data: DataSet) -> vf.VAE:
    """Build the untrained VAE of a run; its weights follow from the run's seed alone.

    Raises:
        InvalidInputError: It has more parameters than the run's settings allow, or options do not fit.
    """
    network = settings.network
    likelihood = build_likelihood(settings, data)
    with torch.device("meta"):  # what is too large must not be made before it is refused
        outline = build_networks(settings, data, likelihood)
    check_parameter_count(torch.nn.ModuleDict(outline._asdict()), network.max_parameters, "network.max_parameters")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        encoder, decoder = build_networks(settings, data, likelihood)
        posterior = vf.AmortizedPosterior(
            settings.latent_dim,
            network.context_dim,
            flow=settings.posterior,
            variance_bounds=settings.variance_bounds,
            **flow_options(settings.posterior, settings.posterior_options),
        )
        vae = vf.VAE(encoder, decoder, posterior, likelihood, standardization=data.standardization)
    check_parameter_count(vae, network.max_parameters, "network.max_parameters")
    return vae


def build_networks(settings: RunSettings, data: DataSet, likelihood: Likelihood) -> Networks:
    """Build the encoder and decoder that a run's settings ask for, or that fit its data."""
    network, shape, per_pixel = settings.network, data.event_shape, likelihood.parameters_per_pixel
    context_dim, widths = network.context_dim, network.hidden_dims
    if network.kind == "auto":
        options = {"hidden_dims": widths} if widths else {}
        return default_networks(shape, likelihood, settings.latent_dim, context_dim, **options)
    if network.kind == "conv":
        return Networks(ConvEncoder(shape, context_dim), ConvDecoder(settings.latent_dim, shape, per_pixel))
    return Networks(
        MLPEncoder(shape, widths, context_dim), MLPDecoder(settings.latent_dim, shape, widths[::-1], per_pixel)
    )


def build_likelihood(settings: RunSettings, data: DataSet) -> Likelihood:
    """Return the likelihood that a run's settings name, or the usual one of its data.

    Colour takes a discretised logistic, whose outputs do not grow with the levels; real values a Gaussian, whose
    deviations are learned.

    Raises:
        UnknownNameError: Nothing has that name.
        InvalidInputError: It does not take these options.
    """
    dims = len(data.event_shape)
    if settings.likelihood is not None:
        return make_likelihood(settings.likelihood, **{"event_dim": dims, **settings.likelihood_options})
    if data.pixels is None:
        return GaussianLikelihood(scale="learned", event_dim=dims)
    if data.pixels == "binary":
        return BernoulliLikelihood()
    return CategoricalLikelihood() if data.event_shape[0] == 1 else DiscretizedLogisticLikelihood()


def flow_options(flow: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a flow as it takes them.

    In settings, those that are records, such as solvers, are mappings, and regularisers are weights by name.

    Raises:
        UnknownNameError: No flow has that name.
        InvalidInputError: A record does not take its fields.

    Example:
        >>> flow_options("ffjord", {"rank": 8, "eval_solver": {"rtol": 1e-8}})["eval_solver"].rtol
        1e-08
        >>> flow_options("ffjord", {"regularizers": {"kinetic_energy": 0.01}})["regularizers"]
        (KineticEnergy(weight=0.01),)
    """
    annotations = {parameter.name: parameter.annotation for parameter in flow_parameters(flow)}
    return {name: _option(name, value, annotations.get(name)) for name, value in options.items()}


def takes_regularizers(annotation: Any) -> bool:
    """Tell whether an option of a flow is a sequence of regularisers."""
    return annotation == Sequence[Regularizer]


def _option(name: str, value: Any, annotation: Any) -> Any:
    if takes_regularizers(annotation) and isinstance(value, Mapping):
        return weighted_regularizers(value)
    record = record_in(annotation)
    if record is None or value is None:
        return value
    try:
        return from_plain(record, value)
    except VAEFlowsError as error:
        raise InvalidInputError(f"option {name!r}: {error}") from None
