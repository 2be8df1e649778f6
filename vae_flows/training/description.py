"""What a run is: everything that decides its numbers, as plain values that two runs are compared by."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from types import MethodType
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.distributions import Distribution

from vae_flows.modules import placement
from vae_flows.persistence.configuration import CLASS, config_of, describe, to_plain
from vae_flows.protocols import name_of
from vae_flows.tensors.checksum import checksum
from vae_flows.training.settings import ComputeSettings, TrainingSettings

if TYPE_CHECKING:
    from vae_flows.data import DataSet
    from vae_flows.vae import VAE

__all__ = ["ADDED_LATER", "describe_model", "describe_run", "differences", "with_later_settings"]

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

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_PARTS_OF_DISTRIBUTIONS = (
    "base_dist",
    "transforms",
    "reinterpreted_batch_ndims",
    "mixture_distribution",
    "component_distribution",
)
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


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Return the class of a model and the whole configuration of its parts, as plain values.

    Parts whose class is not registered (`register_class`) are described by their modules, and by the dtypes and shapes
    of their parameters and buffers; a distribution by its parameters.

    Example:
        >>> from vae_flows.posterior import AmortizedPosterior
        >>> describe_model(AmortizedPosterior(2, 3, flow="planar", num_layers=1))["num_layers"]
        1
    """
    parts = {name: describe(part, _describe_foreign) for name, part in config_of(model).items()}
    return {CLASS: type(model).__qualname__, **parts}


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


def _describe_foreign(value: Any) -> Any:
    kind = {CLASS: type(value).__qualname__}
    if isinstance(value, Tensor):
        return {**kind, "tensor": _kind_of(value), "checksum": checksum(value)}
    if isinstance(value, nn.Module):
        modules = {
            name or "itself": f"{type(part).__qualname__}({_lasting(part.extra_repr())})"
            for name, part in value.named_modules()
        }
        return {**kind, "modules": modules, "weights": {name: _kind_of(tensor) for name, tensor in _tensors(value)}}
    if isinstance(value, Distribution):
        names = [*value.arg_constraints, *_PARTS_OF_DISTRIBUTIONS]
        parts = {name: getattr(value, name) for name in names if hasattr(value, name)}
        return {**kind, **{name: describe(part, _describe_foreign) for name, part in parts.items()}}
    if isinstance(value, MethodType):
        return {**kind, "method": value.__name__, "of": describe(value.__self__, _describe_foreign)}
    name = getattr(value, "__qualname__", None)  # of functions and classes
    return name if isinstance(name, str) else {**kind, "itself": _lasting(repr(value))}


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _kind_of(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}".removeprefix("torch.")


def _lasting(text: str) -> str:
    """Leave out addresses in memory, which another process has elsewhere."""
    return _ADDRESS.sub("", text)
