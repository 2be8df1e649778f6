"""Transforms: tensors in, value and log-determinant out, no learned state."""

from vae_flows.transforms.base import ChainTransform, FusedTransform, IdentityTransform, ReverseTransform

__all__ = ["ChainTransform", "FusedTransform", "IdentityTransform", "ReverseTransform"]
