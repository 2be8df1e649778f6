"""One valid call of every public callable of `vae_flows.training`."""

from __future__ import annotations

from collections.abc import Callable

from tests.valid_calls.parts import (
    data_set,
    vae,
)
from tests.wrong_values import ValidCall
from vae_flows import training

__all__ = ["CALLS"]


def history() -> tuple[training.EpochRecord, ...]:
    return (training.EpochRecord(1, 1.0, 2.0, 1.0, 2.0, None, None, 10.0, 0.1),)


CALLS: dict[str, Callable[[], ValidCall]] = {
    "training.TrainingSettings": lambda: ValidCall(
        training.TrainingSettings,
        {
            "max_epochs": 9,
            "batch_size": 3,
            "learning_rate": 1e-3,
            "optimizer_epsilon": 1e-7,
            "warmup_epochs": 0,
            "patience": 1,
            "max_gradient_norm": 1.0,
            "num_particles": 1,
            "gradient": "path",
            "evaluation_batch_size": 3,
            "seed": 0,
            "optimizer": "Adamax",
            "optimizer_options": {"weight_decay": 0.1},
            "schedule": "step",
            "schedule_options": {"epochs": 2},
            "learning_rate_warmup_epochs": 2,
            "objective": "beta",
            "objective_options": {"beta": 2.0},
            "ema_decay": 0.9,
            "accumulate_batches": 2,
            "loggers": ("csv",),
        },
        lambda settings: settings.beta(1),
    ),
    "training.TrainingSettings.beta": lambda: ValidCall(training.TrainingSettings().beta, {"epoch": 1}),
    "training.ComputeSettings": lambda: ValidCall(
        training.ComputeSettings, {"accelerator": "cpu", "devices": 1, "precision": "32-true", "strategy": "auto"}
    ),
    "training.train": lambda: ValidCall(
        training.train,
        {
            "vae": vae(),
            "data": data_set(),
            "settings": training.TrainingSettings(max_epochs=1, batch_size=6, warmup_epochs=0),
            "folder": None,
            "compute": training.ComputeSettings("cpu"),
            "resume": False,
            "progress": False,
            "callbacks": [],
            "loggers": [],
        },
    ),
    "training.TrainingResult.from_history": lambda: ValidCall(
        training.TrainingResult.from_history, {"history": history(), "settings": training.TrainingSettings()}
    ),
}
