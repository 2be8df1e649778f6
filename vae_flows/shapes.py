"""Shape bookkeeping shared by transforms and the continuous core.

The letters mean the same everywhere: a latent `z` is `(*sample, *batch, D)`, a context is `(*batch, C)`, and whatever
is computed from the context has `*batch` in front. Samples of one example share its parameters, so they are folded next
to the latent dimension, `(*batch, S, D)`, where one matrix product serves all of them and nothing is copied.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Size, Tensor

from vae_flows.errors import InvalidInputError, complaint

__all__ = ["Folded", "broadcast_batch", "broadcast_latents", "check_context", "fold_samples", "sum_rightmost"]


class Folded(NamedTuple):
    """A latent with its sample dimensions folded: `values (*batch, S, D)` and the `sample` and `batch` shapes."""

    values: Tensor
    sample: Size
    batch: Size

    def unfold(self, values: Tensor) -> Tensor:
        """Bring `values (*batch, S, *event)` back to `(*sample, *batch, *event)`."""
        moved = values.movedim(len(self.batch), 0)
        return moved.reshape(self.sample + self.batch + moved.shape[1 + len(self.batch) :])


def check_context(name: str, context: Tensor, context_dim: int) -> None:
    """Check that `context` is a floating-point tensor `(*batch, context_dim)`.

    Raises:
        InvalidInputError: It is not; the message names `name`.
    """
    if not context.is_floating_point() or context.dim() == 0 or context.shape[-1] != context_dim:
        raise InvalidInputError(
            complaint(
                f"{name} context",
                f"a floating-point tensor of shape (*batch, {context_dim})",
                f"{context.dtype} of shape {tuple(context.shape)}",
                "context_dim is the size that the encoder emits.",
            )
        )


def broadcast_batch(name: str, z: Tensor, latent_dim: int | None, batch: Size) -> Size:
    """Return the shape `(*sample, *batch)` to which `z` and parameters with batch shape `batch` broadcast.

    Any latent dimension is right where `latent_dim` is `None`.

    Raises:
        InvalidInputError: The last dimension of `z` is not `latent_dim`, `z` is not floating point, or the batch
            shapes do not broadcast.
    """
    if not z.is_floating_point():
        raise InvalidInputError(complaint(name, "a floating-point tensor", z.dtype, "Convert it with .float()."))
    return broadcast_latents(name, z.shape, latent_dim, batch)


def broadcast_latents(name: str, shape: Size, latent_dim: int | None, batch: Size) -> Size:
    """Do what `broadcast_batch` does for latents of which the shape alone is known.

    Raises:
        InvalidInputError: The last dimension is not `latent_dim`, or the batch shapes do not broadcast.
    """
    if not shape or latent_dim not in (None, shape[-1]):
        raise InvalidInputError(complaint(name, f"latents of shape (..., {latent_dim})", f"shape {tuple(shape)}"))
    try:
        return torch.broadcast_shapes(shape[:-1], batch)
    except RuntimeError:
        raise InvalidInputError(
            complaint(
                name,
                f"latents of shape (*sample, *batch, {latent_dim}) with *batch = {tuple(batch)} from the context",
                f"shape {tuple(shape)}",
                "Condition on a context whose batch shape is that of the latents' last dimensions.",
            )
        ) from None


def fold_samples(z: Tensor, batch: Size, shape: Size) -> Folded:
    """Fold `z`, expanded to `(*shape, D)`, into `(*batch, S, D)` for parameters with batch shape `batch`.

    Arguments:
        z: Latents that broadcast to `(*shape, D)`.
        batch: Batch shape of the parameters; its length says how many trailing dimensions of `shape` are batch.
        shape: What `broadcast_batch` returned.

    Example:
        >>> folded = fold_samples(torch.zeros(5, 3, 2), Size([3]), Size([5, 3]))
        >>> folded.values.shape, folded.unfold(folded.values).shape
        (torch.Size([3, 5, 2]), torch.Size([5, 3, 2]))
    """
    split = len(shape) - len(batch)
    sample, batch = shape[:split], shape[split:]
    flat = z.expand(shape + z.shape[-1:]).reshape((math.prod(sample), *batch, z.shape[-1]))
    return Folded(flat.movedim(0, -2), sample, batch)


def sum_rightmost(value: Tensor, dims: int) -> Tensor:
    """Sum `value` over its last `dims` dimensions.

    Example:
        >>> sum_rightmost(torch.ones(5, 3, 2), 2)
        tensor([6., 6., 6., 6., 6.])
    """
    return value.sum(tuple(range(-dims, 0))) if dims else value
