"""What encoders share, and what decoders share: checks, and batch shapes of any length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from vae_flows.checks import described
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.shapes import check_last_dimension, check_like, is_dense

__all__ = ["EventDecoder", "EventEncoder", "EventShape", "require_event_shape"]

EventShape = tuple[int, ...]


class _EventNetwork(nn.Module):
    """A network that saved models describe by `event_shape`, which they called `image_shape` before."""

    earlier_arguments: ClassVar[Mapping[str, Any]] = {}
    """Arguments that were no choice when the shape was called `image_shape`."""

    @classmethod
    def upgrade_config(cls, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the configuration that an earlier release wrote as this one would."""
        if "image_shape" not in config:
            return config
        kept = {name: value for name, value in config.items() if name != "image_shape"}
        return {**kept, "event_shape": config["image_shape"], **cls.earlier_arguments}


class EventEncoder(_EventNetwork):
    """An encoder of observations of one shape: it checks them, and takes batches of any shape.

    Arguments:
        event_shape: Shape of one observation.
        context_dim: Size of the features.
        body: Maps `(B, *event_shape)` to `(B, context_dim)`.
    """

    def __init__(self, event_shape: EventShape, context_dim: int, body: nn.Module) -> None:
        super().__init__()
        self.event_shape = event_shape
        self.context_dim = context_dim
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Map observations `x (*batch, *event_shape)` to features `(*batch, context_dim)`.

        Raises:
            InvalidInputError: The observations have another shape, or are not floating point.
        """
        subject, dims = f"{type(self).__name__} input", len(self.event_shape)
        if not is_dense(x) or tuple(x.shape[-dims:]) != self.event_shape:
            expected = f"a floating-point tensor of shape (*batch, {', '.join(map(str, self.event_shape))})"
            remedy = "An encoder is built for the shape of one observation, such as (channels, height, width)."
            raise InvalidInputError(complaint(subject, expected, described(x), remedy))
        check_like(subject, x, self)
        return self.body(x.reshape(-1, *self.event_shape)).reshape(*x.shape[:-dims], self.context_dim)


class EventDecoder(_EventNetwork):
    """A decoder to the likelihood's parameters: it checks latents, and takes batches of any shape.

    Arguments:
        latent_dim: Size of the latents.
        event_shape: Shape of one observation, `(C, *rest)`.
        parameters_per_pixel: Parameters that the likelihood takes for each value of an observation.
        body: Maps `(B, latent_dim)` to as many numbers as `(B, C * parameters_per_pixel, *rest)` has.
    """

    def __init__(self, latent_dim: int, event_shape: EventShape, parameters_per_pixel: int, body: nn.Module) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.event_shape = event_shape
        self.parameters_per_pixel = parameters_per_pixel
        self.body = body

    def forward(self, z: Tensor) -> Tensor:
        """Map latents `z (*batch, latent_dim)` to likelihood parameters `(*batch, C * parameters_per_pixel, *rest)`.

        Raises:
            InvalidInputError: The latents have another size, or are not floating point.
        """
        subject = f"{type(self).__name__} latents"
        check_last_dimension(subject, z, self.latent_dim, "latent_dim must be that of the posterior.")
        check_like(subject, z, self)
        channels, *rest = self.event_shape
        parameters = self.body(z.reshape(-1, self.latent_dim))
        return parameters.reshape(*z.shape[:-1], channels * self.parameters_per_pixel, *rest)


def require_event_shape(subject: str, shape: Sequence[int]) -> EventShape:
    """Return the shape of one observation as a tuple.

    Raises:
        InvalidInputError: It is empty, or a size is no positive integer.

    Example:
        >>> require_event_shape("MLPEncoder event_shape", [1, 28, 28])
        (1, 28, 28)
    """
    sizes = tuple(shape)
    if not sizes or not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes):
        expected = "positive sizes, such as (13,) or (channels, height, width)"
        raise InvalidInputError(complaint(subject, expected, repr(shape)))
    return sizes
