"""Packages that parts of the library need and a guide does not: imported where they are used, told where they lack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vae_flows.errors import MissingPackageError, complaint

__all__ = ["missing_package", "needing"]


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Import packages of an extra within a block; where one is not installed, say in a line what to type.

    Arguments:
        extra: Name of the extra, in `pyproject.toml`, that brings them.

    Raises:
        MissingPackageError: A package is not installed.

    Example:
        >>> with needing("train"):
        ...     import no_such_package
        Traceback (most recent call last):
        vae_flows.errors.MissingPackageError: package no_such_package: expected one that is installed, got none. Try:
        pip install 'vae-flows[train]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == __name__.partition(".")[0]:  # a fault of this library's own
            raise
        raise missing_package(package, extra) from error


def missing_package(package: str, extra: str) -> MissingPackageError:
    """Return the error for a package that is not installed.

    Arguments:
        package: Its name.
        extra: The extra that brings it.
    """
    remedy = f"Try: pip install 'vae-flows[{extra}]'"
    return MissingPackageError(complaint(f"package {package}", "one that is installed", "none", remedy))
