"""What distributions are made of, and what follows from that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard, TypeVar

from torch.distributions import Distribution, Independent
from torch.distributions import TransformedDistribution as TorchTransformedDistribution

from vae_flows.transforms.base import FusedTransform

__all__ = ["determined_by_parts", "is_estimated", "is_regularized", "is_transformed"]

Method = TypeVar("Method", bound=Callable[..., Any])

# The methods `log_prob` of the classes whose density is what base and transforms make it, and no more.
_DETERMINED_BY_PARTS: list[Callable[..., Any]] = [TorchTransformedDistribution.log_prob]


def determined_by_parts(log_prob: Method) -> Method:
    """Mark the `log_prob` of a class whose density is what base and transforms make it, and no more."""
    _DETERMINED_BY_PARTS.append(log_prob)
    return log_prob


def is_transformed(q: Distribution) -> TypeGuard[TorchTransformedDistribution]:
    """Return whether q is what its base and its transforms make it, and no more."""
    return isinstance(q, TorchTransformedDistribution) and type(q).log_prob in _DETERMINED_BY_PARTS


def is_regularized(q: Distribution) -> bool:
    """Return whether evaluations of q add to the loss, as their records' `regularization`.

    Example:
        >>> import torch
        >>> from vae_flows.distributions import DiagonalNormal
        >>> is_regularized(DiagonalNormal(torch.zeros(2), torch.ones(2)))
        False
    """
    if isinstance(q, Independent):
        return is_regularized(q.base_dist)
    if not is_transformed(q):
        return False
    own = any(isinstance(part, FusedTransform) and part.is_regularized for part in q.transforms)
    return own or is_regularized(q.base_dist)


def is_estimated(q: Distribution) -> bool:
    """Return whether log-densities of q are noisy estimates, as of a continuous flow in training mode.

    Example:
        >>> import torch
        >>> from vae_flows.distributions import DiagonalNormal
        >>> is_estimated(DiagonalNormal(torch.zeros(2), torch.ones(2)))
        False
    """
    if is_transformed(q):
        fused = [part for part in q.transforms if isinstance(part, FusedTransform)]
        return any(part.is_estimated for part in fused) or is_estimated(q.base_dist)
    return isinstance(q, Independent) and is_estimated(q.base_dist)
