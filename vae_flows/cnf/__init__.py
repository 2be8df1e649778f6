"""The continuous core: dynamics, divergence, solver and the transform they make. Knows nothing of VAEs or Pyro."""

from vae_flows.cnf.activations import available_activations
from vae_flows.cnf.convolutions import ConvolutionalDynamics
from vae_flows.cnf.density import ContinuousNormalizingFlow
from vae_flows.cnf.dequantization import (
    Dequantization,
    QuantizedDensity,
    UniformDequantization,
    VariationalDequantization,
)
from vae_flows.cnf.divergence import (
    BottleneckDivergence,
    BruteForceDivergence,
    Divergence,
    ExactDivergence,
    HutchinsonDivergence,
)
from vae_flows.cnf.dynamics import ConditionedMLP, MLPDynamics
from vae_flows.cnf.fields import ConditionedDynamics, FunctionField, VectorField
from vae_flows.cnf.image_flow import ImageFlow
from vae_flows.cnf.layers import LayerUpdate
from vae_flows.cnf.regularization import JacobianNorm, KineticEnergy, Regularizer
from vae_flows.cnf.transform import ContinuousTransform
from vae_flows.ode.compilation import CompilationWarning
from vae_flows.ode.fields import AugmentedField
from vae_flows.ode.solver import IntegrationWarning, ODESolver
from vae_flows.ode.work_counts import WorkCount, WorkMeter

__all__ = [
    "AugmentedField",
    "BottleneckDivergence",
    "BruteForceDivergence",
    "CompilationWarning",
    "ConditionedDynamics",
    "ConditionedMLP",
    "ContinuousNormalizingFlow",
    "ContinuousTransform",
    "ConvolutionalDynamics",
    "Dequantization",
    "Divergence",
    "ExactDivergence",
    "FunctionField",
    "HutchinsonDivergence",
    "ImageFlow",
    "IntegrationWarning",
    "JacobianNorm",
    "KineticEnergy",
    "LayerUpdate",
    "MLPDynamics",
    "ODESolver",
    "QuantizedDensity",
    "Regularizer",
    "UniformDequantization",
    "VariationalDequantization",
    "VectorField",
    "WorkCount",
    "WorkMeter",
    "available_activations",
]
