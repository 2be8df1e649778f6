"""Likelihoods by name: those of the library, and those that a program registers."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, TypeVar

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint, did_you_mean, unknown_name
from vae_flows.likelihoods.base import Likelihood

__all__ = ["available_likelihoods", "find_likelihood", "make_likelihood", "register_likelihood"]

LikelihoodClass = TypeVar("LikelihoodClass", bound=type[Likelihood])

_registered: dict[str, type[Likelihood]] = {}


@checked
def register_likelihood(name: str) -> Callable[[LikelihoodClass], LikelihoodClass]:
    """Class decorator that makes a likelihood known to `make_likelihood` by `name`.

    Raises:
        InvalidInputError: The name is taken by another class, or the class is no `Likelihood`.

    Example:
        >>> from vae_flows.likelihoods import BernoulliLikelihood
        >>> @register_likelihood("my-likelihood")
        ... class MyLikelihood(BernoulliLikelihood):
        ...     pass
        >>> type(make_likelihood("my-likelihood")).__name__
        'MyLikelihood'
    """

    def register(likelihood: LikelihoodClass) -> LikelihoodClass:
        if not (isinstance(likelihood, type) and issubclass(likelihood, Likelihood)):
            raise InvalidInputError(complaint(f"likelihood {name!r}", "a subclass of Likelihood", repr(likelihood)))
        taken = _registered.get(name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (
            likelihood.__module__,
            likelihood.__qualname__,
        ):
            got = f"one taken by {taken.__qualname__}"
            raise InvalidInputError(complaint(f"likelihood {name!r}", "a free name", got))
        _registered[name] = likelihood
        return likelihood

    return register


def available_likelihoods() -> tuple[str, ...]:
    """Return the names of all likelihoods, sorted.

    Example:
        >>> {"bernoulli", "gaussian"} <= set(available_likelihoods())
        True
    """
    return tuple(sorted(_registered))


def find_likelihood(name: str) -> type[Likelihood]:
    """Return the class of the likelihood called `name`.

    Raises:
        UnknownNameError: No likelihood has that name; the message lists the nearest ones.

    Example:
        >>> find_likelihood("gaussian").__name__
        'GaussianLikelihood'
    """
    if name not in _registered:
        raise unknown_name("likelihood", name, _registered)
    return _registered[name]


@checked
def make_likelihood(name: str, **options: Any) -> Likelihood:
    """Build the likelihood called `name`; `options` go to its class.

    Raises:
        UnknownNameError: No likelihood has that name; the message lists the nearest ones.
        InvalidInputError: An option is not one of the likelihood's, which the message lists.

    Example:
        >>> make_likelihood("gaussian", scale="emitted", event_dim=1).parameters_per_pixel
        2
    """
    likelihood = find_likelihood(name)
    known = list(signature(likelihood).parameters)
    for option in options:
        if option not in known:
            subject, expected = f"options of likelihood {name!r}", f"one of {', '.join(known)}"
            raise InvalidInputError(complaint(subject, expected, repr(option), did_you_mean(option, known)))
    return likelihood(**options)
