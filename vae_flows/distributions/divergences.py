"""Kullback-Leibler divergences in closed form, which `torch.distributions.kl_divergence` finds."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence, register_kl
from torch.distributions import TransformedDistribution as TorchTransformedDistribution

from vae_flows.distributions.diagonal_normal import DiagonalNormal
from vae_flows.distributions.flow_distribution import FlowDistribution, untransformed
from vae_flows.distributions.structure import is_transformed
from vae_flows.errors import NoClosedFormError, complaint


@register_kl(DiagonalNormal, DiagonalNormal)
def _kl_of_diagonal_normals(p: DiagonalNormal, q: DiagonalNormal) -> Tensor:
    ratio = (p.scale / q.scale).square()
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale).square() - 1 - ratio.log()).sum(-1)


@register_kl(FlowDistribution, DiagonalNormal)
@register_kl(FlowDistribution, Independent)
@register_kl(FlowDistribution, TorchTransformedDistribution)
@register_kl(FlowDistribution, FlowDistribution)
@register_kl(DiagonalNormal, FlowDistribution)
@register_kl(Independent, FlowDistribution)
@register_kl(TorchTransformedDistribution, FlowDistribution)
def _kl_without_flows(p: Distribution, q: Distribution) -> Tensor:
    if is_transformed(p) and is_transformed(q) and p.transforms == q.transforms:
        return kl_divergence(p.base_dist, q.base_dist)  # one invertible map of both changes no divergence
    plain = [
        untransformed(part, "kl_divergence", "estimate_kl_divergence") if isinstance(part, FlowDistribution) else part
        for part in (p, q)
    ]
    return kl_divergence(*plain)


@register_kl(DiagonalNormal, Independent)
@register_kl(Independent, DiagonalNormal)
def _kl_of_independent_normals(p: Distribution, q: Distribution) -> Tensor:
    return kl_divergence(_as_diagonal(p), _as_diagonal(q))


def _as_diagonal(p: Distribution) -> DiagonalNormal:
    if isinstance(p, DiagonalNormal):
        return p
    if isinstance(p, Independent) and p.reinterpreted_batch_ndims == 1 and isinstance(p.base_dist, Normal):
        return DiagonalNormal(p.base_dist.loc, p.base_dist.scale, validate_args=False)
    remedy = "vf.evaluation.estimate_kl_divergence estimates it with a standard error."
    raise NoClosedFormError(complaint("kl_divergence", "independent normals of vectors", repr(p), remedy))
