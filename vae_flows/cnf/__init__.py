"""The continuous core: dynamics, divergence, solver and the transform they make. Knows nothing of VAEs or Pyro."""

from vae_flows.cnf.activations import available_activations
from vae_flows.cnf.divergence import Divergence, ExactDivergence, HutchinsonDivergence
from vae_flows.cnf.dynamics import ConditionedMLP, LayerUpdate, MLPDynamics
from vae_flows.cnf.fields import ConditionedDynamics, FunctionField, VectorField
from vae_flows.cnf.integrate import ODESolver, WorkCount
from vae_flows.cnf.transform import ContinuousTransform

__all__ = [
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
