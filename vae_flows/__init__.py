"""Variational autoencoders whose approximate posteriors are FFJORD flows.

The names below are the library; `vae_flows.training` and `vae_flows.reporting` are loaded when first used.
"""

from importlib import import_module as _import_module
from typing import Any as _Any

from vae_flows import cnf, data, evaluation, likelihoods, networks, objectives, transforms
from vae_flows.distributions import DiagonalNormal, FlowDistribution
from vae_flows.errors import (
    BiasedBoundWarning,
    CheckpointError,
    DataError,
    FileError,
    FolderInUseError,
    IndexOutOfRangeError,
    IntegrationError,
    InvalidInputError,
    MissingPackageError,
    NoClosedFormError,
    NonFiniteLossError,
    UnknownNameError,
    VAEFlowsError,
)
from vae_flows.flows import FFJORD, AmortizedFlow, available_flows, make_flow, register_flow
from vae_flows.guides import AmortizedAutoGuide, FlowGuide, LocalSite
from vae_flows.objectives import ELBO
from vae_flows.ode.solver import ODESolver
from vae_flows.persistence.configuration import register_class
from vae_flows.posterior import AmortizedPosterior
from vae_flows.priors import FlowPrior
from vae_flows.pyro_modules import load_param_store
from vae_flows.standardization import Standardization
from vae_flows.vae import VAE
from vae_flows.version import __version__

__all__ = [
    "ELBO",
    "FFJORD",
    "VAE",
    "AmortizedAutoGuide",
    "AmortizedFlow",
    "AmortizedPosterior",
    "BiasedBoundWarning",
    "CheckpointError",
    "DataError",
    "DiagonalNormal",
    "FileError",
    "FlowDistribution",
    "FlowGuide",
    "FlowPrior",
    "FolderInUseError",
    "IndexOutOfRangeError",
    "IntegrationError",
    "InvalidInputError",
    "LocalSite",
    "MissingPackageError",
    "NoClosedFormError",
    "NonFiniteLossError",
    "ODESolver",
    "Standardization",
    "UnknownNameError",
    "VAEFlowsError",
    "__version__",
    "available_flows",
    "cnf",
    "data",
    "evaluation",
    "likelihoods",
    "load_param_store",
    "make_flow",
    "networks",
    "objectives",
    "register_class",
    "register_flow",
    "transforms",
]

# Training brings Lightning Fabric and reporting matplotlib: seconds that a guide's user need not wait for.
_LAZY = ("benchmark", "export", "reporting", "runs", "testing", "training")
_LAZY_NAMES = ("Run", "compare")


def __getattr__(name: str) -> _Any:
    if name in _LAZY:
        return _import_module(f"vae_flows.{name}")
    if name in _LAZY_NAMES:
        return getattr(_import_module("vae_flows.runs"), name)
    raise AttributeError(f"module 'vae_flows' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_LAZY, *_LAZY_NAMES, *(name for name in globals() if name.startswith("__"))})
