"""From what is typed to values: flags made into a parser by tyro.

tyro splits the words, prints the help and knows how values of a type are written. Values are read here, after it, so
that what is wrong is told in one line with the flag's name as it was typed.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from vae_flows.checks import expectation
from vae_flows.cli.flags import Flag, Group, alternatives, unwrapped
from vae_flows.errors import InvalidInputError, UnknownNameError, complaint, did_you_mean
from vae_flows.extras import needing

with needing("cli"):
    import tyro
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

__all__ = ["parse", "worded_as_typed"]

_NOT_GIVEN = object()


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
        partly: Leave what is not among the members to a later reading.

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
        args=arguments,
        return_unknown_args=True,
    )
    if unknown and not partly:
        raise _unknown(unknown[0], top, program)
    return _given(top, "", _words_of(top, parsed), arguments)


def worded_as_typed(message: str, members: Sequence[Flag | Group], arguments: Sequence[str]) -> str:
    """Return an error's message with the flag that it is about in place of what the library calls that.

    Arguments:
        message: `subject: expected …, got …`.
        members: What can be given.
        arguments: What was typed.

    Example:
        >>> rate = Flag("learning_rate", float, (1e-3,), subject="TrainingSettings learning_rate")
        >>> message = "TrainingSettings learning_rate: expected a positive number, got 0.0."
        >>> worded_as_typed(message, [Group("training", (rate,), "training")], ["--training.learning_rate", "0"])
        '--training.learning_rate: expected a positive number, got 0.0.'
    """
    subject, colon, rest = message.partition(": expected ")
    about, comma, detail = subject.partition(",")
    for name, flag in _flags(Group("options", tuple(members), None)).items():
        typed = _typed(flag, name, arguments)
        if colon and typed in _names_in(arguments) and _is_about(about, flag.subject):
            return f"{typed}{comma}{detail}{colon}{rest}"
    return message


def _is_about(subject: str, flag: str) -> bool:
    """Tell whether the subject of an error is a flag's, of a record `Record field`, or else `field` of anything."""
    record, _, field = flag.rpartition(" ")
    return subject in (flag, field) or (not record and bool(field) and subject.rpartition(" ")[2] == field)


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
    annotation, markers = unwrapped(flag.annotation)
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
    if flag.defaults == (None,) and types.NoneType not in alternatives(unwrapped(flag.annotation)[0]):
        return ""  # the help itself says it
    return f"(default: {' or '.join(dict.fromkeys(_shown(flag.annotation, value) for value in flag.defaults))})"


def _shown(annotation: Any, value: Any) -> str:
    """Return a default as it would be typed."""
    try:
        return " ".join(map(str, _type_spec(annotation).str_from_instance(value))) or "none"
    except (AttributeError, AssertionError, TypeError, ValueError):  # it is of another type than the annotation
        return str(value)


def _type_spec(annotation: Any) -> PrimitiveConstructorSpec[Any]:
    """Return how tyro reads and writes values of a type."""
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(unwrapped(annotation)[0], set()))
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
    annotation, _ = unwrapped(flag.annotation)
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
    parts = alternatives(annotation)
    names = [str(choice) for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    remedy = did_you_mean(words[0], names) if len(words) == 1 else ""
    raise InvalidInputError(complaint(typed, expectation(annotation), got, remedy))


def _typed(flag: Flag, name: str, typed: Sequence[str]) -> str:
    """Return the name of a flag as it was typed, or of a positional argument as the help has it."""
    if tyro.conf.Positional in unwrapped(flag.annotation)[1]:
        return flag.name.upper()
    return next((word for word in _names_in(typed) if _plain(word) in (name, flag.alias)), name)


def _names_in(arguments: Sequence[str]) -> list[str]:
    """Return the names of flags among what was typed, as they were typed."""
    return [word.partition("=")[0] for word in arguments if word.startswith("--")]


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
