"""Training: settings, the loop on Lightning Fabric, checkpoints that continue exactly."""

from vae_flows.training.checkpoint import load_weights
from vae_flows.training.loop import train
from vae_flows.training.records import EpochRecord, TrainingResult
from vae_flows.training.settings import ComputeSettings, TrainingSettings

__all__ = ["ComputeSettings", "EpochRecord", "TrainingResult", "TrainingSettings", "load_weights", "train"]
