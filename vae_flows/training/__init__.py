"""Training: settings, the loop on Lightning Fabric, checkpoints that continue exactly."""

from vae_flows.training.callbacks import Callback, TrainingState
from vae_flows.training.checkpoint import load_weights
from vae_flows.training.loop import train
from vae_flows.training.records import EpochRecord, TrainingResult
from vae_flows.training.settings import ComputeSettings, TrainingSettings

__all__ = [
    "Callback",
    "ComputeSettings",
    "EpochRecord",
    "TrainingResult",
    "TrainingSettings",
    "TrainingState",
    "load_weights",
    "train",
]
