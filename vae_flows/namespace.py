"""The names of the library: what `vae_flows` offers once one of them is asked for."""

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
    ProcessError,
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
    "ProcessError",
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
