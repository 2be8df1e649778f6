"""Published numbers that reports put beside one's own, and the settings that they were had with."""

from __future__ import annotations

from dataclasses import dataclass

from vae_flows.benchmark.presets import Preset
from vae_flows.checks import checked
from vae_flows.reporting import Reference

__all__ = ["PUBLISHED", "Published", "register_published"]


@checked
@dataclass(frozen=True)
class Published:
    """Results of the literature on one data set.

    Arguments:
        reference: The numbers.
        preset: The settings that they were had with.
    """

    reference: Reference
    preset: Preset


PUBLISHED: dict[str, Published] = {}
"""By data set."""


@checked
def register_published(data: str, published: Published) -> None:
    """Have reports put published numbers beside those of a data set, in place of earlier ones."""
    PUBLISHED[data] = published
