"""The integrator: methods, stepping, discrete and continuous adjoint, solver settings. Knows no densities."""

from vae_flows.ode.compilation import CompilationWarning
from vae_flows.ode.progress import SolveProgress
from vae_flows.ode.solver import Gradient, IntegrationWarning, ODESolver
from vae_flows.ode.work_counts import WorkCount, WorkMeter

__all__ = [
    "CompilationWarning",
    "Gradient",
    "IntegrationWarning",
    "ODESolver",
    "SolveProgress",
    "WorkCount",
    "WorkMeter",
]
