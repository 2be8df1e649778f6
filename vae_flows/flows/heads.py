"""The learned layer that emits a flow's parameters from a context, and how it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.precision import at_least_single

__all__ = ["Initialization", "LinearHeads", "bounded", "require_initialization"]

Initialization = Literal["identity", "published"]


class LinearHeads(nn.Module):
    """Linear heads that emit tensors of several shapes from one context, as one matrix product.

    Arguments:
        context_dim: Size of the context vectors.
        shapes: Shape of each head's output.

    Example:
        >>> heads = LinearHeads(8, (2, 5), (2,))
        >>> [tuple(output.shape) for output in heads(torch.zeros(3, 8))]
        [(3, 2, 5), (3, 2)]
    """

    def __init__(self, context_dim: int, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.shapes = shapes
        self.sizes = [math.prod(shape) for shape in shapes]
        self.linear = nn.Linear(context_dim, sum(self.sizes))

    @torch.no_grad()
    def start_at(self, outputs: Sequence[Tensor], spreads: Sequence[Tensor | float]) -> None:
        """Set what the heads emit for a context of zeros, and by how much that varies with the context.

        Arguments:
            outputs: One for each shape.
            spreads: Factors on PyTorch's initial weights, one for each output or for each number of it; where they are
                zero, a head emits the same for every context until it is trained.

        Example:
            >>> heads = LinearHeads(8, (2,), ())
            >>> heads.start_at([torch.tensor([1.0, 2.0]), torch.zeros(())], [0.0, 1.0])
            >>> heads(100 * torch.randn(8))[0].tolist()
            [1.0, 2.0]
        """
        factors = [torch.as_tensor(s).expand(output.shape) for s, output in zip(spreads, outputs, strict=True)]
        self.linear.weight.mul_(torch.cat([factor.flatten() for factor in factors]).unsqueeze(-1))
        self.linear.bias.copy_(torch.cat([output.flatten() for output in outputs]))

    def forward(self, context: Tensor) -> list[Tensor]:
        """Map a context `(*batch, context_dim)` to one tensor `(*batch, *shape)` for each head, in 32 bits at least."""
        # split, not slices: the gradients of slices are zero-filled tensors of the full size, one a slice.
        outputs = at_least_single(self.linear(context)).split(self.sizes, dim=-1)
        batch = context.shape[:-1]
        return [output.reshape(batch + shape) for output, shape in zip(outputs, self.shapes, strict=True)]

    def extra_repr(self) -> str:
        return f"shapes={self.shapes}"


def bounded(context: Tensor, limit: float) -> Tensor:
    r"""Keep the size of contexts below a limit c: :math:`h / \sqrt{1 + \overline{h^2} / c^2}`.

    Small contexts stay as they are; of large ones the direction is left.

    Arguments:
        context: h, `(*batch, context_dim)`.
        limit: c, what the root mean square of a context may reach.

    Example:
        >>> bounded(torch.tensor([[0.003, -0.004], [3e6, -4e6]]), 1.0)
        tensor([[ 0.0030, -0.0040],
                [ 0.8485, -1.1314]])
    """
    # In 32 bits at least, where squares of 16 would overflow.
    square = at_least_single(context).square().mean(-1, keepdim=True)
    return context * torch.rsqrt(1 + square / limit**2).to(context.dtype)


def require_initialization(owner: str, initialization: str) -> None:
    """Check that `initialization` is one of `identity` and `published`.

    Raises:
        InvalidInputError: It is not.

    Example:
        >>> require_initialization("PlanarFlow", "zero")
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: PlanarFlow initialization: expected 'identity' or 'published', got 'zero'.
    """
    if initialization not in get_args(Initialization):
        raise InvalidInputError(complaint(f"{owner} initialization", "'identity' or 'published'", repr(initialization)))
