"""Shape bookkeeping shared by transforms and the continuous core.

The letters mean the same everywhere: a latent `z` is `(*sample, *batch, D)`, a context is `(*batch, C)`, and whatever
is computed from the context has `*batch` in front. Samples of one example share its parameters, so they are folded next
to the latent dimension, `(*batch, S, D)`, where one matrix product serves all of them and nothing is copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Size, Tensor, nn

from vae_flows.checks import described, require_sample_shape
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.known_values import all_finite

__all__ = [
    "Folded",
    "ImageShape",
    "broadcast_batch",
    "broadcast_latents",
    "broadcast_shapes",
    "broadcasts",
    "check_context",
    "check_expanded",
    "check_finite",
    "check_last_dimension",
    "check_like",
    "check_parameters",
    "fold_samples",
    "is_dense",
    "is_real",
    "require_image_shape",
    "sum_rightmost",
    "wrong_parameters",
]


ImageShape = tuple[int, int, int]
"""(C, H, W)."""


class Folded(NamedTuple):
    """A latent with its sample dimensions folded: `values (*batch, S, D)` and the `sample` and `batch` shapes."""

    values: Tensor
    sample: Size
    batch: Size

    def unfold(self, values: Tensor) -> Tensor:
        """Bring `values (*batch, S, *event)` back to `(*sample, *batch, *event)`."""
        moved = values.movedim(len(self.batch), 0)
        return moved.reshape(self.sample + self.batch + moved.shape[1 + len(self.batch) :])


def require_image_shape(subject: str, shape: object) -> ImageShape:
    """Return `(C, H, W)` as a tuple.

    Raises:
        InvalidInputError: It is not three positive integers.

    Example:
        >>> require_image_shape("Images", [1, 28, 28])
        (1, 28, 28)
    """
    sizes = tuple(shape) if isinstance(shape, list | tuple) else ()
    if len(sizes) != 3 or not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes):
        raise InvalidInputError(complaint(f"{subject} image_shape", "(channels, height, width)", repr(shape)))
    return sizes[0], sizes[1], sizes[2]


def check_context(name: str, context: Tensor, context_dim: int) -> None:
    """Check that `context` is a floating-point tensor `(*batch, context_dim)`.

    Raises:
        InvalidInputError: It is not; the message names `name`.
    """
    remedy = "context_dim is the size that the encoder emits."
    check_last_dimension(f"{name} context", context, context_dim, remedy)


def check_finite(subject: str, *values: Tensor, context: Tensor | None = None) -> None:
    """Check that values made from a context, or the context itself, are finite.

    Raises:
        InvalidInputError: They are not; the message names `subject`, or the context where that is not finite itself.
    """
    if all_finite(*values) is not False:
        return
    if context is not None and all_finite(context) is not False:
        got, remedy = "an overflow", "The context has numbers too large for its dtype: look at what the encoder emits."
    else:
        got, remedy = "NaN or infinity", "Look at the encoder's input and weights; a lower learning rate may help."
    raise InvalidInputError(complaint(subject, "finite numbers", got, remedy))


def check_last_dimension(subject: str, value: Tensor, size: int, remedy: str = "") -> None:
    """Check that `value` is a floating-point tensor `(*batch, size)`.

    Raises:
        InvalidInputError: It is not; the message names `subject`.
    """
    if not is_dense(value) or value.dim() == 0 or value.shape[-1] != size:
        expected = f"a floating-point tensor of shape (*batch, {size})"
        raise InvalidInputError(complaint(subject, expected, described(value), remedy))


def check_like(subject: str, value: Tensor, module: nn.Module) -> None:
    """Check that a floating-point tensor has the device and dtype of a module's parameters, if it has any.

    Under automatic mixed precision the dtype is torch's matter.

    Raises:
        InvalidInputError: It has not; the message names `subject`.
    """
    if torch.compiler.is_compiling():
        return
    own = next(module.parameters(), None)
    if own is None or (value.device == own.device and value.dtype == own.dtype):
        return
    if value.device == own.device and torch.is_autocast_enabled(value.device.type):
        return
    expected, got = f"{own.dtype} on {own.device}, as its parameters", f"{value.dtype} on {value.device}"
    raise InvalidInputError(complaint(subject, expected, got, "Convert one of them by .to(…)."))


def check_parameters(subject: str, shapes: str, **parameters: Tensor) -> None:
    """Check that the parameters of a transform are floating-point tensors of the usual layout on one device.

    Raises:
        InvalidInputError: They are not; the message names `subject`, and the `shapes` that are expected.
    """
    device = next(iter(parameters.values())).device
    if not all(is_dense(parameter) and parameter.device == device for parameter in parameters.values()):
        raise wrong_parameters(subject, shapes, **parameters)


def wrong_parameters(subject: str, shapes: str, **parameters: Tensor) -> InvalidInputError:
    """Return the error that tells what the parameters of a transform should be, and what they are."""
    got = ", ".join(f"{name} {described(parameter)}" for name, parameter in parameters.items())
    return InvalidInputError(complaint(subject, f"{shapes}, of floating point and on one device", got))


def is_dense(value: object) -> bool:
    """Whether a value is a floating-point tensor of the usual layout."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.layout is torch.strided


def is_real(value: object) -> bool:
    """Whether a value is a tensor of floating-point numbers or integers, of the usual layout."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        return False
    return value.is_floating_point() or not (value.is_complex() or value.dtype is torch.bool)


def broadcast_batch(name: str, z: Tensor, latent_dim: int | None, batch: Size) -> Size:
    """Return the shape `(*sample, *batch)` to which `z` and parameters with batch shape `batch` broadcast.

    Any latent dimension is right where `latent_dim` is `None`.

    Raises:
        InvalidInputError: The last dimension of `z` is not `latent_dim`, `z` is not floating point, or the batch
            shapes do not broadcast.
    """
    if not is_dense(z):
        raise InvalidInputError(complaint(name, "a floating-point tensor", described(z), "Convert it with .float()."))
    return broadcast_latents(name, z.shape, latent_dim, batch)


def broadcast_latents(name: str, shape: Size, latent_dim: int | None, batch: Size) -> Size:
    """Do what `broadcast_batch` does for latents of which the shape alone is known.

    Raises:
        InvalidInputError: The last dimension is not `latent_dim`, or the batch shapes do not broadcast.
    """
    if not shape or latent_dim not in (None, shape[-1]):
        raise InvalidInputError(complaint(name, f"latents of shape (..., {latent_dim})", f"shape {tuple(shape)}"))
    try:
        return broadcast_shapes(shape[:-1], batch)
    except RuntimeError:
        raise InvalidInputError(
            complaint(
                name,
                f"latents of shape (*sample, *batch, {latent_dim}) with *batch = {tuple(batch)} from the context",
                f"shape {tuple(shape)}",
                "Condition on a context whose batch shape is that of the latents' last dimensions.",
            )
        ) from None


def broadcast_shapes(*shapes: Size) -> Size:
    """Return the shape to which shapes broadcast, at once where the others are ends of the longest.

    Raises:
        RuntimeError: They do not broadcast.

    Example:
        >>> broadcast_shapes(Size([5, 3]), Size([3])), broadcast_shapes(Size([5, 1]), Size([3]))
        (torch.Size([5, 3]), torch.Size([5, 3]))
    """
    # torch's own way takes longer than a small layer. What compiles or traces knows sizes as symbols, which keep it.
    if not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
        longest = max(shapes, key=len)
        if all(longest[len(longest) - len(shape) :] == shape for shape in shapes):
            return longest
    return torch.broadcast_shapes(*shapes)


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


def broadcasts(one: Size, other: Size) -> bool:
    """Whether two shapes broadcast to a common one.

    Example:
        >>> broadcasts(Size([5, 1]), Size([3])), broadcasts(Size([2]), Size([3]))
        (True, False)
    """
    # By index, as torch.compile of older releases fails at zip.
    common = range(1, min(len(one), len(other)) + 1)
    return all(one[-i] == other[-i] or one[-i] == 1 or other[-i] == 1 for i in common)


def check_expanded(subject: str, present: Size, wanted: Sequence[int]) -> None:
    """Check that a batch shape can be expanded to another one.

    Raises:
        InvalidInputError: It cannot, or the other one is no shape; the message names `subject`.
    """
    require_sample_shape(subject, wanted)
    kept = wanted[max(len(wanted) - len(present), 0) :]
    if len(wanted) < len(present) or any(old not in (1, new) for old, new in zip(present, kept, strict=True)):
        expected = f"a batch shape to which {tuple(present)} broadcasts"
        raise InvalidInputError(complaint(subject, expected, tuple(wanted)))


def sum_rightmost(value: Tensor, dims: int) -> Tensor:
    """Sum `value` over its last `dims` dimensions.

    Example:
        >>> sum_rightmost(torch.ones(5, 3, 2), 2)
        tensor([6., 6., 6., 6., 6.])
    """
    return value.sum(tuple(range(-dims, 0))) if dims else value
