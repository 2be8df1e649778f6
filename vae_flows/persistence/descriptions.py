"""What a model is, beside its weights: its parts and their configuration, as plain values that two are compared by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import MethodType
from typing import Any, cast

from torch import Tensor, nn
from torch.distributions import Distribution

from vae_flows.errors import InvalidInputError
from vae_flows.persistence.configuration import CLASS, config_of, describe
from vae_flows.tensors.checksum import checksum

__all__ = ["describe_model"]

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_PARTS_OF_DISTRIBUTIONS = (
    "base_dist",
    "transforms",
    "reinterpreted_batch_ndims",
    "mixture_distribution",
    "component_distribution",
)


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Return the class of a model and the whole configuration of its parts, as plain values.

    Parts whose class is not registered (`register_class`) are described by their modules, and by the dtypes and shapes
    of their parameters and buffers; a distribution by its parameters.

    Example:
        >>> from vae_flows.posterior import AmortizedPosterior
        >>> describe_model(AmortizedPosterior(2, 3, flow="planar", num_layers=1))["num_layers"]
        1
    """
    try:
        config = config_of(model)
    except InvalidInputError:  # of what a subclass adds, all but that is told
        if not hasattr(model, "get_config"):
            return _describe_foreign(model)
        config = cast(Any, model).get_config()
    parts = {name: describe(part, _describe_foreign) for name, part in config.items()}
    return {CLASS: type(model).__qualname__, **parts}


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
