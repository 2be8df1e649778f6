"""The contract of every flow: a module that turns a context into a transform."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial

import torch
from pyro.distributions import ConditionalTransformModule
from torch import Tensor

from vae_flows.checks import checked
from vae_flows.errors import require_positive
from vae_flows.modules import bound
from vae_flows.tensors.known_values import functorch_is_active
from vae_flows.tensors.shapes import check_context, check_finite, check_like
from vae_flows.transforms.base import FusedTransform

__all__ = ["AmortizedFlow"]


class AmortizedFlow(ConditionalTransformModule):
    """A flow whose parameters, or part of them, are emitted from a context by learned layers.

    `flow.condition(context)`, or `flow(context)`, maps a context `(*batch, context_dim)` to a transform of latents
    `(*sample, *batch, latent_dim)`. Being a Pyro `ConditionalTransformModule`, a flow works wherever Pyro takes one.

    Subclasses write `transform`; shapes are checked here, once.

    Arguments:
        latent_dim: Size of the latent vectors.
        context_dim: Size of the context vectors.

    Raises:
        InvalidInputError: A size is not a positive integer, or a context has another size or an integer dtype.
    """

    name: str = ""

    @checked
    def __init__(self, latent_dim: int, context_dim: int) -> None:
        super().__init__()
        require_positive(type(self).__name__, latent_dim=latent_dim, context_dim=context_dim)
        self.latent_dim = latent_dim
        self.context_dim = context_dim

    @abstractmethod
    def transform(self, context: Tensor) -> FusedTransform:
        """Build the transform for a context that has been checked."""

    def condition(self, context: Tensor) -> FusedTransform:
        """Return the transform of latents `(*sample, *batch, latent_dim)` for a context `(*batch, context_dim)`."""
        check_context(type(self).__name__, context, self.context_dim)
        check_like(f"{type(self).__name__} context", context, self)
        check_finite(f"{type(self).__name__} context", context)
        transform = self.transform(context)
        renewable = isinstance(transform, FusedTransform) and torch.is_grad_enabled()
        if renewable and not (torch.compiler.is_compiling() or functorch_is_active()):
            transform.renewed_by(partial(bound(self).transform, context))
        return transform

    def forward(self, context: Tensor) -> FusedTransform:
        return self.condition(context)

    def extra_repr(self) -> str:
        return f"latent_dim={self.latent_dim}, context_dim={self.context_dim}"
