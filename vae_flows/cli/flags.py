"""Typed flags: what a command takes, by annotation, made into a parser by tyro.

tyro splits the words, prints the help and knows how values of a type are written. Values are read here, after it, so
that what is wrong is told in one line with the flag's name as it was typed.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from inspect import Parameter, getdoc, signature
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from vae_flows.checks import expectation
from vae_flows.errors import InvalidInputError, UnknownNameError, complaint, did_you_mean
from vae_flows.extras import needing
from vae_flows.persistence.records import record_in

with needing("cli"):
    import docstring_parser
    import tyro
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

__all__ = ["HELP", "Alias", "Flag", "Group", "documentation", "flags_of_call", "flags_of_record", "make_flag", "parse"]

Plain = int | float | bool | str
HELP = ("-h", "--help")
_NOT_GIVEN = object()


class Flag(NamedTuple):
    """One flag, or one positional argument where its annotation says so.

    Arguments:
        name: Name of the argument or field.
        annotation: Its type, reduced to what can be written on a command line.
        defaults: The values that it has where it is not given, several where runs differ; none where it is required.
        help: What it is.
        alias: Another name for it, with hyphens, or none.
    """

    name: str
    annotation: Any
    defaults: tuple[Any, ...] = ()
    help: str = ""
    alias: str | None = None


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


class _Words(tuple[str, ...]):
    """The words that followed a flag."""

    __slots__ = ()


def parse(
    members: Sequence[Flag | Group],
    arguments: Sequence[str],
    program: str,
    description: str = "",
    *,
    partly: bool = False,
) -> dict[str, Any]:
    """Read arguments, and return by name what was given; what was not has no entry.

    Arguments:
        members: What can be given.
        arguments: What was typed.
        program: The program's name in the help.
        description: What it does, for the help.
        partly: Leave help and what is not among the members to a later reading.

    Raises:
        InvalidInputError: A value is not of its flag's type, a required one is missing, or a word stands alone.
        UnknownNameError: There is no such flag; the nearest are told.
        SystemExit: Help was asked for and printed.

    Example:
        >>> rate = Flag("learning_rate", float, (1e-3,))
        >>> parse([Group("training", (rate,), "training")], ["--training.learning-rate", "0.1"], "train")
        {'training': {'learning_rate': 0.1}}
    """
    top = Group("options", tuple(members), None)
    parsed, unknown = tyro.cli(
        _record(top),
        prog=program,
        description=description,
        args=[word for word in arguments if not (partly and word in HELP)],
        return_unknown_args=True,
    )
    if unknown and not partly:
        raise _unknown(unknown[0], top, program)
    return _given(top, "", _words_of(top, parsed), arguments)


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
        members.append(make_flag(entry.name, hints[entry.name], defaults, about.get(entry.name, ""), (*within, kind)))
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
    alias = next((marker.name for marker in _unwrapped(expressible)[1] if isinstance(marker, Alias)), None)
    return Flag(name, expressible, tuple(defaults), about, alias)


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


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _without_none(annotation: Any) -> Any:
    bare, markers = _unwrapped(annotation)
    parts = [part for part in _alternatives(bare) if part is not types.NoneType]
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


def _boxes(group: Group, prefix: str = "") -> Iterator[tuple[str, Group]]:
    """Yield a group and those within it, each with the beginning of its flags' names."""
    yield prefix, group
    for member in group.members:
        if isinstance(member, Group):
            yield from _boxes(member, f"{prefix}{member.prefix}." if member.prefix else prefix)


def _flags(top: Group) -> dict[str, Flag]:
    """Return all flags by their names, without the hyphens at the beginning."""
    return {
        _plain(f"{prefix}{member.name}"): member
        for prefix, group in _boxes(top)
        for member in group.members
        if isinstance(member, Flag)
    }


def _record(top: Group) -> type:
    """Return a data class that tyro makes a parser from: a field for each group, as the boxes of the help."""
    fields: list[tuple[str, Any, Any]] = []
    for place, (prefix, group) in enumerate(_boxes(top)):
        own = [
            (f"flag_{number}", _words(member, f"{prefix}{member.name}"), dataclasses.field(default=_NOT_GIVEN))
            for number, member in enumerate(group.members)
            if isinstance(member, Flag)
        ]
        if group is top:
            fields.extend(own)
        elif own:
            box = dataclasses.make_dataclass(f"Box{place}", own)
            box.__doc__ = group.help or " "
            hint = Annotated[box, tyro.conf.arg(name=prefix.rstrip(".") or group.name)]
            fields.append((f"box_{place}", hint, dataclasses.field(default_factory=box)))
    return dataclasses.make_dataclass("Flags", fields)


def _words_of(top: Group, parsed: Any) -> dict[str, Sequence[str]]:
    """Return the words of the flags that were typed, by their names, from what tyro made of `_record`."""
    found: dict[str, Sequence[str]] = {}
    for place, (prefix, group) in enumerate(_boxes(top)):
        box = parsed if group is top else getattr(parsed, f"box_{place}", None)
        for number, member in enumerate(group.members):
            words = getattr(box, f"flag_{number}", _NOT_GIVEN)
            if isinstance(words, _Words):
                found[_plain(f"{prefix}{member.name}")] = words
    return found


def _words(flag: Flag, name: str) -> Any:
    """Return the annotation by which tyro takes any number of words for a flag, and shows its type and defaults."""
    annotation, markers = _unwrapped(flag.annotation)
    spec = PrimitiveConstructorSpec(
        nargs="*",
        metavar=_metavar(annotation),
        instance_from_str=_Words,
        is_instance=lambda _: True,
        str_from_instance=lambda _: [],
    )
    argument = tyro.conf.arg(
        name=name,
        prefix_name=False,
        help=flag.help,
        help_behavior_hint=_hint(flag),
        aliases=[flag.alias] if flag.alias else None,
    )
    return Annotated[(Any, spec, argument, *markers)]


def _metavar(annotation: Any) -> str:
    if annotation is bool:
        return "[{True,False}]"
    return "[NAME VALUE ...]" if get_origin(annotation) is dict else _type_spec(annotation).metavar


def _hint(flag: Flag) -> str:
    """Return what the help says of the defaults."""
    if not flag.defaults:
        return "(required)"
    if flag.defaults == (None,) and types.NoneType not in _alternatives(_unwrapped(flag.annotation)[0]):
        return ""  # the help itself says it
    return f"(default: {' or '.join(dict.fromkeys(_shown(flag.annotation, value) for value in flag.defaults))})"


def _shown(annotation: Any, value: Any) -> str:
    """Return a default as it would be typed."""
    try:
        return " ".join(map(str, _type_spec(annotation).str_from_instance(value))) or "none"
    except (AttributeError, AssertionError, TypeError, ValueError):  # it is of another type than the annotation
        return str(value)


def _unwrapped(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    return (
        (get_args(annotation)[0], get_args(annotation)[1:]) if get_origin(annotation) is Annotated else (annotation, ())
    )


def _type_spec(annotation: Any) -> PrimitiveConstructorSpec[Any]:
    """Return how tyro reads and writes values of a type."""
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(_unwrapped(annotation)[0], set()))
    if isinstance(spec, Exception):
        raise spec
    return spec


def _given(group: Group, prefix: str, words: Mapping[str, Sequence[str]], typed: Sequence[str]) -> dict[str, Any]:
    """Return by name the values of the flags that were given."""
    found: dict[str, Any] = {}
    for member in group.members:
        if isinstance(member, Group):
            inner = _given(member, f"{prefix}{member.prefix}." if member.prefix else prefix, words, typed)
            if inner:
                found[member.name] = member.make(inner)
            continue
        name = _plain(f"{prefix}{member.name}")
        if name in words or not member.defaults:
            found[member.name] = _read(member, words.get(name, ()), _typed(member, name, typed))
    return found


def _read(flag: Flag, words: Sequence[str], typed: str) -> Any:
    """Make a value of a flag's type from words."""
    annotation, _ = _unwrapped(flag.annotation)
    if annotation is bool and not words:
        return True
    spec = _type_spec(annotation)
    counts = (spec.nargs,) if isinstance(spec.nargs, int) else spec.nargs
    try:
        # tyro leaves names to be compared by the parser, which here takes any word.
        known = spec.choices is None or set(words) <= set(spec.choices)
        if known and (counts == "*" or len(words) in counts):
            return spec.instance_from_str(list(words))
    except (AssertionError, ValueError):
        pass
    got = repr(" ".join(words)) if words else "nothing"
    parts = _alternatives(annotation)
    names = [str(choice) for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    remedy = did_you_mean(words[0], names) if len(words) == 1 else ""
    raise InvalidInputError(complaint(typed, expectation(annotation), got, remedy))


def _typed(flag: Flag, name: str, typed: Sequence[str]) -> str:
    """Return the name of a flag as it was typed, or of a positional argument as the help has it."""
    if tyro.conf.Positional in _unwrapped(flag.annotation)[1]:
        return flag.name.upper()
    words = (word.partition("=")[0] for word in typed)
    return next((word for word in words if _plain(word) in (name, flag.alias)), name)


def _plain(name: str) -> str:
    """Return the one spelling of a flag's name: hyphens where Python has underscores."""
    return f"--{name.lstrip('-').replace('_', '-')}"


def _unknown(word: str, top: Group, program: str) -> UnknownNameError | InvalidInputError:
    """Word the error for what is no flag: names of the same group are listed, the nearest first."""
    listed = f"`{program} --help` lists"
    if not word.startswith("-"):
        return InvalidInputError(complaint("argument", f"the flags that {listed}", repr(word)))
    typed = word.partition("=")[0]
    names, plain = list(_flags(top)), _plain(typed)
    families = sorted({name.rpartition(".")[0] for name in names})
    family = plain.rpartition(".")[0]
    if family not in families:
        known = [f"{name}." for name in families if name]
        expected, remedy = f"one that begins with {', '.join(known)}", did_you_mean(f"{family}.", known)
        return UnknownNameError(complaint("flag", expected, repr(typed), remedy))
    expected = f"one of those that {listed}"
    if family:
        siblings = [name for name in names if name.rpartition(".")[0] == family]
        siblings.sort(key=lambda name: -difflib.SequenceMatcher(None, plain, name).ratio())
        expected = f"one of {', '.join(siblings)}"
    return UnknownNameError(complaint("flag", expected, repr(typed), did_you_mean(plain, names)))
