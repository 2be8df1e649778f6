"""The continuous core: dynamics, divergence, solver and the transform they make. Knows nothing of VAEs or Pyro."""

from vae_flows.cnf.activations import available_activations
from vae_flows.cnf.divergence import Divergence, ExactDivergence, HutchinsonDivergence
from vae_flows.cnf.dynamics import ConditionedMLP, LayerUpdate, MLPDynamics
from vae_flows.cnf.fields import AugmentedField, ConditionedDynamics, FunctionField, VectorField
from vae_flows.cnf.integrate import ODESolver
from vae_flows.cnf.transform import ContinuousTransform
from vae_flows.cnf.work import WorkCount

__all__ = [
    "AugmentedField",
    "ConditionedDynamics",
    "ConditionedMLP",
    "ContinuousTransform",
    "Divergence",
    "ExactDivergence",
    "FunctionField",
    "HutchinsonDivergence",
    "LayerUpdate",
    "MLPDynamics",
    "ODESolver",
    "VectorField",
    "WorkCount",
    "available_activations",
]
