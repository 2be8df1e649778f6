"""One valid call of every public callable of `vae_flows.runs`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tests.valid_calls.parts import folder
from tests.wrong_values import ValidCall
from vae_flows import runs, training
from vae_flows.runs.build import build_data, build_vae
from vae_flows.runs.folder import folder_of, prepare

__all__ = ["CALLS", "settings", "trained"]

SMALL: dict[str, Any] = {
    "data": "frey-faces",
    "posterior": "planar",
    "latent_dim": 2,
    "network": runs.NetworkSettings("mlp", (4,), 4),
    "training": training.TrainingSettings(max_epochs=1, batch_size=4, warmup_epochs=1),
    "compute": training.ComputeSettings("cpu"),
    "max_images": 4,
}


def settings(**changes: Any) -> runs.RunSettings:
    return runs.RunSettings(**{**SMALL, **changes})


@cache
def trained() -> Path:
    """Return the folder of a run that was trained, which calls only read."""
    chosen = settings()
    place = folder_of(folder(), chosen)
    prepare(place, chosen)
    data = build_data(chosen)
    training.train(build_vae(chosen, data), data, chosen.training, folder=place, compute=chosen.compute, progress=False)
    return place


def evaluation() -> runs.RunEvaluation:
    return runs.RunEvaluation(2, 9.0, 0.1, 8.0, 0.1, (1, 2), (9.0, 8.0), 7.0, 2.0, 1.5, 0.1, 0.1, 4, 16, 1.0, 8.0)


CALLS: dict[str, Callable[[], ValidCall]] = {
    "runs.NetworkSettings": lambda: ValidCall(
        runs.NetworkSettings, {"kind": "mlp", "hidden_dims": (4,), "context_dim": 4, "max_parameters": 1000}
    ),
    "runs.EvaluationSettings": lambda: ValidCall(
        runs.EvaluationSettings, {"importance_samples": 2, "chunk_size": 1, "batch_size": 3}
    ),
    "runs.RunSettings": lambda: ValidCall(
        runs.RunSettings,
        {
            **SMALL,
            "posterior_options": {"num_layers": 2},
            "variance_bounds": (0.1, 7.0),
            "evaluation": runs.EvaluationSettings(),
            "split_seed": 123,
            "pixels": "grey",
            "data_path": None,
            "likelihood": "categorical",
            "likelihood_options": {"levels": 256},
            "standardize": False,
            "label_column": None,
        },
        lambda made: (made.seed, hash(repr(made))),
    ),
    "runs.Run": lambda: ValidCall(runs.Run, {"folder": trained()}, lambda run: (repr(run), run.history, run.metrics)),
    "runs.Run.load_data": lambda: ValidCall(runs.Run(trained()).load_data),
    "runs.Run.load_model": lambda: ValidCall(runs.Run(trained()).load_model, {"which": "last"}),
    "runs.Run.evaluation_scores": lambda: ValidCall(
        runs.Run(trained()).evaluation_scores, {"evaluation": evaluation()}
    ),
    "runs.compare": lambda: ValidCall(runs.compare, {"runs": [trained()]}, lambda table: table.to_markdown()),
    "runs.RunFigure": lambda: ValidCall(
        runs.RunFigure,
        {"name": "costs", "title": "costs", "description": "Bars.", "make": lambda source, width: None},
    ),
    "runs.RunFigure.draw": lambda: ValidCall(runs.FIGURES[1].draw, {"runs": [runs.Run(trained())], "width": "column"}),
    "runs.draw_figures": lambda: ValidCall(runs.draw_figures, {"runs": [runs.Run(trained())], "width": "column"}),
    "runs.find_runs": lambda: ValidCall(runs.find_runs, {"folder": trained()}),
}
