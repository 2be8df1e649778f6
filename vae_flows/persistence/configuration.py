"""Descriptions: objects as plain values that JSON can hold, and objects built from such values, by registered names.

An object is described by its class's registered name and its configuration: the arguments that would build it again.
They are read from the object's attributes of the same names, or from its method `get_config()` where it has one. To
build from a description, classes are looked up among those registered, and nowhere else: a description cannot make
Python import or run anything that the program has not loaded by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from inspect import Parameter, signature
from numbers import Integral, Real
from typing import Any, TypeVar, cast

import numpy as np
from torch import nn

from vae_flows.checks import checked, require_takes
from vae_flows.errors import InvalidInputError, VAEFlowsError, complaint, unknown_name

__all__ = [
    "UnregisteredClassError",
    "build",
    "config_of",
    "describe",
    "register_class",
    "settled",
    "sizes_in",
    "to_plain",
    "upgraded",
    "upgraded_config",
]

CLASS = "class"
_COLLECTING = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
Class = TypeVar("Class", bound=type)

_registered: dict[str, type] = {}
_names: dict[type, str] = {}


class UnregisteredClassError(VAEFlowsError):
    """An object of a class that is not registered was to be described; the message is the class's name."""


@checked
def register_class(name: str) -> Callable[[Class], Class]:
    """Class decorator that lets saved models name a class, so that they are loaded without its objects being passed.

    The class keeps its constructor's arguments as attributes of the same names, or returns them from a method
    `get_config()`. They may be numbers, strings, `None`, objects of registered classes, and sequences and mappings of
    these; sequences come back as tuples. A class whose arguments have changed reads earlier files by a class method
    `upgrade_config(config)`, which returns them as they are now.

    Arguments:
        name: What descriptions call the class. It is part of files: keep it when the class is renamed.

    Raises:
        InvalidInputError: The name is taken by another class.

    Example:
        >>> @register_class("ShiftEncoder")
        ... class ShiftEncoder(nn.Module):
        ...     def __init__(self, shift: float = 1.0) -> None:
        ...         super().__init__()
        ...         self.shift = shift
        >>> describe(ShiftEncoder(0.5))
        {'class': 'ShiftEncoder', 'shift': 0.5}
        >>> build({"class": "ShiftEncoder", "shift": 0.25}).shift
        0.25
    """

    def register(cls: Class) -> Class:
        taken = _registered.get(name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise InvalidInputError(complaint(f"class {name!r}", "a free name", f"one taken by {taken.__qualname__}"))
        _registered[name] = cls
        _names[cls] = name
        return cls

    return register


def describe(value: Any, foreign: Callable[[Any], Any] | None = None) -> Any:
    """Return the description of an object, or of a plain value or a collection of them.

    Arguments:
        value: What to describe.
        foreign: What to make of objects whose class is not registered, or that do not tell their configuration; by
            default they are an error.

    Raises:
        UnregisteredClassError: It is, or holds, an object whose class is not registered.
        InvalidInputError: An object does not tell its configuration, or a mapping has keys that are no names.

    Example:
        >>> from vae_flows.cnf import KineticEnergy
        >>> describe([KineticEnergy(0.01), None])
        [{'class': 'KineticEnergy', 'weight': 0.01}, None]
    """
    if foreign is None:
        _require_names(value)
    return to_plain(value, partial(_describe_object, foreign=foreign))


def build(description: Any) -> Any:
    """Build what `describe` described; lists become tuples.

    Raises:
        UnknownNameError: No class is registered under a name.
        InvalidInputError: A class does not take the arguments.

    Example:
        >>> build({"class": "ODESolver", "method": "rk4", "options": {"step_size": 0.1}}).options
        {'step_size': 0.1}
    """
    return _built(upgraded(description))


def _find(name: object) -> type | None:
    """Return the class that is registered under a name, or `None`."""
    if isinstance(name, str) and name not in _registered:
        import_module("vae_flows.namespace")  # the library's classes are registered where they are defined
    return _registered.get(str(name))


def upgraded_config(cls: type, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a configuration that an earlier release wrote for a class as this one would."""
    return cls.upgrade_config(config) if hasattr(cls, "upgrade_config") else config


def upgraded(description: Any) -> Any:
    """Return a description that an earlier release wrote as this one would.

    Example:
        >>> solver = {"class": "ODESolver", "method": "rk4", "rtol": 1e-5, "atol": 1e-5, "fused": True}
        >>> upgraded(solver)
        {'class': 'ODESolver', 'method': 'rk4', 'rtol': None, 'atol': None, 'fused': True}
    """
    if isinstance(description, list | tuple):
        return [upgraded(item) for item in description]
    if not isinstance(description, Mapping):
        return description
    config = {key: upgraded(item) for key, item in description.items()}
    cls = _find(config.get(CLASS))
    return config if cls is None else upgraded_config(cls, config)


def _built(description: Any) -> Any:
    if isinstance(description, list | tuple):
        return tuple(_built(item) for item in description)
    if not isinstance(description, Mapping):
        return description
    arguments = {key: _built(item) for key, item in description.items() if key != CLASS}
    if CLASS not in description:
        return arguments
    name = str(description[CLASS])
    cls = _find(name)
    if cls is None:
        raise unknown_name("registered class", name, _registered)
    require_takes(f"registered class {name!r}", "arguments that it takes", cls, **arguments)
    return cls(**arguments)


def sizes_in(description: Any) -> Iterator[int]:
    """Yield the integers among the arguments of described modules, such as their sizes; not those of other objects.

    Example:
        >>> list(sizes_in({"dims": [4, 5], "solver": {"class": "ODESolver", "max_evaluations": 10**9}}))
        [4, 5]
    """
    if isinstance(description, int) and not isinstance(description, bool):
        yield description
    elif isinstance(description, list | tuple):
        for item in description:
            yield from sizes_in(item)
    elif isinstance(description, Mapping):
        cls = _find(description.get(CLASS))
        if cls is None or issubclass(cls, nn.Module):
            for item in description.values():
                yield from sizes_in(item)


def config_of(value: Any) -> Mapping[str, Any]:
    """Return the arguments that would build an object again: those of `get_config()`, or else its attributes.

    Arguments that a subclass adds to those of an inherited `get_config()` are attributes, too.

    Raises:
        InvalidInputError: An argument is not kept as an attribute.

    Example:
        >>> from vae_flows.flows import PlanarFlow
        >>> config_of(PlanarFlow(4, 8, num_layers=2))
        {'latent_dim': 4, 'context_dim': 8, 'num_layers': 2, 'initialization': 'identity'}
    """
    parameters = signature(type(value)).parameters.values()
    told: Mapping[str, Any] = {}
    if hasattr(value, "get_config"):
        told = value.get_config()
        owner = next(cls for cls in type(value).__mro__ if "get_config" in vars(cls))
        known = {*told, *signature(owner).parameters}
        parameters = [p for p in parameters if p.name not in known and p.kind not in _COLLECTING]
    absent = [p.name for p in parameters if p.kind in _COLLECTING or not hasattr(value, p.name)]
    if absent:
        expected = "its constructor's arguments kept as attributes of the same names"
        remedy = "Keep them, or define get_config()."
        got = f"none for {', '.join(absent)}"
        raise InvalidInputError(complaint(f"configuration of {type(value).__qualname__}", expected, got, remedy))
    return {**told, **{p.name: getattr(value, p.name) for p in parameters}}


def to_plain(value: Any, plain_object: Callable[[Any], Any]) -> Any:
    """Turn a value into what JSON knows: dicts with strings as keys, lists, numbers, strings and `None`.

    Arguments:
        value: A plain value, an object, or a collection of them at any depth.
        plain_object: What to make of anything else than plain values and collections.

    Example:
        >>> to_plain({"sizes": (1, 2), "dtype": complex}, lambda value: value.__name__)
        {'sizes': [1, 2], 'dtype': 'complex'}
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Integral | Real):  # such as NumPy's
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, Mapping):
        return {str(key): to_plain(item, plain_object) for key, item in value.items()}
    if isinstance(value, list | tuple | nn.ModuleList):
        return [to_plain(item, plain_object) for item in cast(list[Any], value)]
    return plain_object(value)


def settled(value: Any) -> Any:
    """Turn lists into tuples and NumPy's numbers into Python's, at any depth: as files give a value back.

    Example:
        >>> settled({"sizes": [1, [2]], "rate": np.float64(0.5)})
        {'sizes': (1, (2,)), 'rate': 0.5}
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: settled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(settled(item) for item in value)
    return value


def _require_names(value: Any) -> None:
    """Refuse mappings that would be built with other keys, or as an object."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str) or key == CLASS:
                expected = f"names as keys of mappings, other than {CLASS!r}"
                raise InvalidInputError(complaint("configuration", expected, repr(key)))
            _require_names(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _require_names(item)


def _describe_object(value: Any, foreign: Callable[[Any], Any] | None) -> Any:
    name = _names.get(type(value))
    if name is None:
        if foreign is None:
            raise UnregisteredClassError(type(value).__qualname__)
        return foreign(value)
    try:
        config = config_of(value)
    except InvalidInputError:
        if foreign is None:
            raise
        return foreign(value)
    return {CLASS: name, **{key: describe(item, foreign) for key, item in config.items()}}
