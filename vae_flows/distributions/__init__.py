"""The distribution of a flow posterior, the diagonal Gaussian that it starts from, and scores of samples."""

from vae_flows.distributions import divergences as divergences
from vae_flows.distributions.diagonal_normal import DiagonalNormal
from vae_flows.distributions.evaluation import draw_from, evaluate, require_reparameterized, rsample_with_score
from vae_flows.distributions.exactness import exact_where_cheap
from vae_flows.distributions.flow_distribution import FlowDistribution
from vae_flows.distributions.records import Draw, ScoredSample
from vae_flows.distributions.structure import is_estimated, is_regularized

__all__ = [
    "DiagonalNormal",
    "Draw",
    "FlowDistribution",
    "ScoredSample",
    "draw_from",
    "evaluate",
    "exact_where_cheap",
    "is_estimated",
    "is_regularized",
    "require_reparameterized",
    "rsample_with_score",
]
