"""Typed flags: what a command takes, made from annotations, defaults and docstrings."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from inspect import Parameter, getdoc, signature
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from vae_flows.extras import needing
from vae_flows.persistence.records import record_in

with needing("cli"):
    import docstring_parser

__all__ = [
    "Alias",
    "Flag",
    "Group",
    "Subject",
    "alternatives",
    "documentation",
    "flags_of_call",
    "flags_of_record",
    "make_flag",
    "unwrapped",
]

Plain = int | float | bool | str


class Flag(NamedTuple):
    """One flag, or one positional argument where its annotation says so.

    Arguments:
        name: Name of the argument or field.
        annotation: Its type, reduced to what can be written on a command line.
        defaults: The values that it has where it is not given, several where runs differ; none where it is required.
        help: What it is.
        alias: Another name for it, with hyphens, or none.
        subject: What errors call it: `Record field` for the field of a record, `option` for that of anything.
    """

    name: str
    annotation: Any
    defaults: tuple[Any, ...] = ()
    help: str = ""
    alias: str | None = None
    subject: str = ""


class Group(NamedTuple):
    """Flags that belong together.

    Arguments:
        name: Name of the argument or field that they make.
        members: Flags, and groups within.
        prefix: What the names of its flags begin with, before a dot; `None` for nothing.
        help: What they are about.
        make: What the argument is made with, from the mapping of the flags that were given.
    """

    name: str
    members: tuple[Flag | Group, ...]
    prefix: str | None
    help: str = ""
    make: Callable[[Mapping[str, Any]], Any] = dict


class Alias(NamedTuple):
    """Marks an annotation of an argument: the flag has another name, too."""

    name: str


class Subject(NamedTuple):
    """Marks an annotation of an argument: what errors call it, where that is not its name."""

    name: str


def flags_of_call(function: Callable[..., Any]) -> tuple[Flag | Group, ...]:
    """Return the flags of a function's arguments, without those that no command line can express.

    Fields of an argument that is a record, with a default, become flags without a prefix. That an argument is `None`
    by default stands for what its help says.
    """
    about, hints = documentation(function), typing.get_type_hints(function, include_extras=True)
    members: list[Flag | Group | None] = []
    for parameter in signature(function).parameters.values():
        name, default = parameter.name, parameter.default
        defaults = () if default is Parameter.empty else (default,)
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            fields = flags_of_record(type(default), [default])

            def make(given: Mapping[str, Any], default: Any = default) -> Any:
                return dataclasses.replace(default, **given)

            members.append(Group(name, fields, None, about.get(name, ""), make))
        else:
            hint = _without_none(hints[name]) if default is None else hints[name]
            members.append(make_flag(name, hint, defaults, about.get(name, "")))
    return tuple(member for member in members if member is not None)


def flags_of_record(
    kind: type, values: Sequence[Any] = (), *, without: Sequence[str] = (), within: tuple[type, ...] = ()
) -> tuple[Flag | Group, ...]:
    """Return the flags of a record's fields.

    Arguments:
        kind: Class of the record.
        values: Records that hold the defaults.
        without: Fields to leave out.
        within: Records around this one, which have no flags within themselves.
    """
    about, hints = documentation(kind), typing.get_type_hints(kind, include_extras=True)
    members: list[Flag | Group | None] = []
    for entry in dataclasses.fields(kind):
        if entry.name in without:
            continue
        if values:
            defaults: Sequence[Any] = [getattr(value, entry.name) for value in values]
        elif entry.default_factory is not dataclasses.MISSING:
            defaults = [entry.default_factory()]
        else:
            defaults = [] if entry.default is dataclasses.MISSING else [entry.default]
        flag = make_flag(entry.name, hints[entry.name], defaults, about.get(entry.name, ""), (*within, kind))
        members.append(flag._replace(subject=f"{kind.__name__} {entry.name}") if isinstance(flag, Flag) else flag)
    return tuple(member for member in members if member is not None)


def make_flag(
    name: str, annotation: Any, defaults: Sequence[Any] = (), about: str = "", within: tuple[type, ...] = ()
) -> Flag | Group | None:
    """Return the flag of an annotation, a group for a record, or nothing where no command line can express it.

    Example:
        >>> make_flag("rank", int | None, [None]).annotation
        int | None
        >>> make_flag("hook", Callable[[], None]) is None
        True
    """
    record = record_in(annotation)
    if record is not None:
        if record in within:
            return None
        values = [value for value in defaults if isinstance(value, record)]
        with suppress(TypeError):
            values = values or [record()]
        fields = flags_of_record(record, values, within=within)
        return Group(name, fields, name, about or documentation(record).get("", ""))
    if annotation in (Parameter.empty, Any):
        annotation = next((type(value) for value in defaults if type(value) in (int, float, bool, str)), Plain | None)
    expressible = _expressible(annotation)
    if expressible is None:
        return None
    markers = unwrapped(expressible)[1]
    alias = next((marker.name for marker in markers if isinstance(marker, Alias)), None)
    subject = next((marker.name for marker in markers if isinstance(marker, Subject)), name)
    return Flag(name, expressible, tuple(defaults), about, alias, subject)


def documentation(documented: Any) -> dict[str, str]:
    """Return what a docstring says of each argument, and under the empty name what it says first.

    Example:
        >>> from vae_flows.runs.settings import EvaluationSettings
        >>> documentation(EvaluationSettings)["batch_size"]
        'Images at once.'
    """
    parsed = docstring_parser.parse(getdoc(documented) or "", style=docstring_parser.DocstringStyle.GOOGLE)
    about = {entry.arg_name: " ".join((entry.description or "").split()) for entry in parsed.params}
    return {**about, "": parsed.short_description or ""}


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type that an annotation is."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _without_none(annotation: Any) -> Any:
    bare, markers = unwrapped(annotation)
    parts = [part for part in alternatives(bare) if part is not types.NoneType]
    return Annotated[(reduce(or_, parts), *markers)] if markers else reduce(or_, parts)


def _expressible(annotation: Any) -> Any:
    """Return the part of an annotation that can be written on a command line, or `None`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in (int, float, bool, str, Path) or origin is Literal:
        return annotation
    if origin is Annotated:
        inner = _expressible(arguments[0])
        return None if inner is None else Annotated[(inner, *arguments[1:])]
    if origin in (Union, types.UnionType):
        parts = [part for part in arguments if part is not types.NoneType and _expressible(part) is not None]
        if not parts:
            return None
        alternatives = [*map(_expressible, parts), *(part for part in arguments if part is types.NoneType)]
        return reduce(or_, alternatives)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return dict[str, Plain]
    if isinstance(origin, type) and issubclass(origin, Sequence):
        inner = [_expressible(argument) for argument in arguments if argument is not ...]
        fixed = origin is tuple and ... not in arguments
        return None if None in inner else tuple[(*inner,)] if fixed else tuple[inner[0], ...]
    return None


def unwrapped(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a type without its markers, and them."""
    return (
        (get_args(annotation)[0], get_args(annotation)[1:]) if get_origin(annotation) is Annotated else (annotation, ())
    )
