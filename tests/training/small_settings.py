"""Settings of trainings that take a moment."""

from vae_flows.training import TrainingSettings

__all__ = ["SETTINGS"]

SETTINGS = TrainingSettings(max_epochs=5, batch_size=20, learning_rate=5e-3, warmup_epochs=3, evaluation_batch_size=8)
