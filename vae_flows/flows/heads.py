"""The learned layer that emits a flow's parameters from a context."""

from __future__ import annotations

import math

from torch import Tensor, nn

__all__ = ["LinearHeads"]


class LinearHeads(nn.Module):
    """Linear heads that emit tensors of several shapes from one context, as one matrix product.

    Arguments:
        context_dim: Size of the context vectors.
        shapes: Shape of each head's output.

    Example:
        >>> import torch
        >>> heads = LinearHeads(8, (2, 5), (2,))
        >>> [tuple(output.shape) for output in heads(torch.zeros(3, 8))]
        [(3, 2, 5), (3, 2)]
    """

    def __init__(self, context_dim: int, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.shapes = shapes
        self.sizes = [math.prod(shape) for shape in shapes]
        self.linear = nn.Linear(context_dim, sum(self.sizes))

    def forward(self, context: Tensor) -> list[Tensor]:
        """Map a context `(*batch, context_dim)` to one tensor `(*batch, *shape)` for each head."""
        # split, not slices: the gradients of slices are zero-filled tensors of the full size, one a slice.
        outputs = self.linear(context).split(self.sizes, dim=-1)
        batch = context.shape[:-1]
        return [output.reshape(batch + shape) for output, shape in zip(outputs, self.shapes, strict=True)]

    def extra_repr(self) -> str:
        return f"shapes={self.shapes}"
