"""Toy densities of the plane learned by maximum likelihood, as in section 5.1 of the FFJORD paper."""

from experiments.density.fit import Score
from experiments.density.glow import GlowSettings, run_glow
from experiments.density.glow_report import write_comparison
from experiments.density.regularizers import run_trials, write_trials
from experiments.density.report import write_densities
from experiments.density.run import run_density
from experiments.density.settings import DensitySettings

__all__ = [
    "DensitySettings",
    "GlowSettings",
    "Score",
    "run_density",
    "run_glow",
    "run_trials",
    "write_comparison",
    "write_densities",
    "write_trials",
]
