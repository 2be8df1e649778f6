"""Steps of a training, and the processor time that they take, of which other programs take none."""

from __future__ import annotations

import time

import torch

from vae_flows.data import DataSet
from vae_flows.modules import in_mode, placement
from vae_flows.processes import make_fabric
from vae_flows.training import TrainingSettings
from vae_flows.training.epoch import EpochRunner
from vae_flows.vae import VAE

__all__ = ["TrainingSteps"]


class TrainingSteps:
    """Steps of a training on the CPU, each on the next whole batch of its first epoch, over and over.

    Arguments:
        vae: What is trained, in place.
        data: Examples.
        settings: Of the training.
    """

    def __init__(self, vae: VAE, data: DataSet, settings: TrainingSettings) -> None:
        fabric = make_fabric("training", accelerator="cpu", devices=1)
        fabric.launch()
        self.runner = runner = EpochRunner(fabric, vae, data, settings)
        self._batches = [batch for batch in runner._batches(1) if len(batch.examples) == settings.batch_size]
        generator, dtype = torch.Generator().manual_seed(0), placement(runner.vae)[1]
        order = [batch.examples for batch in self._batches]
        self._examples = list(runner.train_examples.batches(order, generator=generator, dtype=dtype))
        self._place = 0

    def take(self, count: int = 1) -> float:
        """Make steps, and return the seconds of a processor that they took, of all threads together."""
        with in_mode(self.runner.vae, training=True):
            start = time.process_time()
            for _ in range(count):
                examples, batch = self._examples[self._place], self._batches[self._place]
                self.runner._step(iter([examples]), 1.0, batch, "a step that is timed")
                self._place = (self._place + 1) % len(self._batches)
            return time.process_time() - start
