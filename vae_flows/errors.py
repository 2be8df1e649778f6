"""The exceptions of the library: one small family, one message form (object, expected, got, remedy)."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence

__all__ = [
    "BiasedBoundWarning",
    "CheckpointError",
    "DataError",
    "FileError",
    "FolderInUseError",
    "IndexOutOfRangeError",
    "IntegrationError",
    "InvalidInputError",
    "MissingPackageError",
    "NoClosedFormError",
    "NonFiniteLossError",
    "ProcessError",
    "UnknownNameError",
    "VAEFlowsError",
    "complaint",
    "did_you_mean",
    "refuse_unused",
    "require_fraction",
    "require_number",
    "require_positive",
    "unknown_name",
]


class VAEFlowsError(Exception):
    """Base class of every error that the library raises on purpose."""


class BiasedBoundWarning(UserWarning):
    """A bound that is not linear in a log-density was computed from noisy estimates of it."""


class InvalidInputError(VAEFlowsError, ValueError):
    """An argument has a wrong shape, dtype, value or combination."""


class IndexOutOfRangeError(InvalidInputError, IndexError):
    """There is no example at a position; iteration over a sequence ends with it."""


class UnknownNameError(VAEFlowsError, ValueError):
    """A flow, data set or preset was asked for by a name that nothing answers to."""


class DataError(VAEFlowsError, RuntimeError):
    """A data file is missing, damaged or not what its name promises."""


class CheckpointError(VAEFlowsError, RuntimeError):
    """A checkpoint is damaged or belongs to another model or another run."""


class FileError(VAEFlowsError, OSError):
    """A file or folder cannot be read, written or made; the message names the path and what to do.

    Arguments:
        message: What happened and what to try.
        errno: The system's number of the error, where it gave one.
    """

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.errno)


class MissingPackageError(InvalidInputError, ImportError):
    """A part of the library needs a package that is not installed; the message says what to type."""


class FolderInUseError(FileError, InvalidInputError):
    """Another process, or another thread, is at work in a folder."""


class NoClosedFormError(VAEFlowsError, NotImplementedError):
    """A quantity of a distribution has no closed form; the message names the function that estimates it."""


class NonFiniteLossError(VAEFlowsError, ArithmeticError):
    """Training met a loss that is NaN or infinite; the message names epoch, batch and posterior."""


class ProcessError(VAEFlowsError, RuntimeError):
    """Another of the processes that share a work failed or ended."""


class IntegrationError(VAEFlowsError, ArithmeticError):
    """An ODE solve failed: evaluation cap, step underflow or a non-finite state.

    Arguments:
        message: What happened and what to try.
        t: The time reached, `None` where the solver does not tell.
        step_size: The last attempted step, `None` where the solver does not tell.
        evaluations: How often the dynamics were evaluated before the failure.
    """

    def __init__(self, message: str, *, t: float | None, step_size: float | None, evaluations: int) -> None:
        super().__init__(message)
        self.t = t
        self.step_size = step_size
        self.evaluations = evaluations

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_integration_error, (str(self), self.t, self.step_size, self.evaluations)


def _rebuild_integration_error(
    message: str, t: float | None, step_size: float | None, evaluations: int
) -> IntegrationError:
    return IntegrationError(message, t=t, step_size=step_size, evaluations=evaluations)


def complaint(subject: str, expected: object, got: object, remedy: str = "") -> str:
    """Word an error as *subject: expected …, got …. remedy*.

    Example:
        >>> complaint("context", "last dimension 8", "shape (4, 7)", "Set context_dim=7.")
        'context: expected last dimension 8, got shape (4, 7). Set context_dim=7.'
    """
    sentence = f"{subject}: expected {expected}, got {got}."
    return f"{sentence} {remedy}" if remedy else sentence


def unknown_name(kind: str, name: object, available: Iterable[str]) -> UnknownNameError:
    """Build the error for a name that is not among `available`, with the nearest names first, or is no string.

    Example:
        >>> print(unknown_name("flow", "plannar", ["iaf", "planar"]))
        flow: expected one of iaf, planar, got 'plannar'. Did you mean 'planar'?
    """
    names = sorted(available)
    return UnknownNameError(complaint(kind, f"one of {', '.join(names)}", repr(name), did_you_mean(name, names)))


def did_you_mean(name: object, available: Sequence[str]) -> str:
    """Ask for the names nearest to one that is unknown; empty where none is near.

    Example:
        >>> did_you_mean("layers", ["num_layers", "hidden_dim"])
        "Did you mean 'num_layers'?"
        >>> did_you_mean("caltech", ["caltech101-silhouettes", "mnist-static"])
        "Did you mean 'caltech101-silhouettes'?"
    """
    if not isinstance(name, str):
        return ""
    begun = [known for known in available if name and known.lower().startswith(name.lower())]
    near = list(dict.fromkeys([*begun, *difflib.get_close_matches(name, available, n=3, cutoff=0.5)]))[:3]
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else ""


def refuse_unused(owner: str, beside: str, **options: object) -> None:
    """Check that options that would have no effect are not given, which is that they are `None`.

    Arguments:
        owner: Whose options they are.
        beside: What leaves them without an effect.
        **options: Their values.

    Raises:
        InvalidInputError: One is given; the message names it.

    Example:
        >>> refuse_unused("FFJORD", "amortization='bias'", rank=8)
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: FFJORD rank: expected none beside amortization='bias', got 8. Leave it out.
    """
    for option, value in options.items():
        if value is not None:
            subject, expected = f"{owner} {option}", f"none beside {beside}"
            raise InvalidInputError(complaint(subject, expected, repr(value), "Leave it out."))


def require_positive(owner: str, **sizes: object) -> None:
    """Check that the named sizes are positive integers.

    Raises:
        InvalidInputError: One is not; the message names it.

    Example:
        >>> require_positive("IAFFlow", num_layers=0)
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: IAFFlow num_layers: expected a positive integer, got 0.
    """
    for argument, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise InvalidInputError(complaint(f"{owner} {argument}", "a positive integer", repr(size)))


def require_number(owner: str, name: str, value: object, *, above: float = -math.inf, least: float = -math.inf) -> None:
    """Check that a value is a finite number, above one bound and at least the other.

    Raises:
        InvalidInputError: It is not; the message names it.

    Example:
        >>> require_number("settings", "rate", float("nan"), above=0.0)
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: settings rate: expected a finite number above 0, got nan.
    """
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or value <= above
        or value < least
    ):
        bound = f"above {above:g}" if above > -math.inf else f"of at least {least:g}"
        raise InvalidInputError(complaint(f"{owner} {name}", f"a finite number {bound}", repr(value)))


def require_fraction(owner: str, **numbers: float) -> None:
    """Check that the named numbers are above 0 and below 1.

    Raises:
        InvalidInputError: One is not; the message names it.

    Example:
        >>> require_fraction("histogram", probability=1.0)
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: histogram probability: expected a number above 0 and below 1, got 1.0.
    """
    for argument, number in numbers.items():
        if not 0 < number < 1:
            raise InvalidInputError(complaint(f"{owner} {argument}", "a number above 0 and below 1", number))
