"""The boundary: arguments of public calls are checked once, against the annotations that describe them.

`checked` wraps a function, a constructor or a data class. What a call gives is compared with its annotation, so that a
type is written down in one place; what a type cannot say (positive, a shape, a device) is checked by the small
`require_…` functions. All of them raise the library's errors, and step aside where `torch.compile` traces.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

import torch
from torch import Tensor, nn

from vae_flows.errors import InvalidInputError, complaint, unknown_name

__all__ = [
    "Measured",
    "check_argument",
    "checked",
    "described",
    "expectation",
    "require_device",
    "require_finite",
    "require_sample_shape",
    "require_takes",
]

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")
Class = TypeVar("Class", bound=type)

Measured = Annotated[float, "may be NaN or infinite"]
"""A number that was measured or computed, where NaN and infinity say something, as of a run that has failed."""

_PLAIN = {
    int: "an integer",
    float: "a finite number",
    Measured: "a number",
    bool: "True or False",
    str: "a string",
    Tensor: "a tensor",
    NoneType: "None",
    Path: "a path",
    None: "None",
}


@overload
def checked(function: Class) -> Class: ...
@overload
def checked(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]: ...
def checked(function: Any) -> Any:
    """Check what each call of `function` gives against its annotations.

    Integers and numbers exclude `bool`, numbers are finite, a sequence is no string, `Literal` names its choices, and a
    class is not taken for its instance. Arguments that Python itself misses or does not know remain its `TypeError`.

    Raises:
        InvalidInputError: By the wrapped function: an argument is not of the annotated type.
        UnknownNameError: By the wrapped function: a name is not among the choices; the message lists the nearest ones.

    Example:
        >>> @checked
        ... def scaled(x: Tensor, factor: float = 1.0) -> Tensor:
        ...     return factor * x
        >>> scaled(torch.ones(2), factor="2")
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: scaled factor: expected a finite number, got '2'.
    """
    if isinstance(function, type):  # a data class, whose fields are the arguments of its constructor
        data_class: Any = function
        data_class.__init__ = _checked_call(data_class.__init__, hints_of=function)
        return function
    return _checked_call(function, hints_of=function)


def _checked_call(
    function: Callable[Parameters, Returned], hints_of: Callable[..., Any]
) -> Callable[Parameters, Returned]:
    # Transforms are made at each step of training, so that what is right has to pass in a microsecond.
    @wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        # While torch.jit.trace records, even sizes are tensors.
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return function(*args, **kwargs)
        positions, named, further, options = _hints(function, hints_of)
        for place, value in enumerate(args):
            hint = positions[place][1] if place < len(positions) else further
            if hint is not None and type(value) not in hint.exact and not hint.fits(value):
                said = positions[place][0] if place < len(positions) else f"argument {place}"
                check_argument(f"{_owner(function, args)} {said}", value, hint.annotation)
        for name, value in kwargs.items():
            # What Python does not know has no hint, and ends in its own TypeError.
            hint = named.get(name, options)
            if hint is not None and type(value) not in hint.exact and not hint.fits(value):
                check_argument(f"{_owner(function, args)} {name}", value, hint.annotation)
        return function(*args, **kwargs)

    return call


_Test = Callable[[Any], bool]


class _Hint(NamedTuple):
    annotation: Any
    fits: _Test
    exact: frozenset[type]
    """Types of which every object fits: most arguments need no closer look."""


class _Hints(NamedTuple):
    """The hints of a signature; `None` stands for an argument of which anything is right."""

    by_position: Sequence[tuple[str, _Hint | None]]
    by_name: Mapping[str, _Hint | None]
    further: _Hint | None
    options: _Hint | None


def check_argument(subject: str, value: object, annotation: Any) -> None:
    """Check that a value is what an annotation describes.

    Raises:
        InvalidInputError: It is not; the message names `subject`.
        UnknownNameError: It is a string, and not among those of a `Literal`.

    Example:
        >>> check_argument("solver", "dopri5", tuple[float, float])
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: solver: expected 2 entries: a finite number, a finite number, got 'dopri5'.
    """
    if _test_of(annotation)(value):
        return
    choices = [choice for part in _alternatives(annotation) for choice in _choices(part)]
    if choices and isinstance(value, str) and str not in _alternatives(annotation):
        raise unknown_name(subject, value, choices)
    remedy = ""
    if isinstance(value, type) and any(isinstance(part, type) for part in _alternatives(annotation)):
        remedy = f"Give an object: {value.__name__}(…)."
    raise InvalidInputError(complaint(subject, expectation(annotation), described(value), remedy))


def described(value: object) -> str:
    """Describe a value for a message: a tensor by dtype and shape, anything else by a `repr` that is not long.

    Example:
        >>> described(torch.zeros(2, 3)), described("x")
        ('a torch.float32 tensor of shape (2, 3)', "'x'")
    """
    if isinstance(value, Tensor):
        where = "" if value.device.type == "cpu" else f" on {value.device}"
        layout = "" if value.layout is torch.strided else f" of layout {value.layout}"
        return f"a {value.dtype} tensor of shape {tuple(value.shape)}{layout}{where}"
    if isinstance(value, nn.Module):
        return f"a module {type(value).__name__}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    array: Any = value
    if hasattr(array, "dtype") and hasattr(array, "shape"):
        return f"a {type(value).__name__} of dtype {array.dtype} and shape {array.shape}"
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}…"


def require_finite(owner: str, *, above: float | None = None, at_least: float | None = None, **numbers: object) -> None:
    """Check that the named values are finite numbers, `above` or `at_least` a bound where one is given.

    Raises:
        InvalidInputError: One is not; the message names it.

    Example:
        >>> require_finite("JacobianNorm", at_least=0, weight=-0.1)
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: JacobianNorm weight: expected a finite number of at least 0, got -0.1.
    """
    bound = f" above {above}" if above is not None else f" of at least {at_least}" if at_least is not None else ""
    for argument, number in numbers.items():
        if not _is_number(number) or not _within(number, above, at_least):
            expected = f"a finite number{bound}"
            raise InvalidInputError(complaint(f"{owner} {argument}", expected, described(number)))


def require_device(subject: str, device: object) -> torch.device:
    """Return a device, having checked that it is one that torch can use here.

    Raises:
        InvalidInputError: It is none.

    Example:
        >>> require_device("device", "gpu")
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: device: expected a device of this machine, such as cpu or cuda:0, got 'gpu'.
    """
    if isinstance(device, str | torch.device):
        try:
            return torch.empty(0, device=device).device
        except (RuntimeError, AssertionError, NotImplementedError):  # no such device, or this torch was built without
            pass
    raise InvalidInputError(complaint(subject, "a device of this machine, such as cpu or cuda:0", described(device)))


def require_sample_shape(subject: str, shape: object) -> None:
    """Check that a shape is a sequence of integers that are not negative.

    Raises:
        InvalidInputError: It is not; a single integer is told to be written as a tuple.

    Example:
        >>> require_sample_shape("rsample", 3)
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: rsample: expected a shape, such as (10,) or (), got 3. Write (3,).
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # which know sizes as tensors and symbols
        return
    if isinstance(shape, Sequence) and not isinstance(shape, str | bytes) and all(map(_is_size, shape)):
        return
    remedy = f"Write ({shape},)." if _is_size(shape) else ""
    raise InvalidInputError(complaint(subject, "a shape, such as (10,) or ()", described(shape), remedy))


def _is_size(size: object) -> bool:
    if isinstance(size, torch.SymInt):
        return True
    return isinstance(size, int) and not isinstance(size, bool) and size >= 0


def _is_number(value: object) -> bool:
    if type(value) is float:
        return math.isfinite(value)
    if isinstance(value, torch.SymFloat | torch.SymInt):
        return True
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _within(number: Any, above: float | None, at_least: float | None) -> bool:
    return (above is None or number > above) and (at_least is None or number >= at_least)


@cache
def _hints(function: Callable[..., Any], hints_of: Callable[..., Any]) -> _Hints:
    # Annotations are resolved at the first call: they may name what the module imports or defines further down.
    annotations = get_type_hints(hints_of, include_extras=True)

    def hint(parameter: inspect.Parameter) -> _Hint | None:
        annotation = annotations.get(parameter.name, Any)
        if annotation is Any:
            return None
        exact = frozenset(kind for part in _alternatives(annotation) for kind in _exact_types(part))
        return _Hint(annotation, _test_of(annotation), exact)

    found = [(parameter, hint(parameter)) for parameter in inspect.signature(function).parameters.values()]
    others = {p.kind: hint for p, hint in found if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    return _Hints(
        [(p.name, hint) for p, hint in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)],
        {p.name: hint for p, hint in found if p.kind not in others},
        others.get(inspect.Parameter.VAR_POSITIONAL),
        others.get(inspect.Parameter.VAR_KEYWORD),
    )


def _exact_types(annotation: Any) -> tuple[type, ...]:
    if annotation == Sequence[int]:
        return (torch.Size,)
    is_exact = isinstance(annotation, type) and get_origin(annotation) is None and annotation is not float
    return (annotation,) if is_exact else ()


def _owner(function: Callable[..., Any], args: tuple[Any, ...]) -> str:
    if next(iter(inspect.signature(function).parameters), None) not in ("self", "cls"):
        return function.__name__
    kind = args[0] if isinstance(args[0], type) else type(args[0])
    return kind.__name__ if function.__name__ == "__init__" else f"{kind.__name__}.{function.__name__}"


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _choices(annotation: Any) -> tuple[str, ...]:
    values = get_args(annotation) if get_origin(annotation) is Literal else ()
    return tuple(value for value in values if isinstance(value, str))


def _test_of(annotation: Any) -> _Test:
    """Return what tells whether a value is what an annotation describes, so that each call need not read it anew."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any or annotation is object or isinstance(annotation, TypeVar | str):
        return lambda value: True
    if origin in (Union, UnionType):
        tests = [_test_of(part) for part in arguments]
        return lambda value: any(test(value) for test in tests)
    if annotation == Measured:
        return lambda value: isinstance(value, Real) and not isinstance(value, bool)
    if origin is Literal:
        return lambda value: any(value is c or (type(value) is type(c) and value == c) for c in arguments)
    if origin is None:
        return _test_of_plain(annotation)
    if origin is tuple:
        return _test_of_tuple(arguments)
    if origin is Callable:
        return callable
    if origin is type:
        bounds = [bound for bound in arguments if isinstance(bound, type)]
        return lambda value: isinstance(value, type) and all(issubclass(value, bound) for bound in bounds)
    return _test_of_collection(origin, [_test_of(argument) for argument in arguments])


def _test_of_tuple(arguments: Sequence[Any]) -> _Test:
    if arguments[-1:] == (...,):
        entry = _test_of(arguments[0])
        return lambda value: isinstance(value, tuple | list) and all(map(entry, value))
    tests = [_test_of(argument) for argument in arguments]

    def fits(value: Any) -> bool:
        if not isinstance(value, tuple | list) or len(value) != len(tests):
            return False
        return all(test(entry) for test, entry in zip(tests, value, strict=True))

    return fits


def _test_of_collection(origin: Any, tests: Sequence[_Test]) -> _Test:
    def fits(value: Any) -> bool:
        if isinstance(value, str | bytes) or not isinstance(value, origin):
            return False
        if issubclass(origin, Sequence) or (origin is Iterable and hasattr(value, "__getitem__")):
            return all(map(tests[0], value))
        if issubclass(origin, Mapping):
            return all(map(tests[0], value)) and all(map(tests[1], value.values()))
        return True

    return fits


def _test_of_plain(annotation: Any) -> _Test:
    if annotation is None:
        return lambda value: value is None
    if annotation is int:
        return lambda value: isinstance(value, Integral | torch.SymInt) and not isinstance(value, bool)
    if annotation is float:
        return _is_number
    if annotation is Callable:
        return callable
    if getattr(annotation, "_is_protocol", False):
        return lambda value: _fits_protocol(value, annotation)
    return lambda value: not isinstance(annotation, type) or isinstance(value, annotation)


def _fits_protocol(value: object, protocol: Any) -> bool:
    """Whether an object, not a class, has the members that a protocol asks for."""
    if isinstance(value, type) or value is None:
        return False
    names = getattr(protocol, "__protocol_attrs__", None) or vars(protocol)
    members = [name for name in names if name == "__call__" or not name.startswith("_")]
    return all(hasattr(value, member) for member in members)


def expectation(annotation: Any) -> str:
    """Say what an annotation describes, as messages have it.

    Example:
        >>> expectation(tuple[int, ...]), expectation(float | None)
        ('a sequence with entries each an integer', 'a finite number or None')
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if origin in (Union, UnionType):
        *first, last = [expectation(part) for part in arguments]
        return f"{', '.join(first)} or {last}"
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin is Callable or annotation is Callable:
        return "a callable"
    if origin is tuple and arguments[-1:] != (...,):
        return f"{len(arguments)} entries: {', '.join(map(expectation, arguments))}"
    if origin is not None and issubclass(origin, Mapping):
        return f"a mapping from {expectation(arguments[0])} to {expectation(arguments[1])}"
    if origin is not None and issubclass(origin, Iterable):
        return f"a sequence with entries each {expectation(arguments[0])}"
    name = getattr(annotation, "__name__", str(annotation))
    return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"


def require_takes(subject: str, expected: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Check that a callable of the user's takes the arguments that it will be called with.

    An error inside the callable stays its own; of builtins that do not tell their arguments nothing is known.

    Raises:
        InvalidInputError: It does not take them.

    Example:
        >>> require_takes("prior", "a callable without arguments", len)
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: prior: expected a callable without arguments, got <built-in function len> \
(missing a required argument: 'obj').
    """
    try:
        # Modules pass on whatever they are called with.
        signature = inspect.signature(function.forward if isinstance(function, nn.Module) else function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidInputError(complaint(subject, expected, f"{described(function)} ({error})")) from None
