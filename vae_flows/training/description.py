"""What a run is: everything that decides its numbers, as plain values that two runs are compared by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vae_flows.modules import placement
from vae_flows.persistence.configuration import to_plain
from vae_flows.persistence.descriptions import describe_model
from vae_flows.protocols import name_of
from vae_flows.training.settings import ComputeSettings, TrainingSettings

if TYPE_CHECKING:
    from vae_flows.data import DataSet
    from vae_flows.vae import VAE

__all__ = ["ADDED_LATER", "describe_run", "differences", "with_later_settings"]

ADDED_LATER = frozenset({"model"})
"""Entries that the descriptions of older runs lack."""
LATER_SETTINGS = (
    "optimizer",
    "optimizer_options",
    "schedule",
    "schedule_options",
    "learning_rate_warmup_epochs",
    "objective",
    "objective_options",
    "ema_decay",
    "accumulate_batches",
)
"""Settings that older runs did not have; what they did is the default."""

ABSENT = "nothing"


def describe_run(
    vae: VAE, data: DataSet, settings: TrainingSettings, compute: ComputeSettings, processes: int
) -> dict[str, Any]:
    """Name everything that decides the numbers of a run, apart from `max_epochs`, which may grow, and the hardware.

    Loggers decide nothing.
    """
    resolved = {"schedule_options": settings.resolved_schedule_options()}
    description = to_plain(asdict(settings) | resolved, repr)
    del description["max_epochs"], description["loggers"]
    return description | {
        "posterior": name_of(vae.posterior),
        "dtype": str(placement(vae)[1]),
        "precision": compute.precision,
        "processes": processes,
        "data set": data.name,
        "training images": data.train.fingerprint(),
        "validation images": data.validation.fingerprint(),
        "model": describe_model(vae),
    }


def with_later_settings(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a run, with what settings that it is too old to have amount to.

    Example:
        >>> with_later_settings({"optimizer": "SGD"})["schedule"]
        'constant'
    """
    defaults = to_plain(asdict(TrainingSettings()), repr)
    return {name: defaults[name] for name in LATER_SETTINGS} | dict(description)


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the path of each value that differs, such as `model.posterior.rank`, with both values.

    Example:
        >>> list(differences({"model": {"rank": 2, "dims": [4]}}, {"model": {"rank": 3, "dims": [4]}}))
        [('model.rank', 2, 3)]
    """
    for name in {**first, **second}:
        one, other = first.get(name, ABSENT), second.get(name, ABSENT)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from ((f"{name}.{inner}", *values) for inner, *values in differences(one, other))
        elif one != other and not (one != one and other != other):  # NaN is like itself here
            yield name, one, other
