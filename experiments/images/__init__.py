"""Densities of images by convolutional continuous flows, at one scale and at several, in equal time."""

from experiments.images.report import write_images
from experiments.images.run import run_images
from experiments.images.settings import PAPER, ImageSettings, paper_settings

__all__ = ["PAPER", "ImageSettings", "paper_settings", "run_images", "write_images"]
