"""One valid call of every public callable of the modules beside the folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyro
import torch
from torch import nn

import vae_flows as vf
from tests.valid_calls.parts import (
    CONTEXT,
    LATENT,
    SHAPE,
    called_in_store,
    conditional,
    context,
    decoder,
    density,
    drawn,
    encoder,
    folder,
    images,
    latents,
    posterior,
    vae,
)
from tests.wrong_values import ValidCall
from vae_flows.cnf import (
    ContinuousNormalizingFlow,
    MLPDynamics,
)
from vae_flows.likelihoods import BernoulliLikelihood

__all__ = ["CALLS"]


def saved() -> Path:
    place = folder() / "saved"
    posterior().save_pretrained(place)
    return place


def store() -> Path:
    path = folder() / "store"
    with pyro.get_param_store().scope():
        pyro.param("scale", torch.tensor(2.0))
        pyro.get_param_store().save(str(path))
    return path


CALLS: dict[str, Callable[[], ValidCall]] = {
    "persistence.register_class": lambda: ValidCall(
        vf.register_class, {"name": "ValidCall"}, lambda register: register(type("Class", (), {}))
    ),
    "pyro_modules.load_param_store": lambda: ValidCall(
        vf.load_param_store, {"path": store(), "map_location": "cpu"}, lambda _: pyro.clear_param_store()
    ),
    "posterior.AmortizedPosterior": lambda: ValidCall(
        vf.AmortizedPosterior,
        {
            "latent_dim": LATENT,
            "context_dim": CONTEXT,
            "flow": "planar",
            "variance_bounds": (0.1, 7.0),
            "num_layers": 2,
        },
        lambda made: drawn(made(context())),
    ),
    "posterior.AmortizedPosterior.base": lambda: ValidCall(posterior().base, {"context": context()}, drawn),
    "posterior.AmortizedPosterior.forward": lambda: ValidCall(posterior(), {"context": context()}, drawn),
    "persistence.SavableModule.save_pretrained": lambda: ValidCall(
        posterior().save_pretrained, {"folder": folder() / "model"}
    ),
    "persistence.SavableModule.from_pretrained": lambda: ValidCall(
        vf.AmortizedPosterior.from_pretrained,
        {"source": saved(), "map_location": "cpu", "local_files_only": True},
        leave=("local_files_only",),
    ),
    "vae.VAE": lambda: ValidCall(
        vf.VAE,
        {
            "encoder": encoder(),
            "decoder": decoder(),
            "posterior": posterior(),
            "likelihood": BernoulliLikelihood(),
            "prior": vf.DiagonalNormal(torch.zeros(LATENT), torch.ones(LATENT)),
        },
        lambda made: (made.elbo(images()), made.generate(2)),
    ),
    "vae.VAE.encode": lambda: ValidCall(vae().encode, {"x": images()}),
    "vae.VAE.decode": lambda: ValidCall(vae().decode, {"z": latents()}),
    "vae.VAE.prior": lambda: ValidCall(vae().prior, {"like": latents()}),
    "vae.VAE.log_likelihood": lambda: ValidCall(vae().log_likelihood, {"x": images(), "z": latents()}),
    "vae.VAE.log_prior": lambda: ValidCall(vae().log_prior, {"z": latents()}),
    "vae.VAE.elbo": lambda: ValidCall(
        vae().elbo, {"x": images(), "num_particles": 2, "beta": 0.5, "gradient": "reparameterized"}
    ),
    "vae.VAE.importance_weighted_bound": lambda: ValidCall(
        vae().importance_weighted_bound, {"x": images(), "num_particles": 2, "chunk_size": 2, "gradient": "path"}
    ),
    "vae.VAE.renyi_bound": lambda: ValidCall(
        vae().renyi_bound,
        {"x": images(), "alpha": 0.5, "num_particles": 2, "chunk_size": 2, "gradient": "reparameterized"},
    ),
    "vae.VAE.renyi_terms": lambda: ValidCall(
        vae().renyi_terms, {"x": images(), "alpha": 0.5, "num_particles": 2, "beta": 0.5, "gradient": "path"}
    ),
    "vae.VAE.reconstruct": lambda: ValidCall(vae().reconstruct, {"x": images()}),
    "vae.VAE.generate": lambda: ValidCall(vae().generate, {"count": 2}),
    "vae.VAE.model": lambda: called_in_store(vae().model, {"x": images(), "beta": 0.5}),
    "vae.VAE.guide": lambda: called_in_store(vae().guide, {"x": images(), "beta": 0.5}),
    "priors.FlowPrior": lambda: ValidCall(
        vf.FlowPrior, {"flow": ContinuousNormalizingFlow(MLPDynamics(2, (4,)))}, lambda prior: prior()
    ),
    "priors.FlowPrior.forward": lambda: ValidCall(vf.FlowPrior(ContinuousNormalizingFlow(MLPDynamics(2, (4,))))),
    "objectives.draw": lambda: ValidCall(vf.objectives.draw, {"q": density(), "num_particles": 2, "gradient": "path"}),
    "objectives.elbo": lambda: ValidCall(
        vf.objectives.elbo,
        {
            "log_likelihood": conditional,
            "log_prior": conditional,
            "q": density(),
            "num_particles": 2,
            "beta": 0.5,
            "gradient": "path",
        },
    ),
    "objectives.importance_weighted_bound": lambda: ValidCall(
        vf.objectives.importance_weighted_bound,
        {"log_joint": conditional, "q": density(), "num_particles": 2, "chunk_size": 1, "gradient": "reparameterized"},
    ),
    "objectives.renyi_bound": lambda: ValidCall(
        vf.objectives.renyi_bound,
        {
            "log_joint": conditional,
            "q": density(),
            "alpha": 0.5,
            "num_particles": 2,
            "chunk_size": 1,
            "gradient": "path",
        },
    ),
    "objectives.renyi_terms": lambda: ValidCall(
        vf.objectives.renyi_terms,
        {
            "log_likelihood": conditional,
            "log_prior": conditional,
            "q": density(),
            "alpha": 0.5,
            "num_particles": 2,
            "beta": 0.5,
            "gradient": "path",
        },
    ),
    "objectives.renyi_average": lambda: ValidCall(
        vf.objectives.renyi_average, {"log_weights": torch.randn(3, 4), "alpha": 0.5}
    ),
    "standardization.Standardization": lambda: ValidCall(vf.Standardization, {"event_shape": (3,)}),
    "standardization.Standardization.of": lambda: ValidCall(vf.Standardization.of, {"batches": [torch.randn(4, 3)]}),
    "standardization.Standardization.forward": lambda: ValidCall(
        vf.Standardization((3,)).forward, {"x": torch.randn(4, 3)}
    ),
    "standardization.Standardization.log_abs_det_jacobian": lambda: ValidCall(
        vf.Standardization((3,)).log_abs_det_jacobian
    ),
    "standardization.Standardization.undone": lambda: ValidCall(
        vf.Standardization((3,)).undone,
        {"distribution": vf.likelihoods.GaussianLikelihood(1.0, event_dim=1)(torch.zeros(2, 3))},
    ),
    "vae.VAE.standardize": lambda: ValidCall(
        vf.VAE(
            nn.Linear(3, 3), nn.Linear(2, 3), posterior(), vf.likelihoods.GaussianLikelihood(event_dim=1)
        ).standardize,
        {"standardization": vf.Standardization(SHAPE)},
    ),
}
