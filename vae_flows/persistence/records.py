"""Records of settings as plain values: to JSON and back, and what differs between two."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from vae_flows.checks import Measured, check_argument
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.persistence import configuration
from vae_flows.persistence.configuration import settled

__all__ = ["checked_record", "differences", "flatten", "from_plain", "record_in", "to_plain"]

Record = TypeVar("Record")


def to_plain(value: Any) -> Any:
    """Turn records into what JSON knows: dicts, lists, numbers, strings, `None`.

    Example:
        >>> from vae_flows.runs.settings import NetworkSettings
        >>> to_plain(NetworkSettings("mlp", (300, 200), 64))
        {'kind': 'mlp', 'hidden_dims': [300, 200], 'context_dim': 64, 'max_parameters': 50000000}
    """
    return configuration.to_plain(value, _fields)


def from_plain(kind: type[Record], plain: Any) -> Record:
    """Build a record of class `kind` from what `to_plain` made; fields that are absent take their defaults.

    Raises:
        InvalidInputError: A field is unknown or a required one is missing.

    Example:
        >>> from vae_flows.runs.settings import NetworkSettings
        >>> from_plain(NetworkSettings, {"kind": "mlp", "hidden_dims": [300]}).hidden_dims
        (300,)
    """
    if not isinstance(plain, Mapping):
        raise InvalidInputError(complaint(kind.__name__, "a mapping of its fields", repr(plain)))
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(plain) - set(hints))
    if unknown:
        remedy = "Was it written by another version?"
        raise InvalidInputError(
            complaint(kind.__name__, f"fields among {', '.join(hints)}", ", ".join(unknown), remedy)
        )
    try:
        return kind(**{name: _restore(hints[name], value) for name, value in plain.items()})
    except TypeError as error:
        raise InvalidInputError(complaint(kind.__name__, "all of its required fields", str(error))) from None


def checked_record(kind: type[Record], plain: Any) -> Record:
    """Build a record from what `to_plain` made and anyone may have changed: each field is of its annotated type.

    Where a number may be NaN, it is what JSON has `null` for.

    Raises:
        InvalidInputError: A field is unknown, missing or of another type.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Count:
        ...     images: int
        >>> checked_record(Count, {"images": "3"})
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: Count images: expected an integer, got '3'.
    """
    record = from_plain(kind, plain)
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        value, inner = getattr(record, name), record_in(hint)
        if value is None and hint == Measured:
            object.__setattr__(record, name, math.nan)
        elif inner is not None and value is not None:
            object.__setattr__(record, name, checked_record(inner, plain[name]))
        else:
            check_argument(f"{kind.__name__} {name}", value, hint)
    return record


def differences(ours: Any, theirs: Any) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two records differ, by dotted name, ours before theirs.

    Example:
        >>> from vae_flows.training import TrainingSettings
        >>> differences(TrainingSettings(max_epochs=5), TrainingSettings())
        {'max_epochs': (5, 2000)}
    """
    left, right = dict(flatten(to_plain(ours))), dict(flatten(to_plain(theirs)))
    names = dict.fromkeys([*left, *right])
    return {name: (left.get(name), right.get(name)) for name in names if left.get(name) != right.get(name)}


def flatten(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of each entry that is no mapping itself.

    Example:
        >>> list(flatten({"training": {"seed": 0}}))
        [('training.seed', 0)]
    """
    for name, value in plain.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def record_in(annotation: Any) -> type | None:
    """Return the class of records that an annotation names, alone or beside others, or `None`.

    Example:
        >>> from vae_flows.training import TrainingSettings
        >>> record_in(TrainingSettings | None).__name__
        'TrainingSettings'
    """
    parts = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    return next((part for part in parts if isinstance(part, type) and dataclasses.is_dataclass(part)), None)


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _restore(hint: Any, value: Any) -> Any:
    """Give a plain value the type that its field is annotated with, as far as JSON lost it."""
    if value is None:
        return None
    if _is_union(hint):
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_plain(hint, value)
    element, *_ = typing.get_args(hint) or (None,)
    if typing.get_origin(hint) is tuple and isinstance(value, list) and dataclasses.is_dataclass(element):
        return tuple(_restore(element, item) for item in value)
    return settled(value)


def _fields(record: Any) -> dict[str, Any]:
    return {entry.name: to_plain(getattr(record, entry.name)) for entry in dataclasses.fields(record)}
