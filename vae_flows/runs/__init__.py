"""A run is a thing: its settings, its folder, what it does, and how it compares with others."""

from vae_flows.runs.comparison import compare, find_runs
from vae_flows.runs.diagnosis import RunDiagnostics
from vae_flows.runs.evaluations import RunEvaluation
from vae_flows.runs.figures import FIGURES, DrawnFigure, RunFigure, draw_figures
from vae_flows.runs.run import Run, RunHistory, RunMetrics
from vae_flows.runs.scores import RunScores
from vae_flows.runs.settings import EvaluationSettings, NetworkSettings, RunSettings

__all__ = [
    "FIGURES",
    "DrawnFigure",
    "EvaluationSettings",
    "NetworkSettings",
    "Run",
    "RunDiagnostics",
    "RunEvaluation",
    "RunFigure",
    "RunHistory",
    "RunMetrics",
    "RunScores",
    "RunSettings",
    "compare",
    "draw_figures",
    "find_runs",
]
