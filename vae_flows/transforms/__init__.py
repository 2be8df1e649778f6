"""Transforms: tensors in, value and log-determinant out, no learned state."""

from vae_flows.transforms.autoregressive import InverseAutoregressiveTransform
from vae_flows.transforms.base import FusedTransform, InverseTransform
from vae_flows.transforms.cached import CachedTransform
from vae_flows.transforms.chain import ChainTransform
from vae_flows.transforms.orthogonal import householder_product, orthonormalize
from vae_flows.transforms.partial import PartialTransform
from vae_flows.transforms.permutations import IdentityTransform, PermutationTransform, ReverseTransform
from vae_flows.transforms.planar import PlanarTransform
from vae_flows.transforms.scored import forward_with_score
from vae_flows.transforms.sigmoid import SigmoidTransform
from vae_flows.transforms.sylvester import SylvesterTransform

__all__ = [
    "CachedTransform",
    "ChainTransform",
    "FusedTransform",
    "IdentityTransform",
    "InverseAutoregressiveTransform",
    "InverseTransform",
    "PartialTransform",
    "PermutationTransform",
    "PlanarTransform",
    "ReverseTransform",
    "SigmoidTransform",
    "SylvesterTransform",
    "forward_with_score",
    "householder_product",
    "orthonormalize",
]
