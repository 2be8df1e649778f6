"""Exact densities in place of estimates."""

from __future__ import annotations

from typing import cast

from torch.distributions import Distribution, Independent
from torch.distributions import TransformedDistribution as TorchTransformedDistribution

from vae_flows.distributions.flow_distribution import FlowDistribution
from vae_flows.distributions.structure import is_estimated, is_transformed
from vae_flows.transforms.base import FusedTransform

__all__ = ["exact_where_cheap"]


def exact_where_cheap(q: Distribution) -> Distribution:
    """Return q with exact log-densities where they cost about what estimates do, or itself.

    Example:
        >>> import torch
        >>> from vae_flows.cnf import ContinuousTransform, MLPDynamics
        >>> from vae_flows.distributions import DiagonalNormal
        >>> base = DiagonalNormal(torch.zeros(2), torch.ones(2))
        >>> q = FlowDistribution(base, ContinuousTransform(MLPDynamics(2, (8,)).condition()))
        >>> is_estimated(q), is_estimated(exact_where_cheap(q))
        (True, False)
    """
    if not is_estimated(q):
        return q
    if is_transformed(q):
        transforms = [part.exact() if isinstance(part, FusedTransform) else part for part in q.transforms]
        kind = FlowDistribution if isinstance(q, FlowDistribution) else TorchTransformedDistribution
        return kind(exact_where_cheap(q.base_dist), transforms, validate_args=q._validate_args)
    independent = cast(Independent, q)
    dims = independent.reinterpreted_batch_ndims
    return Independent(exact_where_cheap(independent.base_dist), dims, validate_args=q._validate_args)
